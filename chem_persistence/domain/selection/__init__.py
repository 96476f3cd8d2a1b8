"""Choosing one of several candidates by their properties, and saying why."""
