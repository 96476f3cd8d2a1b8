"""What the log records of the programs that run flows."""
