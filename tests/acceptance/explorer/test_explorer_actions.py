"""With --allow-actions flows are changed by who has the key, from a page of the explorer only."""

import re
from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import pytest
import pytest_asyncio

from chem_persistence import (
    FlowCancelled,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
    build_pool,
)
from tests.acceptance.explorer.conftest import ARCHIVED, ask, served
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.pages.browser import Browser, browser, serious_findings

pytestmark = pytest.mark.asyncio(loop_scope="module")

STEP = DEFINITION.steps[0].id
FAILED: list[FlowEventKind] = [
    initialized(),
    StepStarted(0, STEP),
    StepFailed(0, STEP, StepError("E", "spilled"), "f" * 64),
]
ASKS: list[FlowEventKind] = [
    initialized(),
    StepStarted(0, STEP),
    UserInteractionRequested(0, STEP, {"type": "boolean"}, hint="Is it <pure>?"),
]


class Desk(NamedTuple):
    """An explorer with actions: the address that it printed, and the log's store."""

    entrance: str
    url: str
    store: PgEventStore

    async def flow(self, facts: list[FlowEventKind]) -> UUID:
        flow_id = new_flow_id()
        await self.store.append_kinds(flow_id, facts)
        return flow_id

    async def last(self, flow_id: UUID) -> FlowEventKind:
        return (await self.store.list(flow_id))[-1].kind


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(log: str) -> AsyncIterator[Desk]:
    async with (
        served(log, "--allow-actions") as (entrance, _),
        await build_pool(log, max_size=2) as pool,
    ):
        parts = urlsplit(entrance)
        store = PgEventStore(PoolProvider(pool))
        yield Desk(entrance, f"{parts.scheme}://{parts.netloc}", store)
        await store.aclose()


def cookie(desk: Desk) -> str:
    return f"explorer_key={desk.entrance.partition('key=')[2]}"


async def send(desk: Desk, path: str, fields: dict[str, str], **headers: str) -> int:
    """Send a form as a page of the explorer does, but for the headers given; return the status."""
    usual = {
        "Origin": desk.url,
        "Cookie": cookie(desk),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    given = usual | headers
    answer = await ask(desk.url, path, method="POST", headers=given, body=urlencode(fields))
    return answer.status


async def form_key(desk: Desk, flow_id: UUID) -> str:
    page = await ask(desk.url, f"/flows/{flow_id}/actions", headers={"Cookie": cookie(desk)})
    found = re.search(r'name="form_key" value="(\w+)"', page.text)
    assert found is not None
    return found[1]


async def test_the_key_becomes_a_cookie_that_no_script_and_no_other_site_has(desk: Desk) -> None:
    entered = await ask(desk.url, desk.entrance.removeprefix(desk.url))
    assert (entered.status, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert (await ask(desk.url, "/enter?key=guess")).status == 403


async def test_an_archived_flow_has_no_actions(desk: Desk) -> None:
    answer = await ask(desk.url, f"/flows/{ARCHIVED}/actions", headers={"Cookie": cookie(desk)})
    assert (answer.status, answer.headers["location"]) == (303, f"/flows/{ARCHIVED}.html")


async def test_a_flow_is_retried_cancelled_and_answered_by_name(desk: Desk) -> None:
    failed, asks = await desk.flow(FAILED), await desk.flow(ASKS)
    given = {"form_key": await form_key(desk, failed), "actor": "Ada", "reason": "cleaned"}
    assert await send(desk, f"/flows/{failed}/retry", given) == 303
    retried = await desk.last(failed)
    assert isinstance(retried, RetryScheduled)
    assert await send(desk, f"/flows/{failed}/cancel", given) == 303
    cancelled = await desk.last(failed)
    assert isinstance(cancelled, FlowCancelled)
    answer = {**given, "step": STEP, "value": "true"}
    assert await send(desk, f"/flows/{asks}/answer", answer) == 303
    provided = (await desk.store.list(asks))[-1]
    assert isinstance(provided.kind, UserInteractionProvided)
    assert (provided.kind.provided, provided.metadata["actor"]) == (True, "Ada")


REFUSED: dict[str, tuple[dict[str, str], dict[str, str], int]] = {
    "no cookie": ({}, {"Cookie": ""}, 403),
    "another key": ({}, {"Cookie": "explorer_key=guess"}, 403),
    "another site": ({}, {"Origin": "http://evil.example"}, 403),
    "no origin": ({}, {"Origin": ""}, 403),
    "a hidden origin": ({}, {"Origin": "null"}, 403),
    "no form key": ({"form_key": ""}, {}, 403),
    "another form key": ({"form_key": "f" * 64}, {}, 403),
    "nobody": ({"actor": " "}, {}, 400),
    "another host": ({}, {"Host": "evil.example"}, 421),
    "too long": ({"reason": "x" * 1_100_000}, {}, 413),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_form_that_is_not_the_explorers_changes_nothing(desk: Desk, name: str) -> None:
    fields, headers, status = REFUSED[name]
    flow_id = await desk.flow(FAILED)
    usual = {"form_key": await form_key(desk, flow_id), "actor": "Ada", "reason": "cleaned"}
    assert await send(desk, f"/flows/{flow_id}/cancel", usual | fields, **headers) == status
    assert len(await desk.store.list(flow_id)) == len(FAILED)


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/flows/{}/answer", {"step": STEP, "value": "1"}, 400),
        ("/flows/{}/answer", {"step": STEP, "value": "{"}, 400),
        ("/flows/{}/answer", {"step": "other", "value": "true"}, 409),
        ("/flows/{}/retry", {"reason": "x"}, 400),
        ("/flows/{}/erase", {}, 404),
        (f"/flows/{UUID(int=9)}/cancel", {"reason": "x"}, 404),
    ],
)
async def test_what_cannot_be_done_is_said(
    desk: Desk, path: str, fields: dict[str, str], status: int
) -> None:
    flow_id = await desk.flow(ASKS)
    usual = {"form_key": await form_key(desk, flow_id), "actor": "Ada"}
    assert await send(desk, path.format(flow_id), usual | fields) == status
    assert len(await desk.store.list(flow_id)) == len(ASKS)


async def test_without_the_key_there_are_no_forms(desk: Desk) -> None:
    flow_id = await desk.flow(FAILED)
    answer = await ask(desk.url, f"/flows/{flow_id}/actions")
    assert (answer.status, "form_key" in answer.text) == (403, False)


async def test_an_explorer_that_only_reads_has_no_actions(address: str, desk: Desk) -> None:
    flow_id = await desk.flow(FAILED)
    assert (await ask(address, f"/flows/{flow_id}/actions")).status == 404
    assert (await ask(address, f"/flows/{flow_id}/cancel", method="POST")).status in {404, 405}
    assert "/actions" not in (await ask(address, f"/flows/{flow_id}.html")).text
    assert "/actions" in (await ask(desk.url, f"/flows/{flow_id}.html")).text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Browser]:
    async with browser() as started:
        await started.attach()
        yield started


@pytest.mark.browser
async def test_a_person_answers_a_question_in_a_browser(desk: Desk, page: Browser) -> None:
    flow_id = await desk.flow(ASKS)
    await page.send("Page.setBypassCSP", enabled=True)  # for axe-core
    await page.open(desk.entrance)
    await page.open(f"{desk.url}/flows/{flow_id}.html")
    await page.open(f"{desk.url}/flows/{flow_id}/actions")
    assert "Is it <pure>?" in await page.run("document.body.innerText")
    assert await serious_findings(page) == []
    await page.run(
        "document.querySelector('#answer-actor').value = 'Grace';"
        "document.querySelector('#value').value = 'false';"
        "document.querySelector('form[action$=answer] button').click()"
    )
    while len(await desk.store.list(flow_id)) == len(ASKS):
        await page.run("true")
    event = (await desk.store.list(flow_id))[-1]
    assert isinstance(event.kind, UserInteractionProvided)
    assert (event.kind.provided, event.metadata["actor"]) == (False, "Grace")
    assert page.complaints == []
