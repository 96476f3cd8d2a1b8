"""The command `verify` of a bundle, which needs no database."""

from pathlib import Path
from tempfile import TemporaryDirectory

from anyio import to_thread

from chem_persistence.bundles.reader import BundleReader
from chem_persistence.bundles.verify import verify_bundle
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import InvalidArgument
from chem_persistence.store.transfer.anchors import read_anchors
from chem_persistence.views.wording import counted

__all__ = ["verify_file"]


async def verify_file(bundle: Path, public_key: Path | None, *, as_json: bool) -> int:
    """Print what was changed in a bundle; return FOUND if anything was.

    Raises:
        InvalidArgument: the anchors in the bundle are not signed with the key, or there are none.
    """
    report = await to_thread.run_sync(verify_bundle, bundle)
    if public_key is not None and not report.findings:
        await to_thread.run_sync(_check_signature, bundle, public_key)
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


def _check_signature(bundle: Path, public_key: Path) -> None:
    with BundleReader(bundle) as reader, TemporaryDirectory() as folder:
        copy = Path(folder) / "anchors.jsonl"
        with copy.open("wb") as file:
            file.writelines(reader.anchors())
        try:
            next(read_anchors(copy, public_key), None)
        except InvalidArgument as error:
            reason = error.reason.replace(str(copy), f"anchors.jsonl in {bundle}")
            raise InvalidArgument("--public-key", reason) from error
