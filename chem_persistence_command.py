"""The program `chem-persistence`: outside the package, whose own import Ctrl-C may already meet."""

__all__ = ["main"]


def main() -> int:
    """Run the command line and give its exit code, that of SIGINT also while Python still imports."""
    try:
        from chem_persistence.__main__ import main as run  # noqa: PLC0415 - it imports the package

        return run()
    except KeyboardInterrupt:
        return 130
