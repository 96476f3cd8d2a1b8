"""The command `verify`."""

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import typer

from chem_persistence.anchors import read_anchors, writing_anchors
from chem_persistence.cli.progress import ProgressLine
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.pool import PoolProvider, build_pool
from chem_persistence.postgres.verification import Verification, measure_log, verify_log

__all__ = ["VerifyOptions", "run_verify"]


class VerifyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command was told."""

    database_url: str
    schema: str
    flow_ids: list[UUID] | None
    anchors: Path | None
    public_key: Path | None
    write_anchors: Path | None
    sign_with: Path | None
    as_json: bool


async def run_verify(options: VerifyOptions) -> int:
    """Verify, print what was found, and give the exit code: 0 clean, 1 not."""
    _check(options)
    with ExitStack() as stack:
        anchors = () if options.anchors is None else read_anchors(options.anchors, options.public_key)
        writer = None
        if options.write_anchors is not None:
            writer = stack.enter_context(
                writing_anchors(options.write_anchors, datetime.now(UTC), options.sign_with)
            )
        async with await build_pool(options.database_url, schema=options.schema, max_size=2) as pool:
            provider = PoolProvider(pool)
            line = ProgressLine(await measure_log(provider, flow_ids=options.flow_ids), sys.stderr)
            verification = await verify_log(
                provider,
                flow_ids=options.flow_ids,
                anchors=anchors,
                on_head=None if writer is None else writer.write,
                on_progress=line.show,
            )
            line.end()
    _print(verification, as_json=options.as_json)
    return 1 if verification.findings else 0


def _check(options: VerifyOptions) -> None:
    if options.flow_ids and (options.anchors or options.write_anchors):
        raise InvalidArgument("--flow", "does not go with anchors, which are about all flows")
    if options.sign_with and not options.write_anchors:
        raise InvalidArgument("--sign-with", "needs --write-anchors")
    if options.public_key and not options.anchors:
        raise InvalidArgument("--public-key", "needs --anchors")


def _print(verification: Verification, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(verification))
        return
    for finding in verification.findings:
        typer.echo(
            f"flow {finding.flow_id}, version {finding.version}: {finding.tampering}: {finding.detail}"
        )
    walked = verification.progress
    typer.echo(f"{walked.flows:,} flows, {walked.events:,} events, {walked.artifacts:,} artifacts verified")
    typer.echo(f"{len(verification.findings):,} findings" if verification.findings else "clean")
