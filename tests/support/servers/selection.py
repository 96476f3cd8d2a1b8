"""Which tests use the run's server, which run in one process, and which a run must leave out."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import pytest

from tests.support.jobs.cluster import slurm_answers
from tests.support.pages.browser import chromium
from tests.support.servers.pgbouncer import pgbouncer_program
from tests.support.servers.tls import tls_programs

__all__ = [
    "BROWSER_HELP",
    "CRATE_HELP",
    "DATABASE_HELP",
    "OWN_DATABASE_HELP",
    "PGBOUNCER_HELP",
    "SCIENCE_HELP",
    "SLURM_HELP",
    "SUPERUSER_HELP",
    "TLS_HELP",
    "mark_groups",
    "mark_needs",
    "reasons_to_leave_out",
]

DATABASE_HELP = (
    "asks for the run's server; `-m database` repeats only these with another role or server"
)
OWN_DATABASE_HELP = "has a database that no other test had"
SUPERUSER_HELP = (
    "needs more rights than the application role's: on the schema, stored rows, other sessions; "
    "left out when CHEM_TEST_ROLE=application"
)
BROWSER_HELP = (
    "opens a page in headless Chromium; left out if it is not found, or if CHEM_TEST_BROWSER=none; "
    "with CHEM_TEST_BROWSER=chromium (a name or a path) it is required"
)
TLS_HELP = (
    "starts a server with TLS; left out if no PostgreSQL with OpenSSL is found "
    "(CHEM_TEST_TLS_PROGRAMS)"
)
PGBOUNCER_HELP = "starts PgBouncer; left out if it is not installed"

SLURM_HELP = "submits jobs to the Slurm that `sinfo` finds (SLURM_CONF); left out if none answers"

SCIENCE_HELP = (
    "needs ASE, cclib, pymatgen, MDAnalysis and attrs (the extra `science`); left out without them"
)

SCIENCE = ("ase", "attrs", "cclib", "pymatgen", "MDAnalysis")

CRATE_HELP = (
    "asks the public validator of RO-Crates, whose Python CHEM_TEST_CRATE names (make crate does); "
    "left out without it"
)

SUPERUSERS: Mapping[str, Mapping[str, str]] = {
    "postgres/schema/test_migrations.py": {
        "": "migrates",
    },
    "postgres/append/test_copied_artifacts.py": {
        "test_it_is_stored_in_the_schema_of_the_pool": "migrates",
    },
    "postgres/read/events/test_undecodable_rows.py": {
        "": "alters stored rows",
    },
    "postgres/audit/test_verification.py": {
        "test_it_is_found_and_named_when": "alters stored rows",
        "test_a_changed_event_type_is_found": "alters stored rows",
        "test_a_second_event_at_a_version_is_found": "drops a constraint",
        "test_a_cut_tail_is_found_by_anchors": "deletes stored rows",
        "test_a_flow_that_vanished_is_found_by_anchors": "deletes stored rows",
        "test_a_named_flow_that_vanished_is_found_by_its_anchor": "deletes stored rows",
        "test_a_chain_that_was_computed_anew_is_found_by_anchors": "alters stored rows",
        "test_altered_artifacts_are_found": "alters stored rows",
        "test_a_missing_artifact_is_found": "deletes stored rows",
    },
    "postgres/read/events/test_event_pages.py": {
        "test_a_missing_event_is_found": "deletes stored rows",
    },
    "postgres/read/events/test_snapshots.py": {
        "test_a_snapshot_of_another_history": "deletes stored rows",
    },
    "torture/mutants/test_mutants.py": {
        "": "alters and deletes stored rows",
    },
    "torture/mutants/test_torture_checker.py": {
        "test_what_was_planted_is_found": "alters stored rows",
        "test_an_append_that_nobody_answered": "deletes stored rows",
        "test_a_log_without_the_version_key": "drops a constraint",
    },
    "postgres/read/models/test_statistics.py": {
        "": "refreshes the statistics, as only their owner may",
    },
    "postgres/read/models/test_statistics_by_what_is_new.py": {
        "": "refreshes the statistics, as only their owner may",
    },
    "postgres/schema/test_schema_snapshot.py": {
        "test_a_change_by_hand_shows": "alters the schema",
    },
    "postgres/connection/test_bad_connections.py": {
        "test_a_schema_that_is_newer_than_the_library": "writes a migration",
        "test_a_pool_that_gets_some_of_its_connections": "limits connections",
    },
    "postgres/append/test_lost_replies.py": {
        "test_a_first_attempt_that_the_server_still_works_on": "adds a trigger",
    },
    "postgres/connection/test_silence.py": {
        "test_a_statement_that_waits_for_a_lock_is_not_cut_off": "locks a table",
    },
    "postgres/connection/test_retries.py": {
        "test_an_error_that_passes_by_itself": "adds a trigger that fails",
        "test_an_error_that_does_not_pass": "adds a trigger that fails",
        "test_an_error_that_stays": "adds a trigger that fails",
        "test_a_value_that_a_table_refuses": "adds a constraint",
        "test_a_user_without_the_right_to_insert": "creates a role",
        "test_a_deadlock_is_tried_again": "locks a table",
        "test_an_append_whose_session_is_terminated": "locks a table",
        "test_a_server_that_takes_no_more_connections": "limits connections",
    },
    "acceptance/command_line/test_verify_command.py": {
        "test_a_changed_event_is_named": "alters stored rows",
        "test_what_is_left_of_a_flow": "deletes stored rows",
        "test_a_run_that_found_something": "deletes stored rows",
        "test_signed_anchors_prove": "deletes stored rows",
    },
}
"""By file and beginning of the test's name (empty for every test of the file): what the test
does that the application role may not do."""


SHORT = ("unit/", "shape/")
"""Folders of short tests: a file of theirs runs in one process."""

PARSING = tuple(
    f"shape/test_{name}.py" for name in ("house_rules", "imports", "public_names", "sql")
)
"""Files whose tests parse the whole package: they run in one process, which parses it once."""


ONE_ROW = (
    (
        "contract/appends/test_artifacts_of_a_flow.py"
        "::test_an_artifact_belongs_to_the_flow_that_stored_it_first[postgres]"
    ),
    "contract/archive/test_archived_flows.py",
    "postgres/archive/test_archive_beside_others.py",
    "postgres/archive/test_killed_archives.py",
    "postgres/archive/test_room.py",
    "postgres/archive/test_uses.py",
    "postgres/archive/test_wall.py",  # on Citus: postgres/schema/test_citus_archive.py
)
"""Tests that do not hold on Citus, where each flow that stores an artifact has a row of it, which
stays when the flow is archived."""


STORES_ON_A_SERVER = {"postgres", "desk_on_postgres", "desk_distributed"}
"""Fixtures that a parameter of a test names, so that pytest does not know that it uses them."""


OWN_DATABASE = (
    "documentation/",
    "postgres/admin/test_doctor.py",
    "postgres/admin/test_doctor_of_a_server.py",
    "postgres/admin/test_roles.py",
    "postgres/append/repeats/test_event_ids_of_long_flows.py",
    "postgres/append/test_late_commits.py",
    "postgres/append/test_lost_history.py",
    "postgres/archive/test_killed_archives.py",
    "postgres/archive/test_room.py",
    "postgres/leases/test_claim_plans.py",
    "postgres/read/events/test_hostile_rows.py",
    "postgres/read/events/test_undecodable_rows.py",
    "postgres/read/models/test_kept_plans.py",
    "postgres/read/models/test_plans.py",
    "postgres/schema/",
    "torture/",
)
"""Tests whose database no other test had: each changes catalogs, or looks at files, plans,
statistics of the server or at all sessions."""


def mark_needs(items: Sequence[pytest.Item]) -> None:
    """Mark the tests that use the run's server, and those that these lists name."""
    superusers = tuple(f"{file}::{name}" for file, names in SUPERUSERS.items() for name in names)
    for item in items:
        if _uses_the_server(item):
            item.add_marker("database")
        if _path(item).startswith(OWN_DATABASE):
            item.add_marker("own_database")
        if _path(item).startswith(ONE_ROW):
            item.add_marker("one_row")
        if _path(item).startswith(superusers):
            item.add_marker("superuser")


def mark_groups(items: Sequence[pytest.Item]) -> None:
    """Keep the tests of a file in one process if they share a fixture, or are short."""
    for item in items:
        if _path(item).startswith(PARSING):
            item.add_marker(pytest.mark.xdist_group("shape"))
        elif _path(item).startswith(SHORT) or _shares_a_fixture(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _path(item: pytest.Item) -> str:
    return item.nodeid.removeprefix("tests/")


def _uses_the_server(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return "server" in item.fixturenames or any(
        isinstance(given, str) and given in STORES_ON_A_SERVER for given in parameters.values()
    )


def _shares_a_fixture(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    definitions = item._fixtureinfo.name2fixturedefs
    return any(
        found[-1].scope == "module" and not name.startswith("_")
        for name, found in definitions.items()
    )


def reasons_to_leave_out() -> dict[str, str]:
    """Return the markers whose tests this run must leave out, each with the reason."""
    reasons = {}
    if not os.environ.get("CHEM_TEST_CITUS"):
        reasons["citus"] = "no Citus cluster is here (CHEM_TEST_CITUS)"
    else:
        reasons["one_row"] = "on Citus an artifact has a row in each flow that stores it, and stays"
    if os.environ.get("CHEM_TEST_ROLE"):
        reasons["superuser"] = "they need a superuser"
    if tls_programs() is None and not os.environ.get("CHEM_TEST_TLS"):
        reasons["tls"] = "no PostgreSQL with OpenSSL is found"
    if chromium() is None:
        reasons["browser"] = "no Chromium is found, or CHEM_TEST_BROWSER=none"
    if pgbouncer_program() is None:
        reasons["pgbouncer"] = "no PgBouncer is found"
    if not slurm_answers():
        reasons["slurm"] = "no Slurm answers (SLURM_CONF)"
    if missing := [name for name in SCIENCE if find_spec(name) is None]:
        reasons["science"] = f"not installed: {', '.join(missing)} (pip install -e '.[science]')"
    if not os.environ.get("CHEM_TEST_CRATE"):
        reasons["crate"] = "no validator of RO-Crates is named (make crate)"
    return reasons
