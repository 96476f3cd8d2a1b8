"""The SQL: one statement a file under sql/queries, read once, named here once."""

from pathlib import Path

__all__ = ["SCHEMA_SNAPSHOT", "SQL_DIRECTORY", "statement"]

_PACKED = Path(__file__).parents[2] / "sql"

_CHECKOUT = Path(__file__).parents[3]

SQL_DIRECTORY = _PACKED if _PACKED.is_dir() else _CHECKOUT / "sql"
"""The SQL files: inside the installed package, or beside it in a checkout."""

SCHEMA_SNAPSHOT = (
    _PACKED / "schema_f5.sql"
    if _PACKED.is_dir()
    else _CHECKOUT / "documentation" / "snapshots" / "schema_f5.sql"
)
"""The schema that the migrations make together, as `describe_schema` writes it."""


def statement(name: str) -> str:
    """Read the statement in sql/queries/`name`.sql."""
    return (SQL_DIRECTORY / "queries" / f"{name}.sql").read_text(encoding="utf-8")


APPEND_EVENTS = statement("events/append_events")
FIND_DISTRIBUTION = statement("events/find_distribution")
FIND_FEED_END = statement("events/find_feed_end")
READ_EVENTS_BY_ID = statement("events/read_events_by_id")
READ_EVENTS_OF_FLOWS = statement("events/read_events_of_flows")
READ_EVENT_PAGE = statement("events/read_event_page")
READ_FACT_PAGE = statement("events/read_fact_page")
READ_FEED_PAGE = statement("events/read_feed_page")
READ_FLOW_EVENTS = statement("events/read_flow_events")
READ_FLOW_HEADS = statement("events/read_flow_heads")

READ_ARTIFACT = statement("artifacts/read_artifact")
READ_CHUNKS = statement("artifacts/read_chunks")

INSERT_CHUNK = statement("uploads/insert_chunk")
INSERT_UPLOADED_ARTIFACT = statement("uploads/insert_uploaded_artifact")
LOCK_ARTIFACT = statement("uploads/lock_artifact")
READ_UPLOAD = statement("uploads/read_upload")

LIST_ERRORS = statement("executions/list_errors")
LIST_ERRORS_OF_FLOW = statement("executions/list_errors_of_flow")
READ_EXECUTIONS = statement("executions/read_executions")

LIST_AWAITING_FLOWS = statement("flows/list_awaiting_flows")
LIST_COMPLETED_FLOWS = statement("flows/list_completed_flows")
LIST_FAILED_FLOWS = statement("flows/list_failed_flows")
LIST_FLOWS = statement("flows/list_flows")
LIST_RUNNING_FLOWS = statement("flows/list_running_flows")
READ_FLOW = statement("flows/read_flow")

READ_CONSUMERS = statement("provenance/read_consumers")
READ_PRODUCERS = statement("provenance/read_producers")
READ_PRODUCTS = statement("provenance/read_products")
READ_SOURCES = statement("provenance/read_sources")

READ_ARTIFACT_STATISTICS = statement("statistics/read_artifact_statistics")
READ_FAILURE_STATISTICS = statement("statistics/read_failure_statistics")
READ_HOURLY_THROUGHPUT = statement("statistics/read_hourly_throughput")
READ_STATISTICS_REFRESH = statement("statistics/read_statistics_refresh")
READ_STEP_STATISTICS = statement("statistics/read_step_statistics")
REFRESH_ARTIFACT_STATISTICS = statement("statistics/refresh_artifact_statistics")
REFRESH_FAILURE_STATISTICS = statement("statistics/refresh_failure_statistics")
REFRESH_HOURLY_THROUGHPUT = statement("statistics/refresh_hourly_throughput")
REFRESH_STATISTICS_REFRESH = statement("statistics/refresh_statistics_refresh")
REFRESH_STEP_STATISTICS = statement("statistics/refresh_step_statistics")

DELETE_EXECUTIONS = statement("rebuild/delete_executions")
INSERT_MISSING_EXECUTIONS = statement("rebuild/insert_missing_executions")
LOCK_EXECUTIONS = statement("rebuild/lock_executions")
READ_EXECUTIONS_OF_FLOWS = statement("rebuild/read_executions_of_flows")
READ_FACTS_OF_FLOW = statement("rebuild/read_facts_of_flow")
READ_STEP_FACT_PAGE = statement("rebuild/read_step_fact_page")
WRITE_EXECUTIONS = statement("rebuild/write_executions")

KEEP_SNAPSHOT = statement("snapshots/keep_snapshot")
READ_SNAPSHOT = statement("snapshots/read_snapshot")

COUNT_ARTIFACTS = statement("verification/count_artifacts")
COUNT_EVENTS = statement("verification/count_events")
FIND_MISSING_ARTIFACTS = statement("verification/find_missing_artifacts")
READ_ARTIFACT_PRODUCERS = statement("verification/read_artifact_producers")
READ_CHAINED_EVENTS = statement("verification/read_chained_events")
READ_CHAINED_FLOW = statement("verification/read_chained_flow")
READ_SNAPSHOTS = statement("verification/read_snapshots")

CREATE_MIGRATIONS_TABLE = statement("migrations/create_migrations_table")
DESCRIBE_SCHEMA_COLUMNS = statement("migrations/describe_schema_columns")
DESCRIBE_SCHEMA_CONSTRAINTS = statement("migrations/describe_schema_constraints")
DESCRIBE_SCHEMA_FUNCTIONS = statement("migrations/describe_schema_functions")
DESCRIBE_SCHEMA_INDEXES = statement("migrations/describe_schema_indexes")
DESCRIBE_SCHEMA_SEARCH_PATH = statement("migrations/describe_schema_search_path")
DESCRIBE_SCHEMA_SEQUENCES = statement("migrations/describe_schema_sequences")
DESCRIBE_SCHEMA_TABLES = statement("migrations/describe_schema_tables")
DESCRIBE_SCHEMA_TRIGGERS = statement("migrations/describe_schema_triggers")
DESCRIBE_SCHEMA_VIEWS = statement("migrations/describe_schema_views")
FIND_MIGRATIONS_TABLE = statement("migrations/find_migrations_table")
LOCK_MIGRATIONS = statement("migrations/lock_migrations")
QUOTE_CREATE_SCHEMA = statement("migrations/quote_create_schema")
READ_APPLIED_MIGRATIONS = statement("migrations/read_applied_migrations")
READ_CURRENT_SCHEMA = statement("migrations/read_current_schema")
RECORD_MIGRATION = statement("migrations/record_migration")

FIND_EXCESS = statement("roles/find_excess")
FIND_MISSING_RELATIONS = statement("roles/find_missing_relations")
LIST_RIGHTS = statement("roles/list_rights")
QUOTE_CREATE_ROLES = statement("roles/quote_create_roles")
QUOTE_GRANTS = statement("roles/quote_grants")
QUOTE_OWNERSHIP = statement("roles/quote_ownership")
QUOTE_REVOKES = statement("roles/quote_revokes")

DESCRIBE_DATABASE = statement("status/describe_database")
FIND_NEWEST_FLOW = statement("status/find_newest_flow")
MEASURE_RELATIONS = statement("status/measure_relations")

DESCRIBE_ARTIFACTS = statement("search/describe_artifacts")
FIND_ARTIFACTS = statement("search/find_artifacts")
FIND_FLOWS = statement("search/find_flows")

DESCRIBE_ROLE = statement("doctor/describe_role")
DESCRIBE_SERVER = statement("doctor/describe_server")
FIND_FUTURE_FLOW = statement("doctor/find_future_flow")
FIND_MISSING_RIGHTS = statement("doctor/find_missing_rights")
FIND_OLD_TRANSACTIONS = statement("doctor/find_old_transactions")
MEASURE_BLOAT = statement("doctor/measure_bloat")
MEASURE_CONNECTIONS = statement("doctor/measure_connections")
MEASURE_WRAPAROUND = statement("doctor/measure_wraparound")
READ_CLOCK = statement("doctor/read_clock")

FIND_FLOW_END = statement("tail/find_flow_end")
READ_LAST_EVENTS = statement("tail/read_last_events")
