"""Checks of a database, each with a remedy to type; one file per subject."""
