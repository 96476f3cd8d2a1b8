"""`make up` prints the address that Compose really published, and says what it needs.

A stub stands for `docker`: few machines that run the tests have Docker with Compose 2.
"""

import os
import subprocess
from pathlib import Path

from tests.support.pages.pages import REPOSITORY

COMPOSE = """\
#!/bin/sh
case "$*" in
  "compose port postgres 5432") echo "127.0.0.1:${CHEM_POSTGRES_PORT:-5432}" ;;
esac
"""
NO_COMPOSE = """\
#!/bin/sh
echo "docker: unknown command: docker compose" >&2
exit 1
"""


def make(target: str, folder: Path, docker: str, **environment: str) -> tuple[int, str, str]:
    """Run a target with this text as the program `docker`."""
    program = folder / "docker"
    program.write_text(docker, encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=REPOSITORY,
        env={**os.environ, **environment, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_up_prints_the_port_that_was_chosen(tmp_path: Path) -> None:
    printed = make("up", tmp_path, COMPOSE, CHEM_POSTGRES_PORT="5499")
    url = "postgresql://chem:${CHEM_POSTGRES_PASSWORD:-chem_dev}@127.0.0.1:5499/chem"
    assert printed == (0, f"export DATABASE_URL={url}\n", "")


def test_up_never_prints_a_password_of_the_environment(tmp_path: Path) -> None:
    _, printed, _ = make("up", tmp_path, COMPOSE, CHEM_POSTGRES_PASSWORD="hidden-away")
    assert "hidden-away" not in printed


def test_without_compose_a_target_says_what_it_needs(tmp_path: Path) -> None:
    for target in ("up", "down"):
        code, printed, error = make(target, tmp_path, NO_COMPOSE)
        assert (code, printed) == (2, "")
        assert error.startswith("error: this target needs Docker with Compose 2 (https://")
        assert "unknown command" not in error
