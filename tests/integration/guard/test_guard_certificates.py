"""Who holds the other end: certificates that count and those that don't, on new and on resumed sessions."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.integration.guard.conftest import Lock
from tests.support.clients import Connection, Refused, Response, WebSocket, context, request
from tests.support.site import Device
from tests.support.wait import until

from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem
from redlatch.pki.keys import private_key_pem

TLS = pytest.mark.parametrize("tls", ["1.2", "1.3"])


def foreign(lock: Lock) -> Device:
    other = Authority.create_device("elsewhere", now=datetime.now(UTC))
    return lock.site.device("stranger", authority=other, listed=False)


def same_subject(lock: Lock) -> Device:
    """Issued by another CA with the very name of ours, for the very name of a device of ours."""
    ours = lock.site.device_ca.certificate
    key = Authority.create_device("twin", now=datetime.now(UTC)).key
    assert key is not None
    twin = (
        x509.CertificateBuilder()
        .subject_name(ours.subject)
        .issuer_name(ours.subject)
        .public_key(key.public_key())
        .serial_number(ours.serial_number)
        .not_valid_before(ours.not_valid_before_utc)
        .not_valid_after(ours.not_valid_after_utc)
    )
    for extension in ours.extensions:
        if not isinstance(extension.value, x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier):
            twin = twin.add_extension(extension.value, extension.critical)
    twin = twin.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return lock.site.device(lock.admin.name, authority=Authority(twin.sign(key, SHA256()), key), listed=False)


def unlisted(lock: Lock) -> Device:
    """Of our own CA and with the name of a device that is let in."""
    return lock.site.device(lock.admin.name, listed=False)


@dataclass(frozen=True)
class Chained(Device):
    """Sends further certificates behind its own one."""

    behind: tuple[x509.Certificate, ...] = ()

    @property
    def cert_file(self) -> Path:
        path = self.folder / f"{self.fingerprint[:16]}-chain.pem"
        path.write_bytes(
            b"".join(map(certificate_pem, (self.certificate, *self.behind))) + private_key_pem(self.key, None)
        )
        return path


def borrowed_chain(lock: Lock) -> Device:
    """A stranger's own certificate first, then those of a device that is let in and of our CA."""
    own = foreign(lock)
    behind = (lock.admin.certificate, lock.site.device_ca.certificate)
    return Chained(own.name, own.id, own.certificate, own.key, own.folder, behind)


def own_chain(lock: Lock) -> Device:
    """A stranger's certificate with the stranger's own CA behind it."""
    other = Authority.create_device("elsewhere", now=datetime.now(UTC))
    own = lock.site.device("stranger", authority=other, listed=False)
    return Chained(own.name, own.id, own.certificate, own.key, own.folder, (other.certificate,))


def listed_but_foreign(lock: Lock) -> Device:
    """In the list by mistake, but of a CA that is not ours."""
    return lock.site.device("listed", authority=Authority.create_device("elsewhere", now=datetime.now(UTC)))


def expired(lock: Lock) -> Device:
    return lock.device(begin=timedelta(days=-2), end=timedelta(days=-1))


def not_yet_valid(lock: Lock) -> Device:
    return lock.device(begin=timedelta(days=1), end=timedelta(days=2))


def server_only(lock: Lock) -> Device:
    return lock.device(purpose=ExtendedKeyUsageOID.SERVER_AUTH)


def entry_expired(lock: Lock) -> Device:
    """TLS would take it for a month; the list says that it is over."""
    device = lock.site.device("over", listed=False)
    lock.site.list(device, not_after=lock.site.snapshot.time - 1)
    return device


def revoked(lock: Lock) -> Device:
    device = lock.device()
    assert request(lock.port, "GET", "/hello", device).status == 200
    lock.site.revoke(device)
    return device


CASES: list[tuple[Callable[[Lock], Device], str]] = [
    (foreign, "untrusted-certificate"),
    (same_subject, "untrusted-certificate"),
    (unlisted, "unknown-certificate"),
    (borrowed_chain, "untrusted-certificate"),
    (own_chain, "untrusted-certificate"),
    (listed_but_foreign, "untrusted-certificate"),
    (expired, "expired"),
    (not_yet_valid, "not-yet-valid"),
    (server_only, "untrusted-certificate"),
    (entry_expired, "expired"),
    (revoked, "unknown-certificate"),
]
BAD = pytest.mark.parametrize(("make", "reason"), CASES, ids=[make.__name__ for make, _ in CASES])


def settled(lock: Lock) -> None:
    """Waits until the guard has the newest snapshot: a device made now is let in."""
    until(lambda: reaches(lock, lock.admin), what="the newest snapshot")
    probe = lock.device()
    until(lambda: reaches(lock, probe), what="the newest snapshot")


def reaches(lock: Lock, device: Device) -> bool:
    try:
        return request(lock.port, "GET", "/hello", device).status == 200
    except Refused:
        return False


@TLS
@BAD
def test_a_bad_certificate_gets_nothing(lock: Lock, make: Callable[[Lock], Device], reason: str, tls: str) -> None:
    """Strict: whatever is wrong with a certificate, not a byte of HTTP comes back."""
    device = make(lock)
    settled(lock)
    with pytest.raises(Refused):
        request(lock.port, "GET", "/hello", device, tls=tls)


@BAD
def test_a_bad_certificate_is_told_why(explaining: Lock, make: Callable[[Lock], Device], reason: str) -> None:
    """Explaining: the answer is 403 with the reason, and the flow never ran."""
    device = make(explaining)
    settled(explaining)
    answer = request(explaining.port, "GET", "/hello", device)
    assert answer.status == 403
    assert f"({reason})" in answer.body.decode()
    assert answer.headers["connection"] == "close"


@TLS
def test_no_certificate_is_told_why(explaining: Lock, tls: str) -> None:
    """Explaining: a stranger reads why, as a page when a browser asks, and the connection ends."""
    answer = request(explaining.port, "GET", "/flows", headers={"Accept": "text/html"}, tls=tls)
    assert answer.status == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert b"sent no certificate" in answer.body
    assert lock_secrets(explaining).isdisjoint(answer.body.decode().split())


def test_a_stranger_opens_no_websocket(explaining: Lock) -> None:
    """Explaining: an upgrade without a certificate is told why, and closed."""
    with WebSocket(explaining.port, "/comms") as socket:
        assert socket.upgrade.status == 403
        assert b"(no-certificate)" in socket.upgrade.body
        assert socket.is_closed()


@pytest.mark.parametrize("name", [None, "other.example", "LOCALHOST"])
def test_the_server_name_decides_nothing(lock: Lock, name: str | None) -> None:
    """Whatever name the handshake asks for, certificate and Host header decide."""
    with Connection(lock.port, lock.admin, server_name=name) as connection:
        assert connection.request("GET", "/hello").status == 200
        assert connection.request("GET", "/hello", headers={"Host": "other.example"}).status == 403
    with pytest.raises(Refused):
        Connection(lock.port, server_name=name).request("GET", "/hello")


def lock_secrets(lock: Lock) -> set[str]:
    return {lock.site.snapshot.site, lock.admin.fingerprint, str(lock.site.published), lock.version}


def resume(
    lock: Lock, device: Device | None, tls: str, between: Callable[[], None]
) -> tuple[Connection, Response]:
    """Two connections, the second resuming the first one's session; `between` happens in the meantime."""
    shared = context(device, tls=tls)
    with Connection(lock.port, with_context=shared) as first:
        first.request("GET", "/hello")
        session = first.socket.session
    between()
    second = Connection(lock.port, with_context=shared, session=session)
    assert second.socket.session_reused
    return second, second.request("GET", "/hello")


@TLS
def test_a_session_is_resumed(lock: Lock, tls: str) -> None:
    """A device may resume its session, and is known on it: the control for the next tests."""
    connection, answer = resume(lock, lock.device(), tls, lambda: None)
    with connection:
        assert answer.body == b"hello true"


@TLS
def test_a_revoked_device_resumes_nothing(lock: Lock, tls: str) -> None:
    """A session ticket from before the revocation opens nothing."""
    device = lock.device()
    settled(lock)

    def revoke() -> None:
        lock.site.revoke(device)
        settled(lock)

    with pytest.raises(Refused):
        resume(lock, device, tls, revoke)


@TLS
def test_a_revoked_device_resumes_and_is_told_why(explaining: Lock, tls: str) -> None:
    """Explaining: the certificate behind a resumed session is known, and no longer in the list."""
    device = explaining.device()
    settled(explaining)

    def revoke() -> None:
        explaining.site.revoke(device)
        settled(explaining)

    connection, answer = resume(explaining, device, tls, revoke)
    with connection:
        assert answer.status == 403
        assert b"(unknown-certificate)" in answer.body


@TLS
def test_an_expired_entry_resumes_nothing(lock: Lock, tls: str) -> None:
    """A session ticket opens nothing once the certificate's time in the list is over."""
    device = lock.device()
    settled(lock)

    def expire() -> None:
        lock.site.list(device, not_after=lock.site.snapshot.time - 1)
        settled(lock)

    with pytest.raises(Refused):
        resume(lock, device, tls, expire)


@TLS
def test_a_stranger_who_resumes_stays_a_stranger(explaining: Lock, tls: str) -> None:
    """A resumed session without a certificate says authorized (nodejs/node #35317): refused all the same."""
    connection, answer = resume(explaining, None, tls, lambda: None)
    with connection:
        assert answer.status == 403
        assert b"(no-certificate)" in answer.body


def test_the_later_of_clock_and_snapshot_counts(lock: Lock) -> None:
    """A snapshot from beyond a certificate's end shuts it out, though the machine's clock says otherwise."""
    device = lock.site.device("early", listed=False)
    now = lock.site.snapshot.time
    lock.site.list(device, not_after=now + 3600)
    until(lambda: reaches(lock, device), what="the device's entry")
    try:
        lock.site.change(time=now + 3601)
        until(lambda: not reaches(lock, device), what="the end of the certificate")
    finally:
        lock.site.change(time=now)
    until(lambda: reaches(lock, device), what="the device's entry")


def test_a_strict_handshake_fails_by_itself(lock: Lock) -> None:
    """The refusal is TLS's own alert: a browser forgets then that it chose to send no certificate."""
    with pytest.raises(Refused, match="ALERT_HANDSHAKE_FAILURE"):
        Connection(lock.port, tls="1.2")
    with pytest.raises(Refused, match="CERTIFICATE_REQUIRED"):
        request(lock.port, "GET", "/", tls="1.3")


def test_no_renegotiation(lock: Lock) -> None:
    """A TLS 1.2 client cannot start the handshake anew on an open connection."""
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{lock.port}",
        "-tls1_2",
        "-cert",
        lock.admin.cert_file,
    ]
    done = subprocess.run(
        [*command, "-legacy_renegotiation"], input=b"R\n", capture_output=True, timeout=20, check=False
    )
    assert b"no renegotiation" in done.stderr
