"""Inject faults into real writers and a real server, and check the log against their records."""
