"""Text that is not the JSON of a position is rejected with the reason."""

import json
from uuid import UUID

import pytest

from chem_persistence import FeedPosition, InvalidArgument
from chem_persistence.store.feed_position import WINDOW_EVENTS, FeedWindow

WINDOW = FeedWindow(3, [(4, b"a" * 32), (9, b"b" * 32)])
POSITION = WINDOW.position(UUID(int=7))


def test_the_json_is_one_flat_object() -> None:
    assert json.loads(POSITION.to_json()) == {
        "seq": 9,
        "flow_id": str(UUID(int=7)),
        "link": (b"b" * 32).hex(),
        "since": 3,
        "digest": WINDOW.digest().hex(),
        "archived": 0,
    }


def test_json_that_a_database_has_rewritten_is_the_same_position() -> None:
    rewritten = json.dumps(json.loads(POSITION.to_json()), indent=1, sort_keys=True)
    assert FeedPosition.from_json(rewritten) == POSITION


@pytest.mark.parametrize(
    "text",
    ["", "7", "null", "[]", "{}", '"x"', "{", b"\xff", '{"seq": 1}', "[" * 100_000],
)
def test_what_is_not_a_position_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidArgument):
        FeedPosition.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"seq": -1},
        {"seq": 2**63},
        {"seq": 0},
        {"seq": 9.5},
        {"since": 9},
        {"since": -1},
        {"archived": -1},
        {"link": "ab"},
        {"link": "zz" * 32},
        {"digest": "ab" * 33},
        {"flow_id": "no"},
        {"flow_id": str(UUID(int=0))},
        {"timeline": 2},
    ],
)
def test_a_member_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        FeedPosition.from_json(json.dumps(json.loads(POSITION.to_json()) | change))


def test_a_window_keeps_the_last_links_and_begins_after_the_one_that_it_dropped() -> None:
    window, last = FeedWindow(0), FeedWindow(10)
    for seq in range(1, WINDOW_EVENTS + 11):
        window.add(seq, bytes([seq % 256]) * 32)
        if seq > 10:
            last.add(seq, bytes([seq % 256]) * 32)
    assert window.position(UUID(int=7)) == last.position(UUID(int=7))
    assert window.position(UUID(int=7)).since == 10
