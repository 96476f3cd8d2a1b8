"""The TLS files for a program between a client and the tests' server, to encrypt both sides."""

import ssl
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

__all__ = ["TlsEnds", "tls_ends"]


class TlsEnds(msgspec.Struct, frozen=True):
    """The server's certificate and key, to show to clients, its host, and its root certificate."""

    host: str
    root: Path
    certificate: Path
    key: Path

    def towards_clients(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def towards_the_server(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.root)


def tls_ends(url: str) -> TlsEnds | None:
    """Return the files of the server in `tls_server`; None if the URL requires no verified TLS."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if query.get("sslmode") != ["verify-full"] or parts.hostname is None:
        return None
    root = Path(query["sslrootcert"][0])
    server = root.parent / "server"
    return TlsEnds(parts.hostname, root, server / "server.crt", server / "server.key")
