"""The command line: `python -m chem_persistence`, or `chem-persistence`."""
