"""What a running step knows and can do: signals, artifacts, saved values, choices."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import (
    SAVED,
    FlowEventKind,
    PropertyPreferenceAssigned,
    StepSignal,
)
from chem_persistence.domain.instance import StepAnswer
from chem_persistence.domain.selection.policies import PropertySelectionPolicy
from chem_persistence.domain.selection.preference import choose
from chem_persistence.errors import ArtifactTooLarge, InvalidArgument, InvalidPayload
from chem_persistence.store.append_request import largest_append
from chem_persistence.store.checks import MAX_APPEND_BYTES, MAX_EVENT_BYTES, check_json_size
from chem_persistence.store.codec import encode_description, encode_kind
from chem_persistence.store.ports import EventStore

__all__ = ["StepContext", "artifact_of"]

Saved = TypeVar("Saved")
Candidate = TypeVar("Candidate")

MAX_SIGNAL_BYTES = MAX_APPEND_BYTES - MAX_EVENT_BYTES
"""The signals of one attempt have at most this many bytes: their append has the outcome, too."""


MOST_ARTIFACTS = 240_000
"""The artifacts that one attempt can add: its `StepFinished` event names each, with 67 bytes."""


class StepContext:
    """What a step knows of its run, and what it can store besides its output.

    `attempt` counts from 1; `fingerprint` names this work on this input, before it is done. `data`
    is what the step's last `Wait` in this flow kept, or None; `answer` is the answer to its last
    question, or None.
    Signals and extra artifacts are stored with the attempt's outcome, in its transaction: a process
    that dies leaves none of them. They may be made from a worker thread. What is saved by `save` is
    stored at once.
    """

    beats: tuple[Callable[[], None], ...] = ()
    """What is called by each heartbeat; of the library."""

    def __init__(
        self,
        *,
        store: EventStore,
        flow_id: UUID,
        step_index: int,
        step_id: str,
        attempt: int,
        fingerprint: str,
        data: Any = None,
        answer: StepAnswer | None = None,
        keep: Callable[[Artifact], Awaitable[None]] | None = None,
    ) -> None:
        self.flow_id = flow_id
        self.step_index = step_index
        self.step_id = step_id
        self.attempt = attempt
        self.fingerprint = fingerprint
        self.data = data
        self.answer = answer
        self.signals: list[FlowEventKind] = []
        self.preferences: list[FlowEventKind] = []
        self.artifacts: list[Artifact] = []
        self._store = store
        self._keep = keep
        self._loop = _running_loop()
        # a store that is not the library's own may have no such attribute: its append decides
        self._max_artifact_bytes: int | None = getattr(store, "max_artifact_bytes", None)
        self._signal_bytes = 0
        self._artifact_bytes = 0
        self._artifact_sizes: dict[str, int] = {}  # by hash: equal contents are stored once

    def signal(self, name: str, data: Any = None) -> None:
        """Store a `StepSignal` event with the attempt's outcome.

        Raises:
            InvalidPayload: `name` is not a string, or begins with `chem_persistence.`; `data` is
                not I-JSON; the signal is larger than an event may be; or all signals of the attempt
                are larger than their append may be.
        """
        encoded, signal = encode_kind(StepSignal(self.step_index, self.step_id, name, data))
        check_json_size("the signal", encoded)
        self._count_bytes(len(encoded), "signals")
        self.signals.append(signal)

    def _count_bytes(self, size: int, what: str) -> None:
        total = self._signal_bytes + size
        if total > MAX_SIGNAL_BYTES:
            raise InvalidPayload(
                "$",
                f"the {what} of this attempt have {total} bytes together, "
                f"the limit is {MAX_SIGNAL_BYTES}",
            )
        self._signal_bytes = total

    def prefer(
        self,
        policy: PropertySelectionPolicy[Candidate],
        candidates: Sequence[Candidate],
        property_key: str | None = None,
    ) -> Candidate:
        """Return the candidate that a policy prefers; the choice does not depend on their order.

        Of equal scores the candidate counts whose content has the smallest hash. With the step's
        success, and only with it, a `PropertyPreferenceAssigned` is stored, which says why: the
        scores, the hash of the chosen one, and its margin. `property_key` names what is chosen; by
        default it is the class of the candidate.

        Raises:
            InvalidArgument: there is no candidate, the policy is not a struct, or a score is not a
                finite number.
            InvalidPayload: a candidate is not I-JSON, or the choices of the attempt are larger than
                their append may be.
        """
        chosen, preference = choose(policy, candidates, property_key)
        self.add_preference(preference)
        return chosen

    def add_preference(self, preference: PropertyPreferenceAssigned) -> None:
        """Store a choice with the step's success; of the library.

        Raises:
            InvalidPayload: see `prefer`.
        """
        self._count_bytes(len(encode_kind(preference)[0]), "choices")
        self.preferences.append(preference)

    def add_artifact(self, artifact: Artifact) -> str:
        """Store an artifact beside the step's output; return its hash, for use in that output.

        Raises:
            ArtifactCorrupt: it does not have the hash that names it.
            ArtifactTooLarge: it is above the store's limit.
            InvalidPayload: it is not I-JSON, or it makes the attempt larger than an append may be,
                or the event that names the attempt's artifacts larger than an event may be.
        """
        body, limit = artifact.verified(), self._max_artifact_bytes
        if len(self.artifacts) >= MOST_ARTIFACTS:
            raise InvalidPayload(
                "$",
                f"this attempt has {MOST_ARTIFACTS} artifacts, as many as its event can name: "
                "store several values in one artifact",
            )
        size = len(body) + len(encode_description(artifact.metadata))
        if limit is not None:
            if len(body) > limit:
                raise ArtifactTooLarge(artifact.hash, len(body), limit)
            others = self._artifact_bytes - self._artifact_sizes.get(artifact.hash, 0)
            total = self._signal_bytes + others + size
            if total > largest_append(limit):
                raise InvalidPayload(
                    "$",
                    f"artifact {artifact.hash} brings this attempt to {total} bytes, the limit of "
                    f"an append is {largest_append(limit)}: upload large contents in a transaction "
                    "(`put_stream`), or return them from several steps",
                )
        self._artifact_bytes += size - self._artifact_sizes.get(artifact.hash, 0)
        self._artifact_sizes[artifact.hash] = size
        self.artifacts.append(artifact)
        return artifact.hash

    def heartbeat(self) -> None:
        """Report that the step goes on, from any thread; see `Step.heartbeat_timeout`.

        Nothing is stored, so it may be called as often as is convenient.
        """
        for beat in self.beats:
            beat()

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact that this step's input names; see `EventStore.get_artifact`."""
        return await self._store.get_artifact(artifact_hash)

    def get_artifact_blocking(self, artifact_hash: str) -> Artifact:
        """Read an artifact from a worker thread, such as the one in which `compute` runs.

        It blocks the thread, and must not be called in the event loop's own.

        Raises what `EventStore.get_artifact` raises, and:
            InvalidArgument: it was called in the thread of an event loop.
        """
        artifact: Artifact = self._blocking("get_artifact", artifact_hash)
        return artifact

    async def save(self, value: Any) -> None:
        """Store a value at once, from which a later attempt at this step may go on.

        It is an artifact, a msgspec struct, a dataclass or an attrs class, such as the geometry
        that an optimisation has reached. It is never part of a fingerprint.

        Raises what `EventStore.append_kinds` raises, and:
            InvalidPayload: it is not I-JSON.
            FlowWasCancelled, StaleLease: the flow is not this attempt's any more: let it pass.
        """
        if self._keep is None:
            raise InvalidArgument("context", "of a step that no engine runs saves nothing")
        await self._keep(artifact_of(value))

    def save_blocking(self, value: Any) -> None:
        """Store a value at once, from a worker thread; see `save` and `get_artifact_blocking`."""
        self._blocking("save", value)

    async def saved(self, type: type[Saved], /) -> Saved | None:  # noqa: A002
        """Return the last value that any attempt at this step has saved in this flow, or None.

        An artifact is returned for the type `Artifact`.

        Raises what `EventStore.get_artifact` and `EventStore.list` raise, and:
            InvalidPayload: the value cannot be read as this type; other code has saved it.
        """
        artifact = await self.saved_artifact()
        return None if artifact is None else _read_saved(artifact, type)

    def saved_blocking(self, type: type[Saved], /) -> Saved | None:  # noqa: A002
        """Return the last value that was saved, from a worker thread; see `saved`."""
        artifact = self.saved_artifact_blocking()
        return None if artifact is None else _read_saved(artifact, type)

    async def saved_artifact(self) -> Artifact | None:
        """Return the artifact of the last value that was saved, or None; see `saved`."""
        events = await self._store.list(self.flow_id)
        for event in reversed(events):
            match event.kind:
                case StepSignal(step_index=index, signal=name, data={"artifact": str() as saved}):
                    if index == self.step_index and name == SAVED:
                        return await self.get_artifact(saved)
                case _:
                    pass
        return None

    async def received(self, name: str) -> list[Any]:
        """Return the data of all signals of this name that were sent to this step, in order.

        They come from `FlowClient.signal`; those that attempts at the step made itself are among
        them. A step that waits for one returns `Wait(None)`, and begins anew when it has come.

        Raises what `EventStore.list` raises.
        """
        return [
            event.kind.data
            for event in await self._store.list(self.flow_id)
            if isinstance(event.kind, StepSignal)
            and (event.kind.step_index, event.kind.signal) == (self.step_index, name)
        ]

    def received_blocking(self, name: str) -> list[Any]:
        """Return the data of all signals of this name, from a worker thread; see `received`."""
        found: list[Any] = self._blocking("received", name)
        return found

    def saved_artifact_blocking(self) -> Artifact | None:
        """Return the artifact of the last value that was saved, from a worker thread."""
        artifact: Artifact | None = self._blocking("saved_artifact")
        return artifact

    def _blocking(self, name: str, *arguments: Any) -> Any:
        """Call a coroutine function of the context from a worker thread.

        Raises what it raises, and:
            InvalidArgument: this is the thread of an event loop.
        """
        if self._loop is None or _running_loop() is not None:
            raise InvalidArgument(
                "context",
                f"`{name}_blocking` is for worker threads: in a coroutine, "
                f"`await context.{name}(...)`",
            )
        working = getattr(self, name)(*arguments)
        return asyncio.run_coroutine_threadsafe(working, self._loop).result()


def artifact_of(value: Any) -> Artifact:
    """Return a value that is saved as an artifact; one that is an artifact stays as it is.

    Raises:
        InvalidPayload: it is not I-JSON.
    """
    if isinstance(value, Artifact):
        return value
    return Artifact.from_payload(kind=type(value).__qualname__, payload=value)


def _read_saved(artifact: Artifact, declared: type[Saved]) -> Saved:
    """Return a saved value as the type that is asked for.

    Raises:
        InvalidPayload: it is not one.
    """
    return artifact if isinstance(artifact, declared) else artifact.decode(declared)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
