"""A bundle names every flow that brought an artifact, so that after an import each keeps it."""

import json
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from chem_persistence import (
    Artifact,
    InMemoryEventStore,
    PgEventStore,
    StepFinished,
    StepSignal,
    import_bundle,
    verify_bundle,
)
from tests.support.bundles import LARGE, exported
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.leases.desk import Desk

NOTED = StepSignal(0, "acquire", "noted")


class Shared(msgspec.Struct, frozen=True):
    """Three flows, in the order of their ids, and the hashes of the artifacts that they share."""

    flows: Sequence[UUID]
    signalled: str
    named: str
    own: str
    large: str


async def shared(store: InMemoryEventStore | PgEventStore) -> Shared:
    """Store three flows that share artifacts; the last one stores most of them first."""
    flows = sorted(new_flow_id() for _ in range(3))
    signalled, named, own = (
        Artifact.from_payload(kind=kind, payload=[kind, str(flows[0])])
        for kind in ("Signalled", "Named", "Own")
    )
    for flow_id in reversed(flows):
        await store.append_kind(flow_id, initialized())
        await store.append_kind(flow_id, NOTED, artifacts=[signalled])
    finished = StepFinished(0, "acquire", (named.hash,), "f" * 64)
    await store.append_kind(flows[2], finished, artifacts=[named, own])
    await store.append_kind(flows[0], NOTED, artifacts=[named])

    async def chunks() -> AsyncIterator[bytes]:
        yield flows[0].bytes
        yield LARGE.content or b""

    async def streamed(flow_id: UUID) -> str:
        async with store.transaction() as transaction:
            frames = await transaction.put_stream(kind="Frames", chunks=chunks(), media_type="x/y")
            await transaction.append_kind(flow_id, NOTED, artifacts=[frames])
        return frames.hash

    large = await streamed(flows[0])
    assert await streamed(flows[1]) == large
    return Shared(flows, signalled.hash, named.hash, own.hash, large)


def described(bundle: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the flow that each artifact is stored with, and its other users."""
    with zipfile.ZipFile(bundle) as archive:
        lines = list(map(json.loads, archive.read("artifacts.jsonl").splitlines()))
    return {each["hash"]: (each["flow_id"], each.get("users", [])) for each in lines}


async def test_each_flow_that_brought_an_artifact_has_it_after_an_import(
    desk: Desk, tmp_path: Path
) -> None:
    for origin, target in (
        (desk.store, InMemoryEventStore()),
        (InMemoryEventStore(), desk.store),
    ):
        there = await shared(origin)
        one, two, three = map(str, there.flows)
        bundle = tmp_path / f"{one}.zip"
        content = await exported(origin, bundle, *there.flows)
        assert verify_bundle(bundle).findings == ()
        assert described(bundle) == {
            there.signalled: (one, [two, three]),
            there.named: (three, [one]),
            there.own: (three, []),
            there.large: (one, [two]),
        }
        await import_bundle(target, bundle)
        assert await exported(target, bundle, *there.flows) == content
        of_each = (
            {there.signalled, there.named, there.large},
            {there.signalled, there.large},
            {there.signalled, there.named, there.own},
        )
        for flow_id, hashes in zip(there.flows, of_each, strict=True):
            await exported(target, bundle, flow_id)
            assert described(bundle) == {name: (str(flow_id), []) for name in hashes}
