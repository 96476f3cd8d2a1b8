"""Run the command line: `python -m chem_persistence`, or `chem-persistence`."""

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Run it and give its exit code; without the packages that it needs, say which."""
    try:
        from chem_persistence.cli.app import main as run  # noqa: PLC0415 - it may not be importable
    except ModuleNotFoundError as error:
        sys.exit(f"the command line needs {error.name}: pip install 'chem-persistence[cli]'")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return run()


if __name__ == "__main__":
    sys.exit(main())
