"""What one knock says of the door, at doors that are made for it: only what the door itself did is its word."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.nodered import free_port

from redlatch import bootstrap
from redlatch.checks import knocking
from redlatch.checks.knocking import Place, Request
from redlatch.checks.outside import Row
from redlatch.operations import machine
from redlatch.pki.keys import generate_key, private_key_pem


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knocking, "SECONDS", 0.5)


@contextlib.contextmanager
def door(*, tls: ssl.SSLContext | None, closes: bool = False) -> Iterator[Place]:
    """Takes every connection, shakes hands where it has a certificate, and then says nothing or ends it."""
    kept: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listening.accept()
                if tls is not None:
                    one = tls.wrap_socket(one, server_side=True)
                if closes:
                    one.close()
                kept.append(one)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield Place("127.0.0.1", listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
    for one in kept:
        one.close()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    key, now = generate_key(), bootstrap.now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "door")])
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    file: Path = tmp_path_factory.mktemp("door") / "pair.pem"
    file.write_bytes(private_key_pem(key, None) + builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


def ask(place: Place) -> str:
    return knocking.ask(place, knocking.client(None), Request("/"))


def is_open(seen: str) -> bool:
    return Row("door", "http-in", "/", "no key", "", knocking.REFUSED, seen).is_open


def test_silence_after_the_handshake_is_no_refusal(context: ssl.SSLContext) -> None:
    """Who is refused is told so or cut off: a flow that was let in to and answers nothing keeps the connection."""
    with door(tls=context) as place:
        seen = ask(place)
    assert seen == knocking.UNANSWERED
    assert is_open(seen)


def test_silence_before_the_handshake_lets_nobody_in() -> None:
    """Something that speaks no TLS: nobody got as far as to ask."""
    with door(tls=None) as place:
        seen = ask(place)
        assert knocking.plain(place, "/") == knocking.SILENT
    assert seen == knocking.SILENT
    assert not is_open(seen)


@pytest.mark.parametrize("shakes", [True, False])
def test_an_end_of_the_connection_is_a_refusal(context: ssl.SSLContext, shakes: bool) -> None:
    """Before the handshake or after it: it is the door that ends it."""
    with door(tls=context if shakes else None, closes=True) as place:
        assert ask(place) == knocking.REFUSED


def test_what_fails_before_the_connection_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is not this machine's, no more files, nobody there: no door said anything."""
    place = Place("127.0.0.1", free_port())
    seen = [ask(place), knocking.plain(place, "/")]
    assert seen == [knocking.NOBODY] * 2
    with monkeypatch.context() as patch:
        patch.setattr(machine, "CHECKS_FROM", "203.0.113.9")  # bind() refuses it
        seen += [ask(place), knocking.plain(place, "/")]

    def full(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "create_connection", full)
    seen += [ask(place), knocking.plain(place, "/")]
    assert "Too many open files" in seen[-1]
    assert all(knocking.is_nobodys(one) for one in seen)
    assert knocking.REFUSED not in seen
