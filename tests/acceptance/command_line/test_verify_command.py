"""`python -m chem_persistence verify`, as an auditor types it."""

import asyncio
import hashlib
import json
import subprocess
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chem_persistence import Artifact, PgEventStore, PoolProvider, build_pool
from tests.support.commands import command
from tests.support.flows.flows import new_flow_id, whole_history

ROOT = Path(__file__).parents[3]


async def verify(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return await command("verify", *arguments)


@pytest.fixture
async def log_url(database_url: str) -> str:
    """Return the URL of a log of two flows."""
    artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    async with await build_pool(database_url) as pool:
        store = PgEventStore(PoolProvider(pool))
        for _ in range(2):
            await store.append_kinds(new_flow_id(), whole_history(artifact), artifacts=[artifact])
    return database_url


async def tamper(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(statement)
    await connection.close()


async def test_a_clean_log_is_said_to_be_clean(log_url: str) -> None:
    done = await verify("--database-url", log_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 flows, 16 events, 1 artifact verified\nclean\n"


async def test_a_changed_event_is_named_and_the_exit_code_is_1(log_url: str) -> None:
    await tamper(log_url, "UPDATE event_log SET ts = ts + interval '1 s' WHERE version = 3")
    done = await verify("--database-url", log_url)
    assert (done.returncode, done.stderr) == (1, "")
    first, second, walked, count = done.stdout.splitlines()
    assert "version 3: altered:" in first
    assert "version 3: altered:" in second
    assert (walked, count) == ("2 flows, 16 events, 1 artifact verified", "2 findings")


async def test_a_flow_is_named_by_a_beginning_of_its_id(log_url: str) -> None:
    connection = await asyncpg.connect(log_url)
    flow_id = str(
        await connection.fetchval("SELECT flow_id FROM event_log ORDER BY seq DESC LIMIT 1")
    )
    await connection.close()
    for name in (flow_id[:-1], flow_id, flow_id.upper()):
        done = await verify("--database-url", log_url, "--flow", name, "--flow", flow_id)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "1 flow, 8 events, 0 artifacts verified\nclean\n"


async def test_what_is_left_of_a_flow_without_its_first_event_is_found(log_url: str) -> None:
    connection = await asyncpg.connect(log_url)
    flow_id = str(await connection.fetchval("SELECT flow_id FROM event_log LIMIT 1"))
    await connection.close()
    await tamper(log_url, "DELETE FROM event_log WHERE version = 0")
    done = await verify("--database-url", log_url, "--flow", flow_id)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("1 finding\n")


async def test_json_is_one_object(log_url: str) -> None:
    done = await verify("--database-url", log_url, "--json")
    assert json.loads(done.stdout) == {
        "progress": {"flows": 2, "events": 16, "artifacts": 1},
        "findings": [],
        "archived": 0,
    }


class Keys:
    """A pair of PEM files."""

    def __init__(self, directory: Path, name: str) -> None:
        key = Ed25519PrivateKey.generate()
        self.private, self.public = (
            directory / f"{name}.private.pem",
            directory / f"{name}.public.pem",
        )
        self.private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )


async def test_signed_anchors_prove_that_nothing_was_cut(log_url: str, tmp_path: Path) -> None:
    keys, anchors = Keys(tmp_path, "auditor"), tmp_path / "anchors.jsonl"
    written = await verify(
        "--database-url", log_url, "--write-anchors", anchors, "--sign-with", keys.private
    )
    assert (written.returncode, written.stderr) == (0, "")
    compared = await verify(
        "--database-url", log_url, "--anchors", anchors, "--public-key", keys.public
    )
    assert (compared.returncode, compared.stderr) == (0, "")
    await tamper(log_url, "DELETE FROM event_log WHERE version = 7")
    cut = await verify("--database-url", log_url, "--anchors", anchors, "--public-key", keys.public)
    assert cut.returncode == 1
    assert cut.stdout.count("version 7: truncated: 1 anchored events are gone") == 2


@pytest.mark.parametrize("is_compared", [True, False])
async def test_a_run_that_found_something_leaves_the_anchors_as_they_were(
    log_url: str, tmp_path: Path, *, is_compared: bool
) -> None:
    anchors = tmp_path / "anchors.jsonl"
    await verify("--database-url", log_url, "--write-anchors", anchors)
    evidence = anchors.read_bytes()
    await tamper(log_url, f"DELETE FROM event_log WHERE version = {7 if is_compared else 3}")
    arguments = ("--anchors", anchors) if is_compared else ()
    for _ in range(2):
        done = await verify("--database-url", log_url, *arguments, "--write-anchors", anchors)
        assert (done.returncode, done.stderr) == (
            1,
            f"{anchors} is left as it was: something was found\n",
        )
    assert anchors.read_bytes() == evidence
    assert list(tmp_path.iterdir()) == [anchors]


async def test_a_run_that_found_something_writes_no_anchors(log_url: str, tmp_path: Path) -> None:
    await tamper(log_url, "DELETE FROM event_log WHERE version = 3")
    anchors = tmp_path / "anchors.jsonl"
    done = await verify("--database-url", log_url, "--write-anchors", anchors)
    assert (done.returncode, done.stderr) == (1, f"{anchors} is not written: something was found\n")
    assert list(tmp_path.iterdir()) == []


async def test_anchors_that_nobody_signed_are_refused(log_url: str, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.jsonl"
    await verify("--database-url", log_url, "--write-anchors", anchors)
    await see_refused(log_url, anchors, Keys(tmp_path, "auditor"), "is not signed")


async def test_anchors_that_were_signed_by_another_are_refused(
    log_url: str, tmp_path: Path
) -> None:
    anchors = tmp_path / "anchors.jsonl"
    await verify(
        "--database-url",
        log_url,
        "--write-anchors",
        anchors,
        "--sign-with",
        Keys(tmp_path, "eve").private,
    )
    await see_refused(log_url, anchors, Keys(tmp_path, "auditor"), "is not signed with this key")


async def test_signed_anchors_that_were_changed_are_refused_although_their_sum_fits(
    log_url: str, tmp_path: Path
) -> None:
    """Remove a flow and recompute the sum, as someone does who has deleted that flow."""
    keys, anchors = Keys(tmp_path, "auditor"), tmp_path / "anchors.jsonl"
    await verify("--database-url", log_url, "--write-anchors", anchors, "--sign-with", keys.private)
    heading, _, kept, register, ending = anchors.read_bytes().splitlines(keepends=True)
    digest = hashlib.sha256(heading + kept + register).hexdigest()
    forged = json.dumps({**json.loads(ending), "flows": 1, "sha256": digest})
    anchors.write_bytes(heading + kept + register + forged.encode() + b"\n")
    await see_refused(log_url, anchors, keys, "is not signed with this key")


async def see_refused(log_url: str, anchors: Path, keys: Keys, reason: str) -> None:
    done = await verify(
        "--database-url", log_url, "--anchors", anchors, "--public-key", keys.public
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: anchors: {anchors} {reason}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["--database-url", "postgresql://nobody@localhost:1/none"],
            3,
            "error: the database is unavailable",
        ),
        (
            ["--database-url", "mysql://localhost/none"],
            2,
            "error: database URL: must begin with postgresql://",
        ),
        (
            ["--database-url", "postgresql://localhost/x", "--sign-with", "k"],
            2,
            "needs --write-anchors, the file to sign",
        ),
    ],
)
async def test_a_mistake_is_one_clear_line(arguments: list[str], code: int, said: str) -> None:
    done = await verify(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_keys_that_the_documentation_makes_sign_and_check_anchors(
    log_url: str, tmp_path: Path
) -> None:
    page = "documentation/explanation/the-hash-chain.md"
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    makes = [line.removeprefix("$ ") for line in lines if "openssl " in line]
    await asyncio.to_thread(
        subprocess.run, "\n".join(makes), shell=True, cwd=tmp_path, capture_output=True, check=True
    )
    anchors, private, public = (
        tmp_path / name for name in ("anchors", "private.pem", "public.pem")
    )
    signed = await verify(
        "--database-url", log_url, "--write-anchors", anchors, "--sign-with", private
    )
    assert (signed.returncode, signed.stderr) == (0, "")
    checked = await verify("--database-url", log_url, "--anchors", anchors, "--public-key", public)
    assert (checked.returncode, checked.stderr) == (0, "")
