"""`export`, `import` and `verify BUNDLE`, as a scientist types them."""

import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chem_persistence import StepSignal
from tests.support.bundles import SMALL_FLOW, exported, small_store
from tests.support.commands import command
from tests.support.flows.logged_flows import COMPLETED, FAILED, logged_flows
from tests.support.servers.server import TestServer


def key_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a pair of keys; return the files of the private and the public one."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.private.pem", folder / f"{name}.public.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


async def test_flows_are_carried_to_another_database_and_back_unchanged(
    server: TestServer, admin_url: str, tmp_path: Path
) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    done = await command("export", "aaaa", FAILED, "run.zip", *here, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 flows, 16 events, 2 artifacts in run.zip\nSHA-256 ")
    async with server.database() as url:
        there = ("--database-url", url)
        new = f"flow {COMPLETED}\nflow {FAILED}\n16 new events and 2 new flows, "
        for printed in (new, "0 new events and 0 new flows, "):
            done = await command("import", "run.zip", *there, cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == f"{printed}of 2 flows in the bundle\n"
        done = await command("export", FAILED, COMPLETED, "again.zip", *there, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        done = await command("verify", *there)
        assert done.stdout.endswith("clean\n")
    assert (tmp_path / "run.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()


async def test_what_cannot_be_imported_is_one_line_and_the_exit_code_is_1(
    admin_url: str, tmp_path: Path
) -> None:
    here = ("--database-url", admin_url)
    store = await small_store()
    before = await exported(store, tmp_path / "run.zip")
    (tmp_path / "bad.zip").write_bytes(before.replace(b"tried", b"cried"))
    bad = await command("import", "bad.zip", *here, cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith(f"error: bad.zip: flows/{SMALL_FLOW}/events.jsonl: ")
    await command("import", "run.zip", *here, cwd=tmp_path)
    other = await small_store()
    await other.append_kind(SMALL_FLOW, StepSignal(1, "sleep", "other"))
    await exported(other, tmp_path / "other.zip")
    differs = await command("import", "other.zip", *here, cwd=tmp_path)
    assert (differs.returncode, differs.stdout) == (1, "")
    assert differs.stderr.startswith(f"error: flow {SMALL_FLOW}, version 0: the store has another")


async def test_a_bundle_is_verified_without_a_database(tmp_path: Path) -> None:
    content = await exported(await small_store(), tmp_path / "run.zip")
    sound = await command("verify", "run.zip", cwd=tmp_path)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout.startswith("1 flow, 5 events, 1 artifact verified\nSHA-256 ")
    (tmp_path / "run.zip").write_bytes(content.replace(b"CCO", b"CCN", 1))
    changed = await command("verify", "run.zip", "--json", cwd=tmp_path)
    assert changed.returncode == 1
    (finding,) = json.loads(changed.stdout)["findings"]
    assert finding["reason"] == "is 0x4e, and was 0x4f when it was written"


async def test_the_anchors_in_a_bundle_have_to_be_signed_with_the_key(
    admin_url: str, tmp_path: Path
) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    private, public = key_files(tmp_path, "auditor")
    _, other = key_files(tmp_path, "other")
    await command("verify", *here, "--write-anchors", tmp_path / "a", "--sign-with", private)
    for name, anchors in (("signed.zip", ("--anchors", tmp_path / "a")), ("plain.zip", ())):
        done = await command("export", "aaaa", name, *anchors, *here, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    done = await command("verify", "signed.zip", "--public-key", public, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = await command("verify", "signed.zip", "--public-key", other, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "anchors.jsonl in signed.zip is not signed with this key" in done.stderr
    done = await command("verify", "plain.zip", "--public-key", public, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
