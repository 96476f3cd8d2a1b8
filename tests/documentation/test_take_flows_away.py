"""The how-to of bundles restores a damaged artifact, as its page shows."""

import asyncio
import zipfile
from pathlib import Path

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    PgEventStore,
    PoolProvider,
    Tampering,
    import_bundle,
    verify_log,
)
from tests.support.bundles import exported, small_store
from tests.support.pages.pages import DOCUMENTATION, blocks
from tests.support.servers.client_programs import client_programs

PAGE = DOCUMENTATION / "how-to" / "take-flows-away.md"
JSON = Artifact.from_payload(kind="Energy", payload={"hartree": -154.9, "é": [1, 2.5]})
LARGE_JSON = Artifact.from_payload(kind="Grid", payload=["point"] * 200_000)
BINARY = Artifact.from_content(kind="Image", content=b"\0\xff'" * 99, media_type="image/png")
DAMAGE = """
    UPDATE workflow_step_artifacts
    SET payload = CASE WHEN payload IS NOT NULL THEN '"other"'::jsonb END,
        content = CASE WHEN content IS NOT NULL THEN 'other'::bytea END
    WHERE artifact_hash = $1
"""


@pytest.mark.parametrize("artifact", [JSON, LARGE_JSON, BINARY], ids=lambda each: each.kind)
async def test_a_damaged_artifact_is_restored_from_a_bundle(
    admin_url: str, provider: PoolProvider, tmp_path: Path, artifact: Artifact
) -> None:
    there, store = await small_store(artifacts=(artifact,)), PgEventStore(provider)
    await exported(there, tmp_path / "run.zip")
    await import_bundle(store, tmp_path / "run.zip")
    connection = await asyncpg.connect(admin_url)
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(DAMAGE, artifact.hash)
    await connection.close()
    (finding,) = (await verify_log(provider)).findings
    assert finding.tampering is Tampering.ARTIFACT_ALTERED
    (script,) = [block.text for block in blocks(PAGE) if block.title == "restore.sql"]
    (tmp_path / "restore.sql").write_text(script, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        (tmp_path / "body").write_bytes(archive.read(f"artifacts/{artifact.hash}"))
    psql = await asyncio.create_subprocess_exec(
        *(str(client_programs(admin_url) / "psql"), admin_url, "-X", "-v", "ON_ERROR_STOP=1"),
        *("-v", f"hash={artifact.hash}", "-f", "restore.sql"),
        cwd=tmp_path,
    )
    assert await psql.wait() == 0
    assert (await verify_log(provider)).findings == []
    assert await store.get_artifact(artifact.hash) == artifact
