"""`redlatch enroll` against servers that are up to no good: each ends in words, soon, and leaves nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.enrolling import Enrolling, enrolling

from redlatch.operations import hosts, https
from redlatch.operations.enrolling import EnrolmentRefused, enroll
from redlatch.operations.https import Trust, Unreachable
from redlatch.pki.certificates import certificate_pem, load_certificates


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolling]:
    with enrolling(tmp_path_factory.mktemp("site")) as served:
        yield served


@contextlib.contextmanager
def answering(pem: Path, answer: Callable[[ssl.SSLSocket], None]) -> Iterator[int]:
    """A TLS server that reads one request and does to its sender what `answer` says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            raw, _ = listening.accept()
            with context.wrap_socket(raw, server_side=True) as client_:
                received = b""
                while b"END CERTIFICATE REQUEST-----\n" not in received:
                    received += client_.recv(65536)
                answer(client_)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()
        thread.join(10)


def says(data: bytes) -> Callable[[ssl.SSLSocket], None]:
    return lambda sock: sock.sendall(data)


def drips(sock: ssl.SSLSocket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(OSError):
        while not threading.Event().wait(0.02):
            sock.sendall(b"X")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
OTHER = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (says(b"garbage\r\n\r\n"), Unreachable, "the answer is none"),
        (says(b""), Unreachable, "no use|ended"),
        (says(OK % (5, b"hello")), EnrolmentRefused, "no certificate for this key"),
        (says(OK % (1 << 30, b"x" * 200_000)), Unreachable, "more than 64 KB"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: https://x/\r\n\r\n"), EnrolmentRefused, "elsewhere"),
        (says(b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n\x1b[31mred\n"), EnrolmentRefused, "\ufffd"),
        (says(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"), EnrolmentRefused, "status 500"),
        (says(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"), Unreachable, "the answer is none"),
        (says(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000), Unreachable, "the answer is none"),
        (drips, Unreachable, "in time"),
    ],
)  # fmt: skip
def test_bad_answers(
    at: Enrolling,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[ssl.SSLSocket], None],
    error: type[Exception],
    words: str,
) -> None:
    """Each ends in words, soon, and leaves nothing."""
    monkeypatch.setattr(https, "TOTAL", 1.0)
    pem = hosts.enrolment_shows(at.site).pem
    with answering(pem, answer) as port, pytest.raises(error, match=words):
        enroll(f"https://localhost:{port}/#{'a' * 26}", tmp_path / "x", pin=at.context.pin())
    assert not (tmp_path / "x").exists()


def test_another_ones_certificate_is_refused(at: Enrolling, tmp_path: Path) -> None:
    """A certificate for another key than the one made here is not written."""
    pem = hosts.enrolment_shows(at.site).pem
    cert = certificate_pem(load_certificates(pem.read_bytes())[0])
    with (
        answering(pem, says(OK % (len(cert), cert))) as port,
        pytest.raises(EnrolmentRefused, match="for this key"),
    ):
        enroll(f"https://localhost:{port}/#{'a' * 26}", tmp_path / "x", pin=at.context.pin())


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port, a name that nobody has, a port that speaks no TLS, one that says nothing."""
    monkeypatch.setattr(https, "CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for host, words in (
            ("localhost:1", "nothing answers"),
            ("nobody.invalid", "not known"),
            (f"127.0.0.1:{port}", "in time"),
        ):
            with pytest.raises(Unreachable, match=words):
                https.post(https.checked_url(f"https://{host}/"), b"", {}, Trust())
