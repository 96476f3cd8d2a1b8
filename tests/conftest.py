"""The server of the run, named in the header, and fixtures with a fresh database per test."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from chem_persistence import PoolProvider
from tests.support.lending import close_lenders
from tests.support.servers.backends import (
    Backend,
    memory_backend,
    migrated_pool,
    postgres_backend,
    way_to,
)
from tests.support.servers.citus import CITUS_HELP
from tests.support.servers.selection import (
    BROWSER_HELP,
    CRATE_HELP,
    DATABASE_HELP,
    OWN_DATABASE_HELP,
    PGBOUNCER_HELP,
    SCIENCE_HELP,
    SLURM_HELP,
    SUPERUSER_HELP,
    TLS_HELP,
    mark_groups,
    mark_needs,
    reasons_to_leave_out,
)
from tests.support.servers.server import TestServer, check_choices, running_server

if TYPE_CHECKING:
    import asyncpg
    from xdist.workermanage import WorkerController

SERVER = pytest.StashKey[TestServer]()
LEFT_OUT = pytest.StashKey[dict[str, int]]()
FOLDER = pytest.StashKey[Path]()
"""The run's own folder. pytest makes its default folder private at the start of every run, which
would shut out the servers that another run, by root, has started there as another user."""

LONGEST_NAME = 80
"""The longest value of a parameter, in characters, that names its test."""

RUNNING = pytest.StashKey[AbstractContextManager[TestServer]]()


def started(config: pytest.Config) -> TestServer:
    """Return the server of the run; start it first if nothing has asked for it yet."""
    if SERVER not in config.stash and "server" in worker_input(config):
        config.stash[SERVER] = msgspec.json.decode(worker_input(config)["server"], type=TestServer)
    if SERVER not in config.stash:
        running = running_server()
        config.stash[SERVER] = running.__enter__()
        config.stash[RUNNING] = running
    return config.stash[SERVER]


def worker_input(config: pytest.Config) -> dict[str, str]:
    """Return what pytest-xdist's controller gave to this process; nothing if it is no worker."""
    given: dict[str, str] = getattr(config, "workerinput", {})
    return given


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: "WorkerController") -> None:
    """Share the controller's server with a worker of pytest-xdist."""
    node.workerinput["server"] = msgspec.json.encode(started(node.config)).decode()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: "WorkerController") -> None:
    """Keep the counts of one worker: every worker collects all tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job of a shell's background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # programs inherit what is ignored
    os.environ.pop("COLUMNS", None)  # pytest-xdist sets it; tests set the widths that they need
    # several hundred processes are started, each of which would compile the package for itself
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    check_choices()
    if config.option.basetemp is None and "server" not in worker_input(config):
        config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="chem-persistence-pytest-"))
        config.option.basetemp = config.stash[FOLDER] / "run"
    config.addinivalue_line("markers", f"database: {DATABASE_HELP}")
    config.addinivalue_line("markers", f"superuser: {SUPERUSER_HELP}")
    config.addinivalue_line("markers", f"browser: {BROWSER_HELP}")
    config.addinivalue_line("markers", f"science: {SCIENCE_HELP}")
    config.addinivalue_line("markers", f"crate: {CRATE_HELP}")
    config.addinivalue_line("markers", f"tls: {TLS_HELP}")
    config.addinivalue_line("markers", f"pgbouncer: {PGBOUNCER_HELP}")
    config.addinivalue_line("markers", f"slurm: {SLURM_HELP}")
    config.addinivalue_line("markers", f"citus: {CITUS_HELP}")
    config.addinivalue_line("markers", f"own_database: {OWN_DATABASE_HELP}")
    config.addinivalue_line("markers", "one_row: does not hold on Citus; left out there")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while tests are collected: a fifth of the time, and all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Mark the tests, and leave out those that cannot run here, before pytest-xdist groups them.

    Raises:
        pytest.UsageError: if it does not group them; each worker would build the shared fixtures.
    """
    mark_needs(items)
    if worker_input(config):
        mark_groups(items)
    reasons = reasons_to_leave_out()
    left = [item for item in items if any(mark.name in reasons for mark in item.iter_markers())]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
    config.stash[LEFT_OUT] = {
        marker: sum(item.get_closest_marker(marker) is not None for item in left)
        for marker in reasons
    }
    yield
    grouped = [item for item in items if item.get_closest_marker("xdist_group")]
    if getattr(config.option, "loadgroup", False) and any("@" not in i.nodeid for i in grouped):
        raise pytest.UsageError("this pytest-xdist does not keep the groups of this pytest")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name what is long by its beginning: every worker sends each name several times."""
    if not isinstance(val, str | bytes) or len(val) <= LONGEST_NAME:
        return None
    beginning = val[: LONGEST_NAME // 2]
    text = beginning if isinstance(beginning, str) else beginning.decode("ascii", "replace")
    return f"{text.encode('unicode_escape').decode()}... {len(val)} long"


def pytest_collection_finish() -> None:
    """Exclude the objects of the imports from later collections, so that these cost little."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Report to the controller how many tests this worker left out."""
    output = getattr(session.config, "workeroutput", {})
    output["left_out"] = session.config.stash.get(LEFT_OUT, {})


def pytest_report_header(config: pytest.Config) -> str:
    server = started(config)
    through = ", through PgBouncer" * bool(os.environ.get("CHEM_TEST_PGBOUNCER"))
    return f"database: {server.label}, as {server.role}{through}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    reasons = reasons_to_leave_out()
    for marker, count in config.stash.get(LEFT_OUT, {}).items():
        terminalreporter.write_line(f"{count} tests left out: {reasons[marker]}")


def pytest_unconfigure(config: pytest.Config) -> None:
    close_lenders()
    if FOLDER in config.stash:
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)
    if RUNNING in config.stash:
        config.stash[RUNNING].__exit__(None, None, None)


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """Make a file's tests fail for what they left open, not a later test that collects it.

    The log records of the last test keep its objects alive until the next test begins. What is
    alive then, such as the syntax trees that the tests of the house rules read, belongs to no test
    of this file: it is excluded from the collections, each of which would pass through all of it.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> TestServer:
    return started(pytestconfig)


@pytest.fixture
async def admin_url(request: pytest.FixtureRequest, server: TestServer) -> AsyncIterator[str]:
    """Yield a superuser's URL of a migrated, empty database.

    Other tests had it before, unless the test is marked `own_database`.
    """
    if request.node.get_closest_marker("own_database") is not None:
        opened = server.database()
    else:
        opened = server.lent(distributed=is_distributed(request.node))
    async with opened as url:
        yield url


def is_distributed(item: pytest.Item) -> bool:
    """Return whether a parameter of a test asks for the texts that Citus runs."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(isinstance(given, str) and given == "desk_distributed" for given in parameters)


@pytest.fixture
def database_url(server: TestServer, admin_url: str) -> str:
    """Return the URL of the same database for the role that the tests connect as."""
    return server.as_tested(admin_url)


@pytest.fixture
async def empty_database_url(server: TestServer) -> AsyncIterator[str]:
    """Yield a superuser's URL of a database without any table."""
    async with server.database(template="template0") as url:
        yield url


@pytest.fixture
async def pool(database_url: str) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    async with way_to(database_url) as url, await migrated_pool(url, max_size=20) as pool:
        yield pool


@pytest.fixture
def provider(pool: "asyncpg.Pool[asyncpg.Record]") -> PoolProvider:
    return PoolProvider(pool)


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[Backend]:
    async with way_to(database_url) as url, postgres_backend(url) as backend:
        yield backend


@pytest.fixture
def memory() -> Backend:
    return memory_backend()


@pytest.fixture(params=["memory", "postgres"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return each store in turn."""
    backend: Backend = request.getfixturevalue(request.param)
    return backend
