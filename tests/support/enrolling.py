"""The enrolment origin, and the console's /renew, behind real TLS on loopback, over a real site, in a thread."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.integration.operations.conftest import House
from tests.support.clients import HasCertificate, Response, request

from redlatch.operations import hosts, links, service
from redlatch.operations.site import Site, authority
from redlatch.pki.certificates import certificate_pem
from redlatch.service import enrolment, sockets
from redlatch.service.context import Context
from redlatch.service.origin import Limits, Origin, server_context
from redlatch.service.security import Guarded
from redlatch.service.watch import Watch


@dataclass
class Enrolling:
    """`port` asks for no certificate, `console_port` for one of the device CA and serves /renew."""

    site: Site
    watch: Watch
    context: Context
    port: int
    console_port: int

    def invite(self, name: str = "phone", role: str = "user", *, seconds: int | None = None, **more: Any) -> str:
        """A link's token; `seconds` from now (at least 30) it has expired."""
        valid = None if seconds is None else timedelta(seconds=seconds)
        wanted = [links.Wanted(name, role)]
        (made,) = links.invite(self.site, wanted, valid=valid, **{"trust_lan": True} | more)
        return made.token

    def url(self, token: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}/#{token}"

    def post(
        self, path: str, body: object, *, source: str = "127.0.0.1", headers: Mapping[str, str] | None = None
    ) -> Response:
        """JSON posted by something that is no page."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        return request(self.port, "POST", path, body=json.dumps(body).encode(), headers=sent, source=source)

    def redeem(self, token: str, kind: str = "p12", **more: Any) -> Response:
        return self.post("/redeem", {"token": token, "format": kind}, **more)

    def csr(self, token: str, csr: bytes, *, content: str = "application/pkcs10", **headers: str) -> Response:
        sent = {"Content-Type": content, "Authorization": f"Bearer {token}", **headers}
        return request(self.port, "POST", "/redeem", body=csr, headers=sent)

    def renew(self, device: HasCertificate, body: bytes, content: str = "application/json") -> Response:
        headers = {"Content-Type": content}
        return request(self.console_port, "POST", "/renew", device, body=body, headers=headers)

    def let_in(self, fingerprint: str) -> None:
        """Node-RED's word that this certificate came in."""
        line = {
            "at": datetime.now(UTC).timestamp(), "from": "192.168.1.23", "device": None, "fp": fingerprint[:12],
            "method": "GET", "path": "/", "allow": True, "reason": "ok",
        }  # fmt: skip
        with (self.site.settings.spool / "access.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        self.watch.look()


def make_csr(key: Any = None, **changed: Any) -> bytes:
    """A request in DER; `subject`, `extensions` (with criticality) and `san` change it."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, changed.get("subject", "device"))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in changed.get("extensions", []):
        builder = builder.add_extension(extension, critical=False)
    hashed = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, hashed).public_bytes(Encoding.DER)


def file_of(answer: Response, ending: str) -> bytes:
    """The one file of an answer whose name ends so."""
    (found,) = [one for one in answer.json()["files"] if one["name"].endswith(ending)]
    return base64.b64decode(found["base64"])


@contextlib.contextmanager
def enrolling(root: Path, limits: Limits | None = None) -> Iterator[Enrolling]:
    """A site in `root`, and both origins for as long as the context lasts."""
    house = House(root, "5.0")
    house.up()
    with serving(house.open(), limits) as served:
        yield served


@contextlib.contextmanager
def serving(site: Site, limits: Limits | None = None) -> Iterator[Enrolling]:
    """The same for a site that is there."""
    config, watch = site.config(), Watch(site)
    service.server_pem(site)
    pem = str(hosts.enrolment_shows(site).pem)
    ca = certificate_pem(authority(site, "device", signing=False).certificate).decode()
    threads = ThreadPoolExecutor(8)
    ready, ports = threading.Event(), [0, 0]
    loop = asyncio.new_event_loop()

    async def work(job: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, job)

    context = Context(
        site=site,
        watch=watch,
        work=work,
        enrolment_url=lambda host: f"https://{host or 'localhost'}:{ports[0]}",
        console_url=lambda host: f"https://{host or 'localhost'}:{ports[1]}",
        shown=lambda: hosts.enrolment_shows(site),
    )
    renewal, invitations = enrolment.create(context)
    stop = asyncio.Event()

    async def main() -> None:
        tls, console_tls = server_context(pem), server_context(pem, device_ca=ca)

        def names() -> tuple[str, ...]:
            return (*config.hosts, "localhost")

        open_to_all = Origin(Guarded(invitations, names=names, ports=lambda: ports), lambda: tls, limits=limits)
        console = Origin(Guarded(renewal, names=names, ports=lambda: ports), lambda: console_tls, limits=limits)
        for number, origin in enumerate((open_to_all, console)):
            bound = sockets.bind(["127.0.0.1"])
            ports[number] = bound[0].getsockname()[1]
            origin.open(bound)
        ready.set()
        await stop.wait()
        await asyncio.gather(open_to_all.close(0.5), console.close(0.5))

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield Enrolling(site, watch, context, ports[0], ports[1])
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
        threads.shutdown()
