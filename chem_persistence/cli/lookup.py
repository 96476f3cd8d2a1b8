"""Flows, definitions and artifacts by their ids and hashes, or by the beginnings of these."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.errors import ArtifactNotFound, FlowArchived, InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.flows import raise_if_vanished
from chem_persistence.postgres.read.search import (
    HASH_DIGITS,
    UUID_DIGITS,
    find_archived_flows,
    find_artifacts,
    find_definitions,
    find_flows,
)
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.ports import EventStore

__all__ = [
    "definition_of",
    "find_artifact",
    "find_definition",
    "find_flow",
    "given_time",
    "whole_flow_id",
]

SHORTEST = 4

MOST_LISTED = 5
"""An error lists at most so many of the ids that begin with what was typed."""

Found = TypeVar("Found", UUID, str)

_HEXADECIMAL = re.compile("[0-9a-f]*")


def whole_flow_id(name: str) -> UUID | None:
    """Return the id that `name` is; None if it is not a whole id."""
    digits = name.lower().replace("-", "")
    return UUID(digits) if _HEXADECIMAL.fullmatch(digits) and len(digits) == UUID_DIGITS else None


async def find_flow(provider: ConnectionProvider, name: str, argument: str = "FLOW") -> UUID:
    """Return the id of the flow that `name` is, or the beginning of.

    Raises:
        InvalidArgument: no flow has such an id, several have, or `name` cannot be one.
        FlowArchived: the flow was archived: none in the log has such an id.
    """
    digits = _digits(argument, name.replace("-", ""), name, UUID_DIGITS, "the id of a flow")
    found = await find_flows(provider, digits, most=MOST_LISTED + 1)
    if not found and len(digits) == UUID_DIGITS:
        await raise_if_vanished(Session(provider), UUID(digits), 0, None)
        raise InvalidArgument(argument, f"there is no flow {name}")
    if not found:
        archived = await find_archived_flows(provider, digits, most=MOST_LISTED + 1)
        if len(archived) == 1:
            raise FlowArchived(*archived[0])
        found = [flow_id for flow_id, _ in archived]
        return _only(argument, name, found, "archived flow" if found else "flow", "id")
    return _only(argument, name, found, "flow", "id")


async def find_definition(provider: ConnectionProvider, name: str) -> str:
    """Return the hash of the definition that `name` is, or the beginning of.

    A whole hash is returned as it is: no flow may have that definition.

    Raises:
        InvalidArgument: no definition has such a hash, several have, or `name` cannot be one.
    """
    digits = _digits("--definition", name, name, HASH_DIGITS, "the hash of a definition")
    if is_content_hash(digits):
        return digits
    found = await find_definitions(provider, digits, most=MOST_LISTED + 1)
    return _only("--definition", name, found, "definition", "hash")


async def find_artifact(provider: ConnectionProvider, name: str) -> str:
    """Return the hash of the artifact that `name` is, or the beginning of.

    Raises:
        ArtifactNotFound: no artifact has this whole hash.
        InvalidArgument: no artifact has such a hash, several have, or `name` cannot be one.
    """
    digits = _digits("HASH", name, name, HASH_DIGITS, "the hash of an artifact")
    found = await find_artifacts(provider, digits, most=MOST_LISTED + 1)
    if is_content_hash(digits) and not found:
        raise ArtifactNotFound(digits)
    return _only("HASH", name, found, "artifact", "hash")


async def definition_of(store: EventStore, events: Sequence[FlowEvent]) -> FlowDefinition | None:
    """Return the definition with which a flow was started; None if it is not stored.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    first = events[0].kind if events else None
    if not isinstance(first, FlowInitialized):
        return None
    return await read_definition(store, first.definition_hash)


def _digits(argument: str, digits: str, name: str, most: int, noun: str) -> str:
    """Return hexadecimal digits in lower case, if there are enough and not too many."""
    digits = digits.lower()
    if not _HEXADECIMAL.fullmatch(digits) or not SHORTEST <= len(digits) <= most:
        reason = f"{name!r} is not {noun}, nor a beginning of {SHORTEST} hexadecimal digits or more"
        raise InvalidArgument(argument, reason)
    return digits


def _only(argument: str, name: str, found: Sequence[Found], noun: str, key: str) -> Found:
    """Return the only one that was found."""
    if not found:
        raise InvalidArgument(argument, f"there is no {noun} whose {key} begins with {name}")
    if len(found) > 1:
        more = " and more" if len(found) > MOST_LISTED else ""
        listed = ", ".join(map(str, found[:MOST_LISTED]))
        reason = f"the {key}s of several {noun}s begin with {name}: {listed}{more}"
        raise InvalidArgument(argument, reason)
    return found[0]


def given_time(text: str, option: str) -> datetime:
    """Return the time that an option gives.

    Raises:
        InvalidArgument: it is not one of ISO 8601, or has no time zone.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(option, f"is not a time of ISO 8601: {text!r}") from error
    if time.utcoffset() is None:
        raise InvalidArgument(option, f"must have a time zone, such as {text}Z")
    return time
