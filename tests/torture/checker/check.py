"""The checker: it reads a whole log and compares it with the records of every writer."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from chem_persistence import (
    ConnectionProvider,
    FlowDefinition,
    PgFlowRepository,
    StepFinished,
    UnreadableEvent,
)
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.domain.tampering import Tampering
from chem_persistence.postgres.audit.verification import verify_log
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.store.codec import decode_event
from tests.support.flows.flows import DEFINITION
from tests.torture.checker.answer_check import Cause, check_conflicts, check_failures
from tests.torture.checker.append_check import Logged, check_append, check_order
from tests.torture.checker.findings import Finding, Flaw
from tests.torture.checker.flow_check import ENGINE_DEFINITION, check_projection, check_replay
from tests.torture.checker.ledger import Append, Ledger

__all__ = ["Verdict", "check"]

READ_FLOW_IDS = "SELECT DISTINCT flow_id FROM event_log WHERE seq > $1"
READ_FLOW = """
    SELECT seq, flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash
    FROM event_log WHERE flow_id = $1 ORDER BY version, seq
"""
READ_ARTIFACTS = """
    SELECT artifact_hash, flow_id, produced_in_seq FROM workflow_step_artifacts
    WHERE produced_in_seq > $1
"""
READ_STRAY_STEPS = """
    SELECT DISTINCT step.flow_id FROM workflow_step_executions AS step
    WHERE NOT EXISTS (SELECT 1 FROM event_log AS event WHERE event.flow_id = step.flow_id)
"""


class Verdict(msgspec.Struct):
    """What was read and what is wrong with it."""

    findings: list[Finding] = []
    flows: int = 0
    events: int = 0
    artifacts: int = 0
    engine_flows: int = 0
    followed: int = 0
    """Events that the subscriber saw."""
    stored_unanswered: int = 0
    """Appends that are in the log though no call of theirs was ever answered."""

    def flaws(self) -> set[Flaw]:
        return {finding.flaw for finding in self.findings}


async def check(
    provider: ConnectionProvider, ledger: Ledger, causes: Sequence[Cause] = (), after: int = 0
) -> Verdict:
    """Compare the log that `provider` reaches with the ledger; nothing may write meanwhile.

    `causes` are the injected faults, with the SQLSTATEs that each may cause. The events up to the
    `seq` `after` are not the writers'; they too are verified.
    """
    checking = _Checking(provider, ledger, causes, after)
    await checking.run()
    return checking.verdict


class _Checking:
    def __init__(
        self, provider: ConnectionProvider, ledger: Ledger, causes: Sequence[Cause], after: int
    ) -> None:
        self.verdict = Verdict()
        self._after = after
        self._provider = provider
        self._ledger = ledger
        self._causes = causes
        self._stored: set[str] = set()
        self._named: dict[str, tuple[UUID, str]] = {}
        self._places: set[tuple[UUID, int]] = set()
        self._began: dict[tuple[UUID, int], float] = {}

    async def run(self) -> None:
        rows = await Session(self._provider).fetch(READ_FLOW_IDS, self._after)
        for row in rows:
            await self._check_flow(row["flow_id"])
        self._check_absent()
        for append in self._ledger.appends.values():
            self.verdict.findings += check_conflicts(append, self._began)
            self.verdict.findings += check_failures(append, self._causes)
        await self._check_artifacts()
        await self._check_projected_flows()
        await self._check_engine_flows()
        for finding in (await verify_log(self._provider)).findings:
            if (
                finding.tampering is not Tampering.ARTIFACT_MISSING
            ):  # reported above, with its append
                place = f"version {finding.version}: {finding.tampering}: {finding.detail}"
                self._find(Flaw.CHAIN, place, finding.flow_id)
        for error in self._ledger.unexpected:
            self._find(Flaw.UNEXPECTED, error)

    async def _check_flow(self, flow_id: UUID) -> None:
        rows = await Session(self._provider).fetch(READ_FLOW, flow_id)
        self.verdict.flows += 1
        self.verdict.events += len(rows)
        try:
            logged = [Logged.of(decode_event(stored_event(row))) for row in rows]
        except UnreadableEvent as error:
            self._find(Flaw.ALTERED, str(error), flow_id)
            return
        found = check_order(logged)
        for token, events in _by_token(logged).items():
            append = self._ledger.appends.get(token)
            if append is None or append.flow_id != flow_id:
                self._find(
                    Flaw.UNSENT, f"versions {[event.version for event in events]}", flow_id, token
                )
                continue
            self._stored.add(token)
            self.verdict.stored_unanswered += not append.told and not append.refused
            found += check_append(append, events)
            self._note_artifacts(append, events)
            for event in events:
                self._began[flow_id, event.version] = append.calls[0].began
        self.verdict.findings += found
        if not found:  # otherwise the checks below would only repeat the findings
            self.verdict.findings += await check_projection(
                self._provider, logged, self._definition(flow_id)
            )
            self.verdict.findings += await check_replay(
                self._provider, logged, self._definition(flow_id)
            )

    def _definition(self, flow_id: UUID) -> FlowDefinition:
        return ENGINE_DEFINITION if flow_id in self._ledger.engine_flows else DEFINITION

    def _note_artifacts(self, append: Append, events: Iterable[Logged]) -> None:
        for event in events:
            self._places.add((event.event.flow_id, event.event.seq))
            if isinstance(event.event.kind, StepFinished):
                for output in event.event.kind.outputs:
                    self._named.setdefault(output, (append.flow_id, append.token))
        for artifact_hash in append.artifacts:
            self._named.setdefault(artifact_hash, (append.flow_id, append.token))

    def _check_absent(self) -> None:
        for token, append in self._ledger.appends.items():
            if append.told and token not in self._stored:
                self._find(Flaw.LOST, f"all {len(append.hashes)} events", append.flow_id, token)

    async def _check_artifacts(self) -> None:
        rows = await Session(self._provider).fetch(READ_ARTIFACTS, self._after)
        self.verdict.artifacts = len(rows)
        present = {row["artifact_hash"] for row in rows}
        for artifact_hash, (flow_id, token) in self._named.items():
            if artifact_hash not in present:
                self._find(Flaw.ARTIFACT_MISSING, artifact_hash, flow_id, token)
        senders = {
            artifact_hash: append.token
            for append in self._ledger.appends.values()
            for artifact_hash in append.artifacts
        }
        for row in rows:
            artifact_hash, place = row["artifact_hash"], (row["flow_id"], row["produced_in_seq"])
            if artifact_hash not in self._named or place not in self._places:
                self._find(
                    Flaw.ARTIFACT_STRAY, artifact_hash, row["flow_id"], senders.get(artifact_hash)
                )

    async def _check_projected_flows(self) -> None:
        for row in await Session(self._provider).fetch(READ_STRAY_STEPS):
            self._find(Flaw.PROJECTION, "rows of a flow without events", row["flow_id"])

    async def _check_engine_flows(self) -> None:
        """Check that each ended flow is completed in the log, with the engine's fingerprint."""
        repository = PgFlowRepository(self._provider)
        ended = {flow: told for flow, told in self._ledger.engine_flows.items() if told is not None}
        self.verdict.engine_flows = len(ended)
        for flow_id, fingerprint in ended.items():
            instance = await repository.load(flow_id, None, ENGINE_DEFINITION)
            if not instance.completed:
                self._find(Flaw.LOST, "the end of a flow that the engine ended", flow_id)
            elif flow_fingerprint(ENGINE_DEFINITION.definition_hash, instance) != fingerprint:
                self._find(Flaw.REPLAY, "another fingerprint than the engine gave", flow_id)

    def _find(
        self, flaw: Flaw, detail: str, flow_id: UUID | None = None, token: str | None = None
    ) -> None:
        self.verdict.findings.append(Finding(flaw, detail, flow_id, token))


def _by_token(logged: Iterable[Logged]) -> dict[str, list[Logged]]:
    appends: dict[str, list[Logged]] = {}
    for event in logged:
        appends.setdefault(event.token, []).append(event)
    return appends
