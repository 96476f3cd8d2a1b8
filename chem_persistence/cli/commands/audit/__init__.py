"""The commands that look for what was changed in the log, or lost of it."""
