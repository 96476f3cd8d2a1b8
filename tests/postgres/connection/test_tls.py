"""TLS as the URL requests it: only a server with the right certificate is trusted."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import pytest_asyncio

from chem_persistence import (
    InvalidDatabaseUrl,
    PgEventStore,
    PoolProvider,
    StoreError,
    StoreUnavailable,
    build_pool,
)
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.tls import PASSWORD, Authority, serving

pytestmark = pytest.mark.tls


class TlsServer(msgspec.Struct, frozen=True):
    """A server that accepts TLS only on TCP, and the authority that signed its certificate."""

    place: str
    root: Path

    def url(self, parameters: str, *, host: str | None = None) -> str:
        """Return a superuser's URL, with the server's address or another host name."""
        place = self.place if host is None else f"{host}:{self.place.rpartition(':')[2]}"
        return f"postgresql://postgres:{PASSWORD}@{place}/postgres?{parameters}"

    def verified(
        self, mode: str = "verify-full", *, root: Path | None = None, host: str | None = None
    ) -> str:
        """Return a URL that verifies the server against a root certificate."""
        return self.url(
            f"sslmode={mode}&sslrootcert={quote(str(root or self.root), safe='')}", host=host
        )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trusted(directory: Path) -> AsyncIterator[TlsServer]:
    """Yield a server with a certificate for its address, but for no host name."""
    authority = Authority(directory / "root.crt")
    async with serving(directory / "server", authority, "127.0.0.1") as place:
        yield TlsServer(place, authority.path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def expired(directory: Path) -> AsyncIterator[TlsServer]:
    """Yield a server whose certificate expired half a day ago."""
    authority = Authority(directory / "expired_root.crt")
    async with serving(directory / "expired", authority, "127.0.0.1", expired=True) as place:
        yield TlsServer(place, authority.path)


async def refusal(url: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await build_pool(url)
    assert not isinstance(caught.value, StoreUnavailable), "nothing that passes by itself"
    assert PASSWORD not in str(caught.value)
    return caught.value


async def test_verify_full_gives_a_store_whose_connections_are_encrypted(
    trusted: TlsServer,
) -> None:
    async with await build_pool(trusted.verified()) as pool:
        query = "SELECT ssl AND version = 'TLSv1.3' FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert await pool.fetchval(query) is True
        store = PgEventStore(PoolProvider(pool))
        event = await store.append_kind(new_flow_id(), initialized())
        assert await store.list(event.flow_id) == [event]


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
async def test_a_certificate_of_another_authority_is_refused(
    trusted: TlsServer, directory: Path, mode: str
) -> None:
    """A named root certificate is checked with sslmode=require too, as libpq does."""
    other = Authority(directory / "other_root.crt")
    assert "CERTIFICATE_VERIFY_FAILED" in str(
        await refusal(trusted.verified(mode, root=other.path))
    )


async def test_a_certificate_for_another_host_is_refused(trusted: TlsServer) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in str(await refusal(trusted.verified(host="localhost")))


async def test_verify_ca_does_not_look_at_the_host(trusted: TlsServer) -> None:
    async with await build_pool(trusted.verified("verify-ca", host="localhost")) as pool:
        assert await pool.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


async def test_an_expired_certificate_is_refused(expired: TlsServer) -> None:
    assert "expired" in str(await refusal(expired.verified()))


async def test_a_server_that_insists_on_tls_refuses_a_client_without(trusted: TlsServer) -> None:
    error = await refusal(trusted.url("sslmode=disable"))
    assert error.sqlstate == "28000"
    assert "no encryption" in str(error)


async def test_a_client_that_insists_on_tls_refuses_a_certificate_without_a_root_to_verify_it(
    trusted: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidDatabaseUrl, match="root certificate"):
        await build_pool(trusted.url("sslmode=verify-full"))


async def test_a_client_certificate_is_sent(trusted: TlsServer, directory: Path) -> None:
    authority = Authority(directory / "clients.crt")
    authority.certify(directory, name="client")
    client = (
        f"&sslcert={quote(f'{directory}/client.crt')}&sslkey={quote(f'{directory}/client.key')}"
    )
    async with await build_pool(trusted.verified() + client) as pool:
        assert await pool.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


NOWHERE = "postgresql://ada:argon-18@127.0.0.1:1/lab?sslmode=verify-full"


@pytest.mark.parametrize("keyword", ["sslrootcert", "sslcrl"])
@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_a_file_that_is_missing_or_no_certificate_is_a_mistake_in_the_url(
    tmp_path: Path, keyword: str, content: str | None
) -> None:
    path = tmp_path / "benzene.crt"
    if content is not None:
        path.write_text(content)
    await see_mistake(f"{NOWHERE}&{keyword}={quote(str(path))}", keyword)


async def test_a_missing_client_certificate_is_a_mistake_in_the_url(tmp_path: Path) -> None:
    await see_mistake(f"{NOWHERE}&sslcert={quote(f'{tmp_path}/benzene.crt')}", "sslcert")


async def test_a_missing_key_is_a_mistake_in_the_url(tmp_path: Path) -> None:
    Authority(tmp_path / "root.crt").certify(tmp_path, name="client")
    await see_mistake(
        f"{NOWHERE}&sslcert={quote(f'{tmp_path}/client.crt')}"
        f"&sslkey={quote(f'{tmp_path}/benzene.key')}",
        "sslkey",
    )


async def test_the_key_of_another_certificate_is_a_mistake_in_the_url(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "root.crt")
    authority.certify(tmp_path, name="client")
    authority.certify(tmp_path, name="other")
    await see_mistake(
        f"{NOWHERE}&sslcert={quote(f'{tmp_path}/client.crt')}"
        f"&sslkey={quote(f'{tmp_path}/other.key')}",
        "sslkey",
    )


async def test_a_file_that_the_mode_does_not_need_is_not_looked_for() -> None:
    with pytest.raises(StoreUnavailable):
        await build_pool(
            "postgresql://ada@127.0.0.1:1/lab?sslmode=disable&sslrootcert=/nowhere&sslcert=/nowhere"
        )


async def test_a_file_from_the_environment_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "benzene.crt"))
    await see_mistake(NOWHERE, "sslrootcert")


async def see_mistake(url: str, keyword: str) -> None:
    with pytest.raises(InvalidDatabaseUrl, match=keyword) as caught:
        await build_pool(url)
    assert "benzene" not in str(caught.value)
    assert "argon-18" not in str(caught.value)
