"""Commands for the operator of a database: migrate it, divide rights, distribute, examine."""
