"""The chain's links are computed as the docstring defines them."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.hash_chain import GENESIS, chain_link
from tests.support.flows.json_values import I_JSON, TEXT

TIMES = st.datetimes(
    min_value=datetime(1001, 1, 1),  # noqa: DTZ001  # the zone is drawn
    timezones=st.timezones(),
)


EVENTS = st.fixed_dictionaries(
    {
        "flow_id": st.uuids(),
        "version": st.integers(0, 2**31),
        "event_id": st.uuids(),
        "ts": TIMES | TIMES.map(lambda time: time.replace(microsecond=0)),
        "payload": I_JSON,
        "metadata": st.dictionaries(TEXT, I_JSON, max_size=3),
    }
)


@given(st.binary(min_size=32, max_size=32), EVENTS)
def test_a_link_is_the_hash_of_the_link_before_it_and_the_canonical_event(
    previous: bytes, event: dict[str, Any]
) -> None:
    time = event["ts"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    expected = hashlib.sha256(previous + canonical_json({**event, "ts": time})).digest()
    encoded = {name: canonical_json(event[name]) for name in ("payload", "metadata")}
    assert chain_link(previous, **{**event, **encoded}).hash == expected


def test_a_link_stays_what_it_was_when_the_first_logs_were_written() -> None:
    first = chain_link(
        GENESIS,
        flow_id=UUID(int=1),
        version=0,
        event_id=UUID(int=2),
        ts=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        payload=b'{"type":"flowcompleted"}',
        metadata=b"{}",
    )
    assert first.hash.hex() == "28320977e91b2bc2365f07a3d60bb3362205f4d20efade749ccf7a449136bdc0"
