"""The submission of flows to workers: their first event, by any store and in a transaction."""

import builtins
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET
from uuid_utils.compat import uuid7

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import ChemPersistenceError, ConcurrencyConflict, InvalidArgument
from chem_persistence.store.appender import Appender
from chem_persistence.store.batches.appender import append_each
from chem_persistence.store.batches.flow_append import FlowAppend
from chem_persistence.store.definitions import remember_definition, unseen_definitions
from chem_persistence.store.leasing.leases import check_duration
from chem_persistence.store.ports import Clock, EventStore, EventTransaction
from chem_persistence.store.program.what_ran import beginning
from chem_persistence.store.reuse.choice import allows_reuse, may_reuse, reuse_metadata

__all__ = [
    "FlowToSubmit",
    "Submission",
    "TransactionAppender",
    "store_submission",
    "store_submissions",
    "submission",
]

In_contra = TypeVar("In_contra", contravariant=True)
In = TypeVar("In")


class FlowToSubmit(Protocol[In_contra]):
    """What a submission takes of a flow; `Flow` is one."""

    @property
    def name(self) -> str:
        """The flow's name in its program."""
        ...

    @property
    def definition(self) -> FlowDefinition:
        """The flow's steps, as values."""
        ...

    @property
    def records(self) -> Sequence[str]:
        """The packages whose versions are recorded with each run."""
        ...

    @property
    def parameter_layers(self) -> Mapping[str, str]:
        """Who has set which of the steps' parameters."""
        ...

    def input_artifact(self, value: In_contra, /) -> Artifact | None:
        """Return the artifact of an input of the flow, or None if the flow takes none."""
        ...


class Submission(msgspec.Struct, frozen=True):
    """The first event of a flow that is given to workers, and the artifact of its input.

    `metadata` says what submitted it, and whether its steps may take results over.
    """

    flow_id: UUID
    fact: FlowInitialized
    definition: FlowDefinition
    given: Artifact | None
    metadata: Mapping[str, Any]


def submission(
    flow: FlowToSubmit[In],
    value: In,
    *,
    clock: Clock,
    flow_id: UUID | None = None,
    due: datetime | None = None,
    ahead: timedelta | None = None,
    label: str | None = None,
    reuse: bool = True,
) -> Submission:
    """Return the beginning of a flow that is due at `due` (None: now), or earlier by `ahead`.

    Raises:
        InvalidArgument: the flow does not take such an input, or `due` has no time zone, or `ahead`
            is negative, or the label is not a string.
        InvalidPayload: the input is not I-JSON.
    """
    check_duration("ahead", ahead)
    if due is not None and due.utcoffset() is None:
        raise InvalidArgument("due", "must have a time zone")
    if label is not None and not isinstance(label, str):
        raise InvalidArgument("label", f"must be a string, not {type(label).__qualname__}")
    given, definition = flow.input_artifact(value), flow.definition
    fact = FlowInitialized(
        definition.definition_hash,
        len(definition.steps),
        None if given is None else given.hash,
        due=(clock.now() if due is None else due) - (ahead or timedelta(0)),
        name=flow.name or UNSET,
        label=UNSET if label is None else label,
    )
    named = uuid7() if flow_id is None else flow_id
    begun = beginning(flow.records, flow.parameter_layers)
    metadata = {**begun, **reuse_metadata(reuse=reuse)}
    return Submission(named, fact, definition, given, metadata)


async def store_submission(store: EventStore | EventTransaction, submitted: Submission) -> bool:
    """Append the first event of a flow; return False if it was submitted before.

    Raises what `EventStore.append_kinds` raises but `ConcurrencyConflict`, and:
        InvalidArgument: the flow exists, with another definition or input, or without the wish to
            take nothing over.
    """
    first = _first_append(store, submitted)
    try:
        await store.append_kinds(
            first.flow_id,
            first.kinds,
            artifacts=first.artifacts,
            expected_version=0,
            metadata=first.metadata,
        )
    except ConcurrencyConflict as error:
        await _check_same(store, submitted, error)
        return False
    remember_definition(store, submitted.definition)
    return True


async def store_submissions(store: EventStore, submitted: Sequence[Submission]) -> None:
    """Append the first events of flows by one call; one that was submitted before stays as it is.

    Raises what `store_submission` raises for the first flow that is refused, after the others are
    stored.
    """
    by_id: dict[UUID, Submission] = {}
    again = [each for each in submitted if by_id.setdefault(each.flow_id, each) is not each]
    flows = list(by_id.values())
    answers = await append_each(store, [_first_append(store, each) for each in flows])
    for each, answer in zip(flows, answers, strict=True):
        if isinstance(answer, list):
            remember_definition(store, each.definition)
    for each, answer in zip(flows, answers, strict=True):
        if isinstance(answer, ConcurrencyConflict):
            await _check_same(store, each, answer)
        elif isinstance(answer, ChemPersistenceError):
            raise answer
    for each in again:
        await store_submission(store, each)


def _first_append(store: EventStore | EventTransaction, submitted: Submission) -> FlowAppend:
    definitions = unseen_definitions(store, submitted.definition)
    return FlowAppend(
        submitted.flow_id,
        (submitted.fact,),
        definitions if submitted.given is None else (submitted.given, *definitions),
        expected_version=0,
        metadata=submitted.metadata,
    )


async def _check_same(
    store: EventStore | EventTransaction, submitted: Submission, error: ConcurrencyConflict
) -> None:
    events = await store.list(submitted.flow_id, limit=1)
    first = events[0].kind if events else None
    if not isinstance(first, FlowInitialized):
        raise error
    if first.due is UNSET:
        raise InvalidArgument(
            "flow_id", f"flow {submitted.flow_id} exists, and was not given to workers"
        ) from error
    if may_reuse(events) and not allows_reuse(submitted.metadata):
        raise InvalidArgument(
            "reuse",
            f"is false, but flow {submitted.flow_id} was submitted without that",
        ) from error
    wanted = submitted.fact
    for what, there, given in (
        ("definition", first.definition_hash, wanted.definition_hash),
        ("input", first.input, wanted.input),
    ):
        if there != given:
            raise InvalidArgument(
                "flow_id",
                f"flow {submitted.flow_id} exists with the {what} {there}, not {given}: submit "
                "another flow under another id",
            ) from error


class TransactionAppender(Appender[Artifact | StreamedArtifact]):
    """The appends of a transaction, and the submission of flows with them."""

    @abstractmethod
    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Return a flow's events, with those of this transaction; see `EventTransaction.list`."""

    @abstractmethod
    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Return an artifact, also one of this transaction; see `EventStore.get_artifact`."""

    async def submit(
        self,
        flow: FlowToSubmit[In],
        input: In,  # noqa: A002
        *,
        flow_id: UUID | None = None,
        due: datetime | None = None,
        ahead: timedelta | None = None,
        label: str | None = None,
        reuse: bool = True,
    ) -> UUID:
        """Submit a flow if, and when, the transaction commits; see `FlowClient.submit`."""
        submitted = submission(
            flow,
            input,
            clock=self._clock,
            flow_id=flow_id,
            due=due,
            ahead=ahead,
            label=label,
            reuse=reuse,
        )
        await store_submission(self, submitted)
        return submitted.flow_id
