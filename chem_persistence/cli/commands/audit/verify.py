"""The command `verify`."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.archive.audit import ArchiveAudit, audit_archive
from chem_persistence.cli.commands.bundles.verification import verify_file
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow, whole_flow_id
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.progress import Work
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.audit.register import PgRegister
from chem_persistence.postgres.audit.verification import (
    Extent,
    Progress,
    Verification,
    measure_log,
    verify_log,
)
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.flows import raise_if_vanished
from chem_persistence.store.transfer.anchors import AnchorFile, AnchorWriter, writing_anchors
from chem_persistence.views.wording import counted

__all__ = ["VerifyOptions", "run_verification"]


class VerifyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `verify`; those of bundles and anchors are files."""

    bundle: Path | None
    target: Target
    flows: list[str] | None
    bundles: Path | None
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


class _Found(msgspec.Struct):
    """What the verification of the log found, and that of the archives if it was asked for."""

    log: Verification
    archive: ArchiveAudit | None = None

    @property
    def count(self) -> int:
        """The number of findings."""
        return len(self.log.findings) + (0 if self.archive is None else len(self.archive.findings))


async def _verify_log(options: VerifyOptions) -> int:
    with ExitStack() as stack:
        anchors = (
            None if options.anchors is None else AnchorFile(options.anchors, options.public_key)
        )
        writer = None
        if options.write_anchors is not None:
            writer = stack.enter_context(
                writing_anchors(options.write_anchors, datetime.now(UTC), options.sign_with)
            )
        async with open_database(options.target) as provider:
            found = await _verify(provider, options, anchors, writer)
        if writer is not None and found.count:
            writer.give_up()
    _print(found, options)
    if options.write_anchors is not None and found.count:
        _say_unwritten(options.write_anchors)
    return ExitCode.FOUND if found.count else ExitCode.WELL


async def _verify(
    provider: ConnectionProvider,
    options: VerifyOptions,
    anchors: AnchorFile | None,
    writer: AnchorWriter | None,
) -> _Found:
    flow_ids = None if options.flows is None else await _find_flows(provider, options.flows)
    extent = await measure_log(provider, flow_ids=flow_ids)
    with _work(extent) as work:

        def show(progress: Progress) -> None:
            work.show(progress.events + progress.artifacts)

        verification = await verify_log(
            provider,
            flow_ids=flow_ids,
            anchors=anchors or (),
            on_head=None if writer is None else writer.write,
            on_progress=show,
        )
    if flow_ids is not None and not verification.findings:
        await _refuse_unknown(provider, flow_ids)
    found = _Found(verification)
    kept = None if anchors is None else anchors.register
    if kept is not None or writer is not None or options.bundles is not None:
        with Work("checked", "archived flows", verification.archived, output=sys.stderr) as work:
            found.archive = await audit_archive(
                PgRegister(provider),
                options.bundles,
                anchors=anchors or (),
                register=kept,
                on_progress=work.show,
            )
        if writer is not None:
            writer.write_register(found.archive.head)
    return found


def _work(extent: Extent) -> Work:
    total = extent.events + extent.artifacts
    return Work("verified", "events and artifacts", total, output=sys.stderr)


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
        options.bundles,
        options.anchors,
        options.write_anchors,
        options.target.database_url,
    )
    if options.bundle is not None and any(of_the_log):
        raise InvalidArgument("BUNDLE", "cannot be combined with options that are of the log")
    if options.flows and (options.anchors or options.write_anchors):
        raise InvalidArgument("--flow", "cannot be combined with anchors, which are of all flows")
    if options.flows and options.bundles:
        raise InvalidArgument("--flow", "cannot be combined with bundles, which are of all flows")
    if options.sign_with and not options.write_anchors:
        raise InvalidArgument("--sign-with", "needs --write-anchors, the file to sign")
    if options.public_key and not options.anchors and not options.bundle:
        raise InvalidArgument(
            "--public-key", "needs --anchors, the file whose signature is verified"
        )


def _print(found: _Found, options: VerifyOptions) -> None:
    verification, archive = found.log, found.archive
    if options.as_json:
        print_json(_as_json(found))
        return
    for finding in verification.findings:
        print_line(
            shown(
                f"flow {finding.flow_id}, version {finding.version}: "
                f"{finding.tampering}: {finding.detail}"
            )
        )
    for each in () if archive is None else archive.findings:
        print_line(shown(str(each)))
    walked = verification.progress
    counts = (
        counted(walked.flows, "flow"),
        counted(walked.events, "event"),
        counted(walked.artifacts, "artifact"),
    )
    print_line(f"{', '.join(counts)} verified")
    if archive is not None and options.bundles is not None:
        _print_bundles(archive, verification.archived)
    elif verification.archived:
        print_line(f"{counted(verification.archived, 'flow')} archived: see their bundles")
    print_line(counted(found.count, "finding") if found.count else "clean")


def _print_bundles(archive: ArchiveAudit, archived: int) -> None:
    print_line(f"{counted(archived, 'flow')} archived, {counted(archive.bundles, 'bundle')} read")
    for name in archive.spare:
        print_line(shown(f"{name} is not in the register, and has nothing that is only there"))


def _as_json(found: _Found) -> dict[str, Any]:
    built = msgspec.structs.asdict(found.log)
    if found.archive is None:
        return built
    findings = [finding._asdict() for finding in found.archive.findings]
    return built | {"archive": msgspec.structs.asdict(found.archive) | {"findings": findings}}
