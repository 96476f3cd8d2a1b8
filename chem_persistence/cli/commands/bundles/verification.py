"""The command `verify` of a bundle, which needs no database."""

from pathlib import Path

from anyio import to_thread

from chem_persistence.bundles.verify import verify_bundle
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.views.wording import counted

__all__ = ["verify_file"]


async def verify_file(bundle: Path, *, as_json: bool) -> int:
    """Print what was changed in a bundle; return FOUND if anything was."""
    report = await to_thread.run_sync(verify_bundle, bundle)
    code = ExitCode.FOUND if report.findings else ExitCode.WELL
    if as_json:
        findings = [finding._asdict() for finding in report.findings]
        print_json({**report._asdict(), "findings": findings})
        return code
    for finding in report.findings:
        print_line(shown(str(finding)))
    counts = (
        counted(report.flows, "flow"),
        counted(report.events, "event"),
        counted(report.artifacts, "artifact"),
    )
    print_line(f"{', '.join(counts)} verified")
    print_line(f"SHA-256 {report.sha256}")
    print_line(counted(len(report.findings), "finding") if report.findings else "clean")
    return code
