"""Commands for the operator of a database: migrate, create roles, distribute, examine, rebuild."""
