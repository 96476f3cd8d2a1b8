"""The command `verify`."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from chem_persistence.cli.commands.bundles.verification import verify_file
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow, whole_flow_id
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.progress import Work
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.audit.anchors import read_anchors, writing_anchors
from chem_persistence.postgres.audit.verification import (
    Progress,
    Verification,
    measure_log,
    verify_log,
)
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.flows import raise_if_vanished
from chem_persistence.views.wording import counted

__all__ = ["VerifyOptions", "run_verification"]


class VerifyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `verify`; those of bundles and anchors are files."""

    bundle: Path | None
    target: Target
    flows: list[str] | None
    anchors: Path | None
    public_key: Path | None
    write_anchors: Path | None
    sign_with: Path | None
    as_json: bool


async def run_verification(options: VerifyOptions) -> int:
    """Print what was tampered with and write anchors; return FOUND if anything was."""
    _check(options)
    if options.bundle is not None:
        return await verify_file(options.bundle, options.public_key, as_json=options.as_json)
    return await _verify_log(options)


async def _verify_log(options: VerifyOptions) -> int:
    with ExitStack() as stack:
        anchors = (
            () if options.anchors is None else read_anchors(options.anchors, options.public_key)
        )
        writer = None
        if options.write_anchors is not None:
            writer = stack.enter_context(
                writing_anchors(options.write_anchors, datetime.now(UTC), options.sign_with)
            )
        async with open_database(options.target) as provider:
            flow_ids = None if options.flows is None else await _find_flows(provider, options.flows)
            extent = await measure_log(provider, flow_ids=flow_ids)
            work = stack.enter_context(
                Work(
                    "verified",
                    "events and artifacts",
                    extent.events + extent.artifacts,
                    output=sys.stderr,
                )
            )

            def show(progress: Progress) -> None:
                work.show(progress.events + progress.artifacts)

            verification = await verify_log(
                provider,
                flow_ids=flow_ids,
                anchors=anchors,
                on_head=None if writer is None else writer.write,
                on_progress=show,
            )
            if flow_ids is not None and not verification.findings:
                await _refuse_unknown(provider, flow_ids)
        if writer is not None and verification.findings:
            writer.give_up()
    _print(verification, as_json=options.as_json)
    if options.write_anchors is not None and verification.findings:
        _say_unwritten(options.write_anchors)
    return ExitCode.FOUND if verification.findings else ExitCode.WELL


async def _find_flows(provider: ConnectionProvider, names: Sequence[str]) -> list[UUID]:
    """Return the flows; a whole id is not looked up: a damaged flow may lack its first event."""
    return sorted(
        {whole_flow_id(name) or await find_flow(provider, name, "--flow") for name in names}
    )


async def _refuse_unknown(provider: ConnectionProvider, flow_ids: Sequence[UUID]) -> None:
    """Check that each flow has events, because a flow without any is not clean."""
    for flow_id in flow_ids:
        if not (await measure_log(provider, flow_ids=[flow_id])).events:
            await raise_if_vanished(Session(provider), flow_id, 0, None)
            raise InvalidArgument("--flow", f"there is no flow {flow_id}")


def _say_unwritten(anchors: Path) -> None:
    """Print why no anchors were written: new ones would confirm what was tampered with."""
    what = "left as it was" if anchors.exists() else "not written"
    print_line(shown(f"{anchors} is {what}: something was found"), error=True)


def _check(options: VerifyOptions) -> None:
    of_the_log = (
        options.flows,
        options.anchors,
        options.write_anchors,
        options.target.database_url,
    )
    if options.bundle is not None and any(of_the_log):
        raise InvalidArgument("BUNDLE", "cannot be combined with options that are of the log")
    if options.flows and (options.anchors or options.write_anchors):
        raise InvalidArgument("--flow", "cannot be combined with anchors, which are of all flows")
    if options.sign_with and not options.write_anchors:
        raise InvalidArgument("--sign-with", "needs --write-anchors, the file to sign")
    if options.public_key and not options.anchors and not options.bundle:
        raise InvalidArgument(
            "--public-key", "needs --anchors, the file whose signature is verified"
        )


def _print(verification: Verification, *, as_json: bool) -> None:
    if as_json:
        print_json(verification)
        return
    for finding in verification.findings:
        print_line(
            shown(
                f"flow {finding.flow_id}, version {finding.version}: "
                f"{finding.tampering}: {finding.detail}"
            )
        )
    walked = verification.progress
    counts = (
        counted(walked.flows, "flow"),
        counted(walked.events, "event"),
        counted(walked.artifacts, "artifact"),
    )
    print_line(f"{', '.join(counts)} verified")
    if verification.archived:
        print_line(f"{counted(verification.archived, 'flow')} archived: see their bundles")
    print_line(counted(len(verification.findings), "finding") if verification.findings else "clean")
