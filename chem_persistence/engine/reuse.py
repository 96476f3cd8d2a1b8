"""Results of earlier steps that a step takes over instead of running.

A step with `reuse = "any"` is looked up by its fingerprint before it starts. The oldest result that
was not invalidated counts, if all its artifacts are stored and have their hashes. Whether it is
still valid when it is appended is not asked again: it was when it was looked up.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context
from typing import Any

import msgspec

from chem_persistence.domain.artifacts import SMALL, Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import ResultOrigin, StepFinished
from chem_persistence.domain.fingerprints import step_fingerprint
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.engine.next_step import after_success, input_of
from chem_persistence.engine.steps.ask import Ask
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.steps_fit import Steps
from chem_persistence.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactTooLarge,
    InvalidDefinition,
)
from chem_persistence.store.artifact_reads import read_artifacts
from chem_persistence.store.ports import ArtifactRead, StreamingEventStore
from chem_persistence.store.reuse.results import Result, ResultStore

__all__ = ["Results", "Reusable", "Reuse", "check_reuse", "results_of"]

_logger = logging.getLogger("chem_persistence.reuse")

MOST_AT_ONCE = 500
"""The number of fingerprints that one query looks up."""

MOST_ORIGINS = 10
"""The number of results of a fingerprint that are tried, one after the other."""


class Reusable(msgspec.Struct, frozen=True):
    """A result whose artifacts were verified; `output` is the first of them, if it is small."""

    origin: ResultOrigin
    outputs: tuple[str, ...]
    output: Artifact | None


class Results:
    """Finds the results of one store, and verifies them.

    What is asked for at the same moment, by any number of flows, is one query, and so are the
    artifacts of what it finds.
    """

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._wanted: dict[str, asyncio.Future[Reusable | None]] = {}
        self._serving: asyncio.Task[None] | None = None

    async def find(self, fingerprint: str) -> Reusable | None:
        """Return the result of a fingerprint, or None if there is none that can be trusted.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        if self._serving is None or self._serving.done():
            self._wanted.clear()  # of an event loop that is closed
            self._serving = asyncio.get_running_loop().create_task(self._serve(), context=Context())
        wanted = self._wanted.get(fingerprint)
        if wanted is None:
            wanted = self._wanted[fingerprint] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(wanted)

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # for those who ask in the same turn of the event loop
        while self._wanted:
            part = list(self._wanted)[:MOST_AT_ONCE]
            wanted = {fingerprint: self._wanted.pop(fingerprint) for fingerprint in part}
            try:
                found = await self._find(part)
            except Exception as error:  # noqa: BLE001  # each caller raises it
                for future in wanted.values():
                    future.set_exception(error)
                    future.exception()  # a caller that was cancelled does not ask for it
            except BaseException:
                for future in wanted.values():
                    future.cancel()
                raise
            else:
                for fingerprint, future in wanted.items():
                    future.set_result(found.get(fingerprint))

    async def _find(self, fingerprints: Sequence[str]) -> dict[str, Reusable]:
        found: dict[str, Reusable] = {}
        left = await self._store.find_results(fingerprints, most=MOST_ORIGINS)
        refused: dict[str, ArtifactRead] = {}
        while left:
            hashes = (each for results in left.values() for each in results[0].outputs)
            read = await self._read(dict.fromkeys(hashes))
            refused |= {each: read for each, read in read.items() if not isinstance(read, Artifact)}
            again: dict[str, Sequence[Result]] = {}
            for fingerprint, results in left.items():
                reason = next(
                    (refused[each] for each in results[0].outputs if each in refused), None
                )
                if reason is None:
                    found[fingerprint] = _reusable(results[0], read)
                else:
                    _warn(fingerprint, results[0], reason)
                    again[fingerprint] = results[1:]
            left = {fingerprint: results for fingerprint, results in again.items() if results}
        return found

    async def _read(self, hashes: Iterable[str]) -> dict[str, ArtifactRead]:
        """Return artifacts without their contents, but for small ones, or why one is refused."""
        wanted = list(hashes)
        found: dict[str, ArtifactRead] = {}
        async for artifact in read_artifacts(self._store, wanted):
            artifact_hash = wanted[len(found)]
            found[artifact_hash] = artifact
            if isinstance(artifact, Artifact) and not artifact.__dict__.get(SMALL):
                found[artifact_hash] = _without_content(artifact)
            elif isinstance(artifact, ArtifactTooLarge):
                found[artifact_hash] = await self._streamed(artifact_hash, artifact)
        return found

    async def _streamed(self, artifact_hash: str, refused: ArtifactTooLarge) -> ArtifactRead:
        """Verify an artifact that is too large to be read as a whole."""
        if not isinstance(self._store, StreamingEventStore):
            return refused
        try:
            async for _ in self._store.read_artifact(artifact_hash):
                pass
        except (ArtifactCorrupt, ArtifactNotFound) as error:
            return error
        return Artifact(hash=artifact_hash, kind="")


def _without_content(artifact: Artifact) -> Artifact:
    return Artifact(hash=artifact.hash, kind="")


def _reusable(result: Result, read: Mapping[str, ArtifactRead]) -> Reusable:
    output = read.get(next(iter(result.outputs), ""))
    is_kept = isinstance(output, Artifact) and bool(output.__dict__.get(SMALL))
    kept = output if isinstance(output, Artifact) and is_kept else None
    return Reusable(result.origin, result.outputs, kept)


def _warn(fingerprint: str, result: Result, reason: ArtifactRead) -> None:
    origin = result.origin
    _logger.warning(
        "the result of flow %s, event %d, is not taken over: %s",
        origin.flow_id,
        origin.version,
        reason,
        extra={"flow_id": str(origin.flow_id), "fingerprint": fingerprint},
    )


def results_of(store: object) -> Results | None:
    """Return what finds results in a store, or None if the store cannot."""
    return Results(store) if isinstance(store, ResultStore) else None


class Reuse:
    """What the steps of one flow take over while it is run.

    A step for which nothing was found is not looked up a second time. `output` is the output of the
    step that was taken over last, if it is small; `found_by` finds the results.
    """

    def __init__(self, results: Results, steps: Steps, definition: FlowDefinition) -> None:
        self.output: Artifact | None = None
        self.found_by = results
        self._steps = steps
        self._definition = definition
        self._missed: set[int] = set()

    async def results(
        self, instance: FlowInstance, *, most: int | None = None
    ) -> list[StepFinished]:
        """Return the results that the next steps of a flow take over, at most so many.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        found: list[StepFinished] = []
        while (most is None or len(found) < most) and self._may_take(instance):
            index = instance.cursor
            given = input_of(instance, index)
            fingerprint = step_fingerprint(
                self._definition.steps[index].definition_hash, [] if given is None else [given]
            )
            reusable = await self.found_by.find(fingerprint)
            if reusable is None:
                self._missed.add(index)
                break
            fact = StepFinished(
                index, self._steps[index].id, reusable.outputs, fingerprint, reusable.origin
            )
            found.append(fact)
            self.output = reusable.output
            instance = after_success(instance, fact)
        return found

    def _may_take(self, instance: FlowInstance) -> bool:
        """Return whether the step at which a flow is may take a result over: it has not begun."""
        index = instance.cursor
        return (
            index < len(self._steps)
            and self._steps[index].reuse == "any"
            and index not in self._missed
            and not instance.steps[index].has_begun
        )


def check_reuse(step: Step[Any, Any]) -> None:
    """Check what a step says about taking results over.

    Raises:
        InvalidDefinition: it says neither `never` nor `any`; or it asks a person, whose answer is
            part of its fingerprint.
    """
    if step.reuse not in ("never", "any"):
        raise InvalidDefinition(
            f"step {step.id!r}: reuse must be 'never' or 'any', not {step.reuse!r}"
        )
    if step.reuse == "any" and isinstance(step, Ask):
        raise InvalidDefinition(
            f"step {step.id!r} asks a person: its result depends on the answer, so that it cannot "
            "be found before it is asked; leave `reuse` at 'never'"
        )
