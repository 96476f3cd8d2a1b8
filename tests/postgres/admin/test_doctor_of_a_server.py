"""What doctor finds about a whole server, started for the test."""

from pathlib import Path

import asyncpg
import pytest

from chem_persistence import PoolProvider, build_pool, embedded_postgres
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity

BURN_IDS = """
BEGIN;
CREATE TEMPORARY TABLE burnt (id integer);
DO $$
BEGIN
    FOR id IN 1..210000 LOOP
        BEGIN
            INSERT INTO burnt VALUES (id);
        EXCEPTION WHEN OTHERS THEN
            RAISE;
        END;
    END LOOP;
END
$$;
"""


async def bad(url: str) -> list[CheckResult]:
    async with await build_pool(url, max_size=1) as pool:
        results = await examine(PoolProvider(pool), "public")
    return [result for result in results if result.severity in {Severity.WARNING, Severity.ERROR}]


async def configure(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.mark.slow
async def test_settings_that_risk_the_log_are_found_and_can_be_reset(tmp_path: Path) -> None:
    risky = ["fsync", "full_page_writes", "autovacuum"]
    async with embedded_postgres(tmp_path) as url:
        await configure(url, *(f"ALTER SYSTEM SET {setting} = off" for setting in risky))
    async with embedded_postgres(tmp_path) as url:
        found = await bad(url)
        assert [(result.check, result.severity) for result in found] == [
            ("settings", Severity.ERROR)
        ] * 3
        assert [result.finding.partition(" is off: ")[0] for result in found] == risky
        await configure(url, *(part for result in found for part in str(result.remedy).split("; ")))
    async with embedded_postgres(tmp_path) as url:
        assert await bad(url) == []


@pytest.mark.slow
async def test_transaction_ids_that_nobody_frees_are_found(tmp_path: Path) -> None:
    async with embedded_postgres(tmp_path) as url:
        await configure(url, "ALTER SYSTEM SET autovacuum_freeze_max_age = 100000")
    async with embedded_postgres(tmp_path) as url:
        holder = await asyncpg.connect(url)
        await holder.execute(
            BURN_IDS
        )  # and keep the transaction open, so that VACUUM cannot free the ids
        found = await bad(url)
        await holder.close()
    assert {(result.check, result.severity) for result in found} == {
        ("wraparound", Severity.WARNING)
    }
    assert any(
        "the oldest transaction ids of database postgres are 2" in result.finding
        for result in found
    )
    assert found[0].remedy == "vacuumdb --all --freeze # as a superuser"
