"""Web servers that are not Node-RED: where a page that means harm is served from, or a name that is not ours."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from redlatch.pki.authority import Authority
from redlatch.pki.certificates import ServerPair, server_pem
from redlatch.pki.keys import Key, generate_key


class _Page(BaseHTTPRequestHandler):
    """An empty page for every address."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>page</title><body></body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing on the test's output."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that does not like the certificate hangs up: nothing to report."""


@contextmanager
def web_site(
    folder: Path, authority: Authority, names: Sequence[str], *, addresses: Sequence[str] = ()
) -> Iterator[int]:
    """An https server with empty pages; yields its port. Its certificate names `names`, allowed or not."""
    pair = folder / f"{names[0]}.pem"
    pair.write_bytes(server_pem(certificate_for(authority, names, addresses)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    server = _Server(("127.0.0.1", 0), _Page)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate_for(authority: Authority, names: Sequence[str], addresses: Sequence[str] = ()) -> ServerPair:
    """A server certificate for `names`, also for those that redlatch itself would refuse to issue."""
    key = generate_key()
    if all(authority.covers(name) for name in names):
        return ServerPair(key, authority.issue_server(key.public_key(), names, addresses, now=datetime.now(UTC)))
    return ServerPair(key, _against_the_constraints(authority, key, names))


def _against_the_constraints(authority: Authority, key: Key, names: Sequence[str]) -> x509.Certificate:
    """What a thief of the server CA's key would make."""
    assert authority.key is not None
    now = datetime.now(UTC)
    issuer = authority.certificate
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(authority.key, SHA256())
    )
