"""`make up` prints the address that Compose really published, and says what it needs.

A stub stands for `docker`: few machines that run the tests have Docker with Compose 2.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.pages.pages import REPOSITORY

COMPOSE = """\
#!/bin/sh
case "$*" in
  "compose port postgres 5432") echo "${PUBLISHED:-127.0.0.1:5432}" ;;
esac
"""
NO_COMPOSE = """\
#!/bin/sh
echo "docker: unknown command: docker compose" >&2
exit 1
"""
OLD_DOCKER = """\
#!/bin/sh
printf 'unknown shorthand flag: d in -d\\n\\nUsage:  docker [OPTIONS] COMMAND [ARG...]\\n' >&2
exit 125
"""
NO_DOCKER = """\
#!/bin/sh
exit 127
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


@pytest.mark.parametrize("published", ["127.0.0.1:5499", "127.0.0.1:61000", "0.0.0.0:32768"])
def test_27_up_prints_the_address_that_compose_published(tmp_path: Path, published: str) -> None:
    printed = make("up", tmp_path, COMPOSE, PUBLISHED=published)
    url = f"postgresql://chem:${{CHEM_POSTGRES_PASSWORD:-chem_dev}}@{published}/chem"
    assert printed == (0, f"export DATABASE_URL={url}\n", "")


def test_up_never_prints_a_password_of_the_environment(tmp_path: Path) -> None:
    _, printed, _ = make("up", tmp_path, COMPOSE, CHEM_POSTGRES_PASSWORD="hidden-away")
    assert "hidden-away" not in printed


@pytest.mark.parametrize("target", ["up", "down"])
@pytest.mark.parametrize("docker", [NO_COMPOSE, OLD_DOCKER, NO_DOCKER])
def test_27_without_compose_a_target_says_what_it_needs(
    tmp_path: Path, docker: str, target: str
) -> None:
    code, printed, error = make(target, tmp_path, docker)
    assert (code, printed) == (2, "")
    assert error.startswith("error: this target needs Docker with Compose 2 (https://")
    assert error.count("\n") == 3, "what is needed, what else there is, and the line of make"
