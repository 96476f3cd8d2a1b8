"""Flows and artifacts as a person names them: by an id or a hash, or the beginning of one."""

import re
from uuid import UUID

from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.errors import ArtifactNotFound, InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.search import find_artifacts, find_flows

__all__ = ["find_artifact", "find_flow", "whole_flow_id"]

SHORTEST = 4
UUID_DIGITS, HASH_DIGITS = 32, 64

_HEXADECIMAL = re.compile("[0-9a-f]*")


def whole_flow_id(name: str) -> UUID | None:
    """Give the id that `name` is, if it is a whole one."""
    digits = _digits(name)
    return UUID(digits) if _HEXADECIMAL.fullmatch(digits) and len(digits) == UUID_DIGITS else None


async def find_flow(provider: ConnectionProvider, name: str) -> UUID:
    """Give the id of the flow that `name` is, or begins.

    Raises:
        InvalidArgument: no flow has such an id, several have, or it can be none.
    """
    digits = _digits(name)
    if not _HEXADECIMAL.fullmatch(digits) or not SHORTEST <= len(digits) <= UUID_DIGITS:
        raise InvalidArgument(
            "FLOW", f"{name!r} is no flow's id, nor {SHORTEST} digits or more of one's beginning"
        )
    first, last = UUID(digits.ljust(UUID_DIGITS, "0")), UUID(digits.ljust(UUID_DIGITS, "f"))
    found = await find_flows(provider, first, last, most=2)
    if len(found) != 1:
        reason = "several flows' ids begin" if found else "there is no flow whose id begins"
        raise InvalidArgument(
            "FLOW",
            f"{reason} with {name}" if len(digits) < UUID_DIGITS else f"there is no flow {name}",
        )
    return found[0]


def _digits(name: str) -> str:
    return name.lower().replace("-", "")


async def find_artifact(provider: ConnectionProvider, name: str) -> str:
    """Give the hash of the artifact that `name` is, or begins.

    Raises:
        ArtifactNotFound: the hash is none's.
        InvalidArgument: no artifact has such a hash, several have, or it can be none.
    """
    digits = name.lower()
    if not _HEXADECIMAL.fullmatch(digits) or not SHORTEST <= len(digits) <= HASH_DIGITS:
        raise InvalidArgument(
            "HASH",
            f"{name!r} is no artifact's hash, nor {SHORTEST} digits or more of one's beginning",
        )
    found = await find_artifacts(
        provider, digits.ljust(HASH_DIGITS, "0"), digits.ljust(HASH_DIGITS, "f"), most=2
    )
    if is_content_hash(digits) and not found:
        raise ArtifactNotFound(digits)
    if len(found) != 1:
        reason = (
            "several artifacts' hashes begin" if found else "there is no artifact whose hash begins"
        )
        raise InvalidArgument("HASH", f"{reason} with {name}")
    return found[0]
