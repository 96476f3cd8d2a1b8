"""Check that the server's version and settings support the library's guarantees."""

from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.migrations import OLDEST_SERVER
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_server", "judge_server"]

DESCRIBE_SERVER = statement("doctor/describe_server")

_RELOAD = "ALTER SYSTEM RESET {}; SELECT pg_reload_conf();"
_HARMFUL = {
    "fsync": "off: a crash of the machine may lose or corrupt acknowledged appends",
    "full_page_writes": "off: a crash of the machine may leave half-written pages",
    "synchronous_commit": "off: a crash loses the last acknowledged appends",
    "autovacuum": "off: tables bloat, and transaction ids run out",
}


async def check_server(connection: Connection) -> list[CheckResult]:
    """Check the server's version and the settings of this session."""
    (row,) = await connection.fetch(DESCRIBE_SERVER)
    return judge_server(row)


def judge_server(row: Row) -> list[CheckResult]:
    """Return the findings for a row of `describe_server`."""
    version = row["server_version"]
    if row["major_version"] < OLDEST_SERVER:
        finding = f"PostgreSQL {version} is too old: the library needs {OLDEST_SERVER} or newer"
        remedy = (
            f"pg_upgrade --help # to {OLDEST_SERVER} or newer; or pg_dump, and psql on a new server"
        )
        return [CheckResult("server", Severity.ERROR, finding, remedy)]
    database = '"' + row["database"].replace('"', '""') + '"'
    results = []
    if row["encoding"] != "UTF8":
        finding = (
            f"database {row['database']} is encoded in {row['encoding']}: "
            "it cannot store every text"
        )
        remedy = (
            "CREATE DATABASE chem ENCODING 'UTF8' TEMPLATE template0; -- then pg_dump and restore"
        )
        results.append(CheckResult("server", Severity.ERROR, finding, remedy))
    if row["is_standby"]:
        finding = "this is a standby: it can be read, and appends fail"
        results.append(
            CheckResult(
                "server", Severity.NOTE, finding, "add target_session_attrs=read-write to the URL"
            )
        )
    elif row["is_read_only"]:
        remedy = f"ALTER DATABASE {database} RESET default_transaction_read_only;"
        finding = "transactions are read-only: appends fail"
        results.append(CheckResult("server", Severity.ERROR, finding, remedy))
    if row["replication_role"] == "replica":
        remedy = f"ALTER DATABASE {database} RESET session_replication_role; -- or of the role"
        finding = "session_replication_role is replica: the triggers that guard history do not fire"
        results.append(CheckResult("triggers", Severity.ERROR, finding, remedy))
    for setting, harm in _HARMFUL.items():
        if row[setting] == "off":
            remedy = _RELOAD.format(setting)
            if setting == "synchronous_commit":
                remedy = f"ALTER DATABASE {database} SET synchronous_commit = on;"
            results.append(CheckResult("settings", Severity.ERROR, f"{setting} is {harm}", remedy))
    return results or [CheckResult("server", Severity.OK, f"PostgreSQL {version}")]
