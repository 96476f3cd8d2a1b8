"""Run the command line: `python -m chem_persistence`."""

import sys

try:
    from chem_persistence.cli.app import app
except ModuleNotFoundError as error:
    sys.exit(f"the command line needs {error.name}: pip install chem-persistence[cli]")

if __name__ == "__main__":
    app(prog_name="chem-persistence")
