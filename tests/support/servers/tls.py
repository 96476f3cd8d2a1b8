"""A server that accepts TLS only, and the certificates for it.

The embedded wheel is built without OpenSSL, so the programs are those of an installed PostgreSQL:
in the folder CHEM_TEST_TLS_PROGRAMS, else where Debian, Red Hat and Homebrew install them, the
newest first.
"""

import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chem_persistence import embedded_postgres
from chem_persistence.postgres.embedded import cluster as embedded_cluster
from chem_persistence.postgres.embedded import lease as embedded_lease
from tests.support.made_clusters import give_cluster

__all__ = ["PASSWORD", "Authority", "serving", "tls_programs", "tls_server"]

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
PASSWORD = "triple-bond-1839"
RULES = """\
local all all trust
hostssl all all 127.0.0.1/32 scram-sha-256
"""
SETTINGS = """\
ssl = on
ssl_cert_file = '../server.crt'
ssl_key_file = '../server.key'
password_encryption = 'scram-sha-256'
listen_addresses = '127.0.0.1'
"""
DAY = timedelta(days=1)


class Authority:
    """Signs certificates; its own certificate is in the file `path`."""

    def __init__(self, path: Path, name: str = "Test CA") -> None:
        self.path = path
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = self._builder(self._name, self._key.public_key(), now - DAY, now + DAY)
        certificate = certificate.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        certificate = certificate.add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        self._write(path, certificate)

    def certify(
        self, directory: Path, *hosts: str, expired: bool = False, name: str = "server"
    ) -> None:
        """Write `name`.crt and `name`.key, for host names or addresses, into a directory."""
        key = ec.generate_private_key(ec.SECP256R1())
        end = datetime.now(UTC) + (-DAY / 2 if expired else DAY)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(subject, key.public_key(), end - 2 * DAY, end)
        if hosts:
            names = [
                x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
                for host in hosts
            ]
            certificate = certificate.add_extension(
                x509.SubjectAlternativeName(names), critical=False
            )
        self._write(directory / f"{name}.crt", certificate)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (directory / f"{name}.key").unlink(missing_ok=True)
        (directory / f"{name}.key").touch(mode=0o600)
        (directory / f"{name}.key").write_bytes(pem)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _write(self, path: Path, certificate: x509.CertificateBuilder) -> None:
        signed = certificate.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@asynccontextmanager
async def tls_server(directory: Path) -> AsyncIterator[str]:
    """Run a server certified for 127.0.0.1 and localhost; yield a superuser's verifying URL."""
    authority = Authority(directory / "root.crt")
    async with serving(directory / "server", authority, "127.0.0.1", "localhost") as place:
        yield (
            f"postgresql://postgres:{PASSWORD}@{place}/postgres"
            f"?sslmode=verify-full&sslrootcert={quote(str(authority.path), safe='')}"
        )


@asynccontextmanager
async def serving(
    directory: Path, authority: Authority, *hosts: str, expired: bool = False
) -> AsyncIterator[str]:
    """Run an embedded server that accepts TLS on TCP only; yield its address, `127.0.0.1:port`."""
    programs = tls_programs()
    assert programs is not None, (
        "no PostgreSQL with OpenSSL was found: install one, or set CHEM_TEST_TLS_PROGRAMS"
    )
    port = free_port()
    with listening_with(programs, port):
        await give_cluster(directory, version=programs.parent.name)
        async with embedded_postgres(directory) as url:  # makes the superuser's password
            administrator = await asyncpg.connect(url)
            await administrator.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
            await administrator.close()
    data = directory / "cluster"
    (data / "pg_hba.conf").write_text(RULES, encoding="utf-8")
    (data / "postgresql.auto.conf").write_text(SETTINGS, encoding="utf-8")
    authority.certify(directory, *hosts, expired=expired)
    owner = data.stat()
    os.chown(directory / "server.key", owner.st_uid, owner.st_gid)
    running = embedded_postgres(directory)
    with listening_with(programs, port):
        await running.__aenter__()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await running.__aexit__(None, None, None)


@contextmanager
def listening_with(programs: Path, port: int) -> Iterator[None]:
    """Make embedded servers that start in the block run other programs, on another port."""
    with (
        mock.patch.object(embedded_lease, "_find_programs", return_value=programs),
        mock.patch.object(embedded_cluster, "PORT", port),
    ):
        yield


def tls_programs() -> Path | None:
    """Return the programs of an installed PostgreSQL with TLS, or None."""
    if given := os.environ.get("CHEM_TEST_TLS_PROGRAMS"):
        return Path(given)
    found = [folder for place in PLACES for folder in Path("/").glob(place[1:])]
    found = [
        folder
        for folder in found
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    ]
    return max(
        found, key=lambda folder: int((re.findall(r"\d+", str(folder)) or ["0"])[-1]), default=None
    )


def free_port() -> int:
    """Return a TCP port that is not in use; a Unix socket is named by it too."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
