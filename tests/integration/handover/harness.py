"""What the tests of the handover share: a fixed parcel and real TLS clients that speak byte by byte."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redlatch.pki.authority import Authority
from redlatch.service import handover

PARCEL = handover.Parcel(
    device="<b>Bart's phone</b>",
    files=(handover.File("barts-phone.p12", "application/x-pkcs12", b"\0key\xff"),),
    password="abcd-efgh",
    fingerprint="ab" * 32,
    not_after=datetime(2027, 1, 1, tzinfo=UTC),
)


@dataclass(frozen=True)
class Pki:
    server: Authority
    device: Authority
    pem: Path
    ca_pem: str
    device_ca_pem: str


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running handover. `end()` waits for its outcome."""

    port: int
    token: str
    client: ssl.SSLContext
    thread: threading.Thread | None = None
    result: list[Any] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def connect(self) -> ssl.SSLSocket:
        return self.client.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=10), server_hostname="localhost"
        )

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """One request; header names with _ for -. `host=None` in headers is not possible: use `connect`."""
        sent = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.client, timeout=10)
        try:
            connection.putrequest(method, target, skip_host=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()

    def redeem(self, token: str | None = None, *, kind: str = "p12", **headers: str) -> Answer:
        body = json.dumps({"token": self.token if token is None else token, "format": kind}).encode()
        return self.request("POST", "/redeem", body, **{"Content_Type": "application/json", **headers})

    def confirm(self, answer: Answer) -> Answer:
        body = json.dumps({"receipt": answer.json()["receipt"]}).encode()
        return self.request("POST", "/received", body, Content_Type="application/json")

    def end(self) -> Any:
        assert self.thread is not None
        self.thread.join(20)
        assert not self.thread.is_alive(), "the handover did not end"
        (result,) = self.result
        return result


Serve = Callable[..., Served]
