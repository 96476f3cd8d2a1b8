"""A person decides before the expensive step: a flow that waits for an answer and holds nothing.

    python examples/human_gate.py

A flow proposes a synthesis, asks whether to order the compound, and orders it. A worker in this
process runs it. While the question is open the flow has no connection, no lease and no place in a
worker; the answer is an event with the name of the one who gave it, and an input of the step that
decides. Ada rejects the first offer, has the step asked again, and accepts the second one. The log
is on the server that DATABASE_URL names, else on an embedded one.
"""

import asyncio
from uuid import UUID

import msgspec
from database import open_database

from chem_persistence import (
    Ask,
    ConnectionProvider,
    FlowClient,
    FlowHasFailed,
    InvalidPayload,
    PgEventStore,
    PgFlowRepository,
    PgReadModels,
    UserInteractionProvided,
    Worker,
    flow,
    step,
)


class Compound(msgspec.Struct, frozen=True):
    """What is wanted."""

    name: str
    milligrams: int


class Offer(msgspec.Struct, frozen=True):
    """What a supplier wants for it, in euros."""

    name: str
    milligrams: int
    price: float


class Decision(msgspec.Struct, frozen=True):
    """A person's answer."""

    order: bool
    note: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """What was ordered."""

    text: str


@step("offer")
async def offer(compound: Compound) -> Offer:
    """Ask the supplier for a price."""
    return Offer(compound.name, compound.milligrams, 2.5 * compound.milligrams)


class Approve(Ask[Offer, Decision, Offer]):
    """Asks whether an offer is accepted."""

    id = "approve"
    answer = Decision

    def question(self, offered: Offer) -> str:
        """Return what the person is asked."""
        return f"Order {offered.milligrams} mg of {offered.name} for {offered.price:.2f} EUR?"

    def decide(self, offered: Offer, answer: Decision) -> Offer:
        """Go on with the offer, or fail."""
        if not answer.order:
            raise PermissionError(answer.note)
        return offered


@step("order")
async def order(offered: Offer) -> Receipt:
    """Order it."""
    return Receipt(f"{offered.milligrams} mg of {offered.name} ordered")


PURCHASE = flow("purchase", offer).then(Approve()).then(order)


async def open_question(provider: ConnectionProvider, flow_id: UUID) -> str:
    """Wait until the flow asks, and return the question, as `chem-persistence waiting` lists it."""
    while True:
        for waiting in await PgReadModels(provider).waiting_flows():
            if waiting.flow_id == flow_id and waiting.question is not None:
                return waiting.question.text or ""
        await asyncio.sleep(0.02)


async def main() -> None:
    """Run one purchase, and answer for a person."""
    async with open_database() as provider:
        store = PgEventStore(provider)
        client = FlowClient(store, PgFlowRepository(provider))
        worker = Worker(store, [PURCHASE])
        working = asyncio.create_task(worker.run())
        flow_id = await client.submit(PURCHASE, Compound("caffeine", 50), label="human_gate.py")

        print("asked:   ", await open_question(provider, flow_id))
        try:
            await client.answer(flow_id, "approve", {"order": "perhaps"}, actor="Ada")
        except InvalidPayload as error:
            print("refused: ", error.path, error.reason.rpartition(": ")[2])
        await client.answer(flow_id, "approve", Decision(order=False, note="too much"), actor="Ada")
        try:
            await client.result(PURCHASE, flow_id)
        except FlowHasFailed as error:
            print("failed:  ", error.error_class, error.reason)

        await client.retry(flow_id, reason="the budget was raised", actor="Grace")
        print("asked:   ", await open_question(provider, flow_id))
        await client.answer(flow_id, "approve", Decision(order=True), actor="Ada")
        print("result:  ", (await client.result(PURCHASE, flow_id)).text)

        events = await store.list(flow_id)
        print("events:  ", " ".join(event.variant for event in events))
        for event in events:
            if isinstance(event.kind, UserInteractionProvided):
                print("answered:", event.metadata["actor"], event.kind.provided)
        worker.stop()
        await working
        await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# asked:    Order 50 mg of caffeine for 125.00 EUR?
# refused:  $.order 'perhaps' is not of type 'boolean'
# failed:   builtins.PermissionError too much
# asked:    Order 50 mg of caffeine for 125.00 EUR?
# result:   50 mg of caffeine ordered
# events:   I S F S U V S X R S U V S F S F C
# answered: Ada {'note': 'too much', 'order': False}
# answered: Ada {'note': '', 'order': True}
