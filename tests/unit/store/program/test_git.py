"""The commit that is checked out is read from git's own files as git itself reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from chem_persistence.store.program.git import checked_out_commit


def git(directory: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "gc.auto=0")
    run = subprocess.run(
        ["git", *settings, *arguments], cwd=directory, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    (made / "src").mkdir(parents=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    git(made, "commit", "--quiet", "--allow-empty", "--message=one")
    return made


def test_the_commit_of_a_branch_is_found_from_a_folder_inside(repository: Path) -> None:
    assert checked_out_commit(repository / "src") == git(repository, "rev-parse", "HEAD")


def test_the_commit_is_found_when_references_are_packed_or_head_is_detached(
    repository: Path,
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    assert checked_out_commit(repository) == first
    git(repository, "commit", "--quiet", "--allow-empty", "--message=two")
    assert checked_out_commit(repository) != first
    git(repository, "checkout", "--quiet", "--detach", first)
    assert checked_out_commit(repository) == first


def test_a_worktree_has_its_own_commit(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "other"))
    git(tmp_path / "other", "commit", "--quiet", "--allow-empty", "--message=two")
    assert checked_out_commit(tmp_path / "other") == git(tmp_path / "other", "rev-parse", "HEAD")
    assert checked_out_commit(repository) == git(repository, "rev-parse", "HEAD")


def test_what_cannot_be_read_is_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    assert checked_out_commit(tmp_path) is None  # there is none yet
    (tmp_path / ".git" / "HEAD").write_text("ref: HEAD\n", encoding="utf-8")
    assert checked_out_commit(tmp_path) is None
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff")
    assert checked_out_commit(tmp_path) is None
    shutil.rmtree(tmp_path / ".git")
    (tmp_path / ".git").write_text("gitdir: nowhere\n", encoding="utf-8")
    assert checked_out_commit(tmp_path) is None
