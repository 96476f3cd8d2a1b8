"""The command `artifact get`."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from chem_persistence.cli.commands.results.whole_file import whole_file
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_artifact
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.progress import Work
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.read.artifacts import read_artifact_in_chunks
from chem_persistence.postgres.read.search import ArtifactDescription, describe_artifact
from chem_persistence.views.wording import size_of

__all__ = ["get_artifact"]

BYTES_A_LINE = 100 * 2**20


async def get_artifact(target: Target, name: str, output: Path | None, *, as_json: bool) -> int:
    """Write the bytes of an artifact or print its description; return the exit code."""
    async with open_database(target) as provider:
        described = await describe_artifact(provider, await find_artifact(provider, name))
        chunks = read_artifact_in_chunks(provider, described.hash)
        if output is not None:
            size = await _write_file(output, chunks, described)
            if not as_json:
                print_line(
                    f"{described.hash} {described.kind}: {size_of(size)} in {output}",
                    error=True,
                )
        elif not as_json:
            await _write(chunks, described)
    if as_json:
        print_json(described)
    return ExitCode.WELL


async def _write(chunks: AsyncIterator[bytes], described: ArtifactDescription) -> None:
    if sys.stdout.isatty():
        if described.content_bytes is not None:
            size = size_of(described.content_bytes)
            reason = f"{described.media_type} of {size} is not for a terminal: name a file"
            raise InvalidArgument("-o", reason)
        payload = b"".join([chunk async for chunk in chunks])
        text = msgspec.json.format(payload, indent=2).decode()
        sys.stdout.write(
            "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n"
        )
        return
    async for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


async def _pour(
    chunks: AsyncIterator[bytes], file: BinaryIO, described: ArtifactDescription
) -> int:
    size = 0
    with Work("read", "bytes", described.content_bytes or 0, a_line=BYTES_A_LINE) as work:
        async for chunk in chunks:
            file.write(chunk)
            size += len(chunk)
            work.show(size)
    return size


async def _write_file(
    path: Path, chunks: AsyncIterator[bytes], described: ArtifactDescription
) -> int:
    """Write the file whole, or not at all if its hash is not right; return its size."""
    with whole_file(path) as fresh, fresh.open("wb") as file:
        return await _pour(chunks, file, described)
