"""The command `consumers`, and those that change a consumer."""

from collections.abc import Sequence
from datetime import UTC, datetime

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import one_line, shown, shown_ago
from chem_persistence.errors import InvalidArgument
from chem_persistence.feed.consumer import Consumer
from chem_persistence.feed.parts import ConsumerStatus
from chem_persistence.postgres.append.transaction import PgTransaction
from chem_persistence.postgres.connection.pool import PoolProvider
from chem_persistence.postgres.consumers.admin import list_consumers
from chem_persistence.postgres.event_store import PgEventStore

__all__ = [
    "list_the_consumers",
    "release_flow",
    "remove_consumer",
    "reset_consumer",
    "resize_consumer",
]

MOST_PARKED = 20
"""The parked flows of a consumer that are printed; JSON has all."""

END = "end"


async def list_the_consumers(target: Target, *, as_json: bool) -> int:
    """Print the parts of all consumers, and the flows that they have parked; return the code."""
    async with open_database(target) as provider:
        found = await list_consumers(provider)
    if as_json:
        print_json({"consumers": found})
    elif found:
        _print(found)
    else:
        print_line("no consumers")
    return ExitCode.WELL


async def release_flow(target: Target, name: str, flow: str, *, as_json: bool) -> int:
    """Release a parked flow; return the exit code."""
    async with open_database(target) as provider:
        consumer = _consumer(provider, name)
        flow_id = await find_flow(provider, flow)
        await consumer.release(flow_id)
        return await _report(consumer, f"released flow {flow_id}", as_json=as_json)


async def reset_consumer(target: Target, name: str, to: str, *, as_json: bool) -> int:
    """Set all parts to the position after a seq, or to the end; return the exit code."""
    if to != END and not to.isdecimal():
        raise InvalidArgument("--to", f"must be a seq, 0 or {END}, not {to!r}")
    async with open_database(target) as provider:
        consumer = _consumer(provider, name)
        at = await PgEventStore(provider).position(None if to == END else int(to))
        await consumer.reset(at)
        return await _report(consumer, f"all parts are at {at.seq}", as_json=as_json)


async def resize_consumer(target: Target, name: str, parts: int, *, as_json: bool) -> int:
    """Change the number of parts; return the exit code."""
    async with open_database(target) as provider:
        consumer = _consumer(provider, name)
        await consumer.resize(parts)
        status = await consumer.status()
        done = f"has {parts} parts"
        if status.next_parts is not None:
            done = f"will have {parts} parts when all have reached the foremost one"
        return await _report(consumer, done, as_json=as_json)


async def remove_consumer(target: Target, name: str, *, as_json: bool) -> int:
    """Delete a consumer; return the exit code."""
    async with open_database(target) as provider:
        await _consumer(provider, name).remove()
    if as_json:
        print_json({"removed": name})
    else:
        print_line(f"consumer {shown(name)}: removed")
    return ExitCode.WELL


def _consumer(provider: PoolProvider, name: str) -> Consumer[PgTransaction]:
    return PgEventStore(provider).consumer(name)


async def _report(consumer: Consumer[PgTransaction], done: str, *, as_json: bool) -> int:
    if as_json:
        print_json({"consumers": [await consumer.status()]})
    else:
        print_line(f"consumer {shown(consumer.name)}: {done}")
    return ExitCode.WELL


def _print(found: Sequence[ConsumerStatus]) -> None:
    now = datetime.now(UTC)
    columns = [
        column("consumer", cut=True),
        column("part", right=True),
        column("position", right=True),
        column("lag", right=True),
        column("parked", right=True),
        column("moved"),
        column("held by", cut=True),
    ]
    rows = [
        (
            shown(status.name) if part.part == 0 else "",
            str(part.part),
            f"{part.seq:,}",
            f"{part.lag:,}",
            str(part.parked),
            shown_ago(now - part.moved_at),
            shown(part.holder or ""),
        )
        for status in found
        for part in status.parts
    ]
    print_table(columns, rows)
    for status in found:
        _print_troubles(status, now)


def _print_troubles(status: ConsumerStatus, now: datetime) -> None:
    """Print what holds a consumer up: failures, parked flows, a change of the number of parts."""
    name = shown(status.name)
    for part in status.parts:
        if part.error is not None:
            error = shown(one_line(part.error))
            print_line(f"{name}, part {part.part}: tried {part.tries} times; last failure: {error}")
    for parked in status.parked[:MOST_PARKED]:
        state = "released" if parked.is_released else "parked"
        error = shown(one_line(parked.error))
        print_line(
            f"{name} {parked.flow_id} {state} {shown_ago(now - parked.parked_at)} at "
            f"{parked.seq}: {error}"
        )
    if len(status.parked) > MOST_PARKED:
        print_line(f"{name}: {len(status.parked) - MOST_PARKED} more flows are parked")
    if status.next_parts is not None:
        print_line(f"{name}: {status.next_parts} parts when all have reached the foremost one")
