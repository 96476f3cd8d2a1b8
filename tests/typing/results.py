"""Results as the type checker sees them; checked by `mypy --strict`, never run.

A wrong call carries the error that it must cause: if it causes none, the ignore is unused, which is
an error.
"""

from datetime import datetime
from pathlib import Path
from typing import assert_type
from uuid import UUID

import msgspec

from chem_persistence import Flow, FlowClient, FlowState, ResultRow, Results


class Molecule(msgspec.Struct):
    smiles: str


class Energy(msgspec.Struct):
    hartree: float


async def read(client: FlowClient, flow: Flow[Molecule, Energy], run: UUID, now: datetime) -> None:
    results = client.results(flow, step="judge", since=now, state=FlowState.FAILED, limit=5)
    assert_type(results, Results)
    async for row in results:
        assert_type(row, ResultRow)
        assert_type(row.decode(Energy), Energy)
        assert_type(row.item, int | None)
    async for page in client.results("screen", label="a", page_size=100).pages():
        assert_type(page, list[ResultRow])
    assert_type(await client.results(run).write_parquet(Path("rows.parquet")), int)
    client.results(Molecule)  # type: ignore[arg-type]
    client.results("screen", limit="5")  # type: ignore[arg-type]
