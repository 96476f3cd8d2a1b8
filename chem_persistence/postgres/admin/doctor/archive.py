"""Describe the archive: how many flows left the log, when the last did, and who may archive."""

from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.doctor.rights import RoleNames
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_archive"]

DESCRIBE_ARCHIVE = statement("doctor/describe_archive")
FIND_ARCHIVISTS = statement("doctor/find_archivists")


async def check_archive(connection: Connection, names: RoleNames) -> list[CheckResult]:
    """Describe the register of archives, if a flow was archived; its rows are not counted."""
    rows = await connection.fetch(DESCRIBE_ARCHIVE)
    if not rows:
        return []
    members = [row["member"] for row in await connection.fetch(FIND_ARCHIVISTS, names.archivist)]
    who = f"{', '.join(members)} may archive" if members else "only the owner may archive"
    number, at = rows[0]["archive_no"], rows[0]["archived_at"]
    finding = f"at most {number:,} archived, the last on {at:%Y-%m-%d}; {who}"
    return [CheckResult("archive", Severity.OK, finding)]
