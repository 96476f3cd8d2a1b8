"""The results of flows, as a program reads them: row by row, page by page, or as a table."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from chem_persistence.domain.canonical_json.encode import outweighs
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import InvalidArgument
from chem_persistence.results.arrow import arrow_table, needed_module, write_parquet_file
from chem_persistence.results.csv_text import TextSink, write_csv_text
from chem_persistence.results.reader import Question, RowReader, RowStore
from chem_persistence.results.rows import ResultRow
from chem_persistence.results.spool import RowSpool
from chem_persistence.store.checks import check_flow_id, check_not_negative
from chem_persistence.store.outcomes.reader import OutcomeFilter

__all__ = ["Results", "results_of"]

MOST_ROWS_A_PAGE = 10_000

PAGE_BYTES = 8 * 2**20
"""The bytes of inputs and outputs, as JSON, that a page has at most, but for its last row."""


class Results:
    """The results of flows as rows; each iteration reads them anew, from the first one on.

        async for row in client.results("screen", step="judge"):
            print(row.item, row.output)

    They are read in keyset pages, in bounded memory, and no connection is held between two pages.
    The rows are those of the runs that there were when the first page was read, the newest first,
    and of the children of a map in the order of the items; a row is as it was when it was read.

    Besides what a method lists, reading raises:
        FlowNotFound: no flow has the id that was asked for.
        InvalidArgument: the newest run, and what its maps run, has no step of this id.
        ArtifactNotFound, ArtifactCorrupt, ArtifactTooLarge: an input or output cannot be read.
        UnreadableEvent: the log of a flow is damaged.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    def __init__(self, store: RowStore, question: Question) -> None:
        self._store = store
        self._question = question

    def __aiter__(self) -> AsyncIterator[ResultRow]:
        return RowReader(self._store, self._question).rows()

    async def pages(self) -> AsyncIterator[list[ResultRow]]:
        """Yield the rows in lists of at most `page_size`; of large rows there are fewer in a list.

        The lists are not empty.
        """
        size, page = self._question.page_size, list[ResultRow]()
        share = PAGE_BYTES // size
        async for row in self:
            page.append(row)
            if len(page) == size or outweighs((row.input, row.output), share):
                yield page
                page = []
        if page:
            yield page

    async def to_arrow(self) -> Any:
        """Return the rows as a `pyarrow.Table`, whose `to_pandas` returns a DataFrame of pandas.

        The columns are `label`, `item`, the fields of the inputs as `input.NAME`, those of the
        outputs as `NAME` (`output.NAME` if another column has that name), `state`, `invalidated`,
        `failed_step`, `error`, `began`, `flow_id` and `run`. A field with numbers is of int64 if
        all of them are whole, else of float64; one with objects, arrays, or values of several types
        is JSON text. Without a value it is null.

        Raises:
            InvalidArgument: pyarrow is not installed (the extra `table`).
        """
        needed_module("pyarrow")
        with RowSpool() as spool:
            await self._fill(spool)
            return arrow_table(spool)

    async def write_parquet(self, path: Path) -> int:
        """Write the rows to a Parquet file, in bounded memory; return their number.

        The columns are those of `to_arrow`.

        Raises:
            InvalidArgument: pyarrow is not installed (the extra `table`).
            OSError: the file cannot be written.
        """
        needed_module("pyarrow.parquet")
        with RowSpool() as spool:
            await self._fill(spool)
            write_parquet_file(spool, path)
            return spool.rows

    async def write_csv(self, file: TextSink, *, escape_formulas: bool = False) -> int:
        """Write the rows as CSV with a line of names, in bounded memory; return their number.

        The columns are those of `to_arrow`. All rows are read before the first line is written,
        since each may add a column. Texts are written as they are stored, also those that a
        spreadsheet takes for formulas; with `escape_formulas` these get an apostrophe in front.

        Raises:
            OSError: the file cannot be written.
        """
        with RowSpool() as spool:
            await self._fill(spool)
            write_csv_text(spool, file, escape_formulas=escape_formulas)
            return spool.rows

    async def _fill(self, spool: RowSpool) -> None:
        async for page in self.pages():
            spool.add(page)


def results_of(
    store: object,
    flow: str | UUID,
    *,
    definition_hash: str | None = None,
    step: str | None = None,
    since: datetime | None = None,
    state: str | None = None,
    label: str | None = None,
    limit: int | None = None,
    page_size: int = 500,
) -> Results:
    """Return the results of runs of a flow; see `FlowClient.results`.

    With a `definition_hash` they are those of the runs with that definition, whatever `flow` is.

    Raises what that lists.
    """
    if not isinstance(store, RowStore):
        raise InvalidArgument("store", "cannot read what became of many flows")
    if not isinstance(flow, str):
        check_flow_id(flow)
    if step == "" or (flow == "" and definition_hash is None):
        raise InvalidArgument("step" if step == "" else "flow", "must not be empty")
    if since is not None and since.utcoffset() is None:
        raise InvalidArgument("since", f"{since} has no time zone")
    check_not_negative(limit=limit)
    if not 1 <= page_size <= MOST_ROWS_A_PAGE:
        allowed = f"from 1 to {MOST_ROWS_A_PAGE}"
        raise InvalidArgument("page_size", f"must be {allowed}, not {page_size}")
    chosen = OutcomeFilter(
        name=flow if isinstance(flow, str) and definition_hash is None else None,
        definition_hash=definition_hash,
        label=label,
        since=since,
        state=_known_state(state),
    )
    run = flow if isinstance(flow, UUID) else None
    if limit:
        page_size = min(page_size, limit)
    return Results(store, Question(run, chosen, step, page_size, limit))


def _known_state(state: str | None) -> FlowState | None:
    try:
        return None if state is None else FlowState(state)
    except ValueError as error:
        names = ", ".join(FlowState)
        raise InvalidArgument("state", f"must be one of {names}, not {state!r}") from error
