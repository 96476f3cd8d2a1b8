"""Faults injected into real writers and a real server, and the checker that compares the log with what was told."""
