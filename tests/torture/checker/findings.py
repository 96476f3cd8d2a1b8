"""The flaws that a log can have, and where the checker found one."""

from enum import StrEnum
from uuid import UUID

import msgspec

__all__ = ["COLUMNS", "Finding", "Flaw"]


class Flaw(StrEnum):
    """The kinds of flaws, each named after the guarantee that is broken."""

    LOST = "acknowledged, and not in the log"
    DOUBLED = "in the log more than once"
    FORKED = "two events have one version"
    TORN = "a part of the append is in the log"
    ARTIFACT_MISSING = "an event names an artifact that is not there"
    ARTIFACT_STRAY = "an artifact is there without its event"
    PROJECTION = "the executions are not what the log says"
    GAP = "a version is missing"
    DISORDER = "seq does not ascend"
    ALTERED = "in the log otherwise than sent or acknowledged"
    UNSENT = "in the log, and nobody sent it"
    REFUSED = "in the log although the writer was told that it is not"
    REPLAY = "Postgres and memory replay differently"
    CHAIN = "verify_log objects"
    FEED = "a follower of the feed did not see the log"
    UNEXPECTED = "a writer got an error that the contract excludes"
    MISPLACED = "in the log at another version than the caller expected"
    CONFLICT = "refused for a conflict that the log does not show"
    UNCAUSED = "failed with an SQLSTATE that no fault near it can cause"


COLUMNS = {
    "lost": {Flaw.LOST, Flaw.GAP},
    "doubled": {Flaw.DOUBLED, Flaw.FORKED},
    "torn": {Flaw.TORN, Flaw.ARTIFACT_MISSING, Flaw.ARTIFACT_STRAY, Flaw.PROJECTION},
}
"""The flaws of each column of the table; all others are counted as `other`."""


class Finding(msgspec.Struct, frozen=True):
    """One flaw; `token` is its append's, if it belongs to one."""

    flaw: Flaw
    detail: str
    flow_id: UUID | None = None
    token: str | None = None

    def __str__(self) -> str:
        place = "" if self.flow_id is None else f" flow {self.flow_id}"
        append = "" if self.token is None else f" append {self.token}"
        return f"{self.flaw.name}: {self.flaw.value}:{place}{append}: {self.detail}"
