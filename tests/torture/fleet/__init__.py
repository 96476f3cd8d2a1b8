"""A fleet of worker processes under faults, and a checker of what it leaves in the log."""
