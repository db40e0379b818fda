"""Asks a running guard what `decide` has answered already, and compares: answers, reasons, and the access log.

A layer between guard and Node-RED counts what the guard lets through and says so in the answer (X-Reached), so
that "let in" is never mistaken for something that Node-RED answers by itself.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.integration.guard.conftest import Lock
from tests.integration.guard.test_guard_claims import accesses
from tests.integration.guard.test_guard_live import in_force
from tests.support.clients import Connection, Refused, Response, context
from tests.support.requests import Seen, facts_of, shorter
from tests.support.site import Device
from tests.support.wait import until

from redlatch.policy.decide import decide
from redlatch.policy.model import Decision, Facts, Snapshot

# Takes the server's `emit` before the guard does: what arrives here is what the guard forwards. Reading goes on to
# Node-RED; what would change this Node-RED ends here, or the next requests would find another one.
REACHED = """
{
  const https = require("node:https"), create = https.createServer, reads = ["GET", "HEAD", "OPTIONS"];
  let reached = 0;
  https.createServer = function (...given) {
    const server = create.apply(this, given), emit = server.emit;
    server.emit = function (event, req, res) {
      if (event === "request") {
        res.setHeader("X-Reached", ++reached);
        if (!reads.includes(req.method)) return res.end("reached"), true;
      } else if (event === "upgrade" || event === "connect") {
        res.write(`HTTP/1.1 103 Reached\\r\\nX-Reached: ${++reached}\\r\\n\\r\\n`);
      }
      return emit.apply(this, arguments);
    };
    return server;
  };
}
"""


def counted(lock: Lock) -> Lock:
    """The Node-RED that is not started yet, with the layer that counts."""
    settings = lock.red.user_dir / "settings.js"
    settings.write_text(REACHED + settings.read_text())
    return lock


@dataclass(frozen=True)
class Client:
    """Who comes from where. `trusted`: its certificate passes TLS; `at_handshake`: what TLS says of one that
    does not.
    """

    device: Device | None
    source: str = "127.0.0.1"
    trusted: bool = True
    by_open_port: bool = False
    at_handshake: str = "untrusted-certificate"

    def facts(self, facts: Facts, now: int) -> Facts:
        shown = self.device is not None and not self.by_open_port
        return replace(
            facts,
            certificate=self.device.fingerprint if self.device is not None and shown else None,
            verified=shown and self.trusted,
            now=now,
            peer=self.source,
            by_open_port=self.by_open_port,
        )


class Pace:
    """So many handshakes per second: the door takes 100, of known addresses together."""

    def __init__(self, rate: float = 80, burst: float = 100) -> None:
        self.rate, self.burst, self.level, self.at = rate, burst, burst, time.monotonic()

    def take(self) -> None:
        def has() -> bool:
            now = time.monotonic()
            self.level = min(self.burst, self.level + (now - self.at) * self.rate)
            self.at = now
            return self.level >= 1

        until(has, what="a place at the door")
        self.level -= 1


class Examiner:
    """Compares a guard with `decide`, one snapshot after another."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock
        self.pace = Pace()
        self.asked: Counter[str] = Counter()  # reason -> how many requests were answered with it
        self.reached = 0
        self.logged: Counter[tuple[Any, ...]] = Counter()  # what the access log has to hold of refusals
        self.wrong: list[str] = []
        self.contexts: dict[str, ssl.SSLContext] = {}

    @property
    def snapshot(self) -> Snapshot:
        return self.lock.site.snapshot

    def welcome(self, sources: Sequence[str]) -> None:
        """Makes these addresses known to the door: a device comes in from each."""
        for source in sources:
            with Connection(self.lock.port, self.lock.admin, source=source) as connection:
                answer = connection.request("GET", "/hello")
                self.reached += "x-reached" in answer.headers

    def publish(self, **fields: Any) -> None:
        """Puts the next snapshot in force."""
        self.lock.site.change(**fields)
        in_force(self.lock)

    def compare_logs(self) -> None:
        """The access log holds what was refused since the last look, all of it and nothing else."""

        def found() -> Counter[tuple[Any, ...]]:
            lines: Counter[tuple[Any, ...]] = Counter()
            for one in accesses(self.lock):
                if not one["allow"]:
                    lines[one["from"], one["reason"], one["device"], one["method"]] += one["count"]
            return lines

        if self.wrong:
            return  # looking for a shorter request has asked more than was noted
        with contextlib.suppress(AssertionError):
            until(lambda: found() == self.logged, seconds=5, what="the access log")
        for key, count in (self.logged - found()).items():
            self.wrong.append(f"the access log lacks {count} x {key}")
        for key, count in (found() - self.logged).items():
            self.wrong.append(f"the access log has {count} x {key} that nobody asked for")
        self.logged.clear()
        (self.lock.site.spool / "access.jsonl").unlink(missing_ok=True)

    # --- one connection

    def judged(self, client: Client, facts: Facts) -> Decision:
        """What `decide` says; of a certificate that TLS refused for its dates the guard knows more to say."""
        asked = client.facts(facts, int(time.time()))
        decision = decide(asked, self.snapshot)
        if decision.reason == "untrusted-certificate" and client.at_handshake in ("expired", "not-yet-valid"):
            listed = asked.certificate in self.snapshot.devices
            return replace(decision, reason=client.at_handshake if listed else "unknown-certificate")
        return decision

    def speaks(self, client: Client) -> str | None:
        """Why this client never gets to speak HTTP, or None."""
        refused = self.judged(client, Facts(host="")).reason  # with a rule for who asks, the host is looked at
        without = self.stays(replace(client, device=None))
        explains = self.snapshot.mode != "strict"  # loopback is private, for "auto"
        if client.by_open_port:
            return None if without else refused
        if not without and not explains and client.device is not None and not client.trusted:
            return client.at_handshake
        return None if explains or self.stays(client) else refused

    def stays(self, client: Client) -> bool:
        """Whether a rule speaks of this client: then its connection outlives a refusal."""
        return self.judged(client, Facts(host="")).reason == "foreign-host"

    def visit(self, client: Client, requests: Sequence[bytes], *, pipelined: bool = False) -> None:
        """The requests one after the other, as far as one connection goes; a further one for what is left."""
        left = list(requests)
        while left:
            left = self._connection(client, left, pipelined=pipelined)

    def _connection(self, client: Client, requests: list[bytes], *, pipelined: bool) -> list[bytes]:
        port = self.snapshot.open_port if client.by_open_port else self.lock.port
        assert port is not None
        silent = self.speaks(client)
        if self._device(client) is None:
            self.pace.take()  # a device gives its place back
        if silent is not None:
            self._silence(client, port, requests[0], silent)
            return requests[1:]
        stays = self.stays(client)
        if not stays:
            self._log(client, self.judged(client, Facts()).reason, None)
        taken = 0
        seen = [facts_of(raw) for raw in requests]
        # A stranger's connection ends with its first answer; else up to a request that ends it. An upgrade is not
        # pipelined: its answer would overtake those that Node-RED takes time for.
        ends = next((at + 1 for at, one in enumerate(seen) if one.last or not stays), len(seen))
        if pipelined and ends > 1 and seen[ends - 1].upgrades:
            ends -= 1
        with self._connect(client, port) as connection:
            if pipelined:
                connection.send(b"".join(requests[:ends]))
            for raw, one in zip(requests[:ends], seen[:ends], strict=True):
                if not pipelined:
                    connection.send(raw)
                taken += 1
                if not self._compare(client, connection, raw, one):
                    break
        return requests[taken:]

    def _silence(self, client: Client, port: int, raw: bytes, reason: str) -> None:
        try:
            with self._connect(client, port) as connection:
                connection.send(raw)
                answer = connection.rest()
        except Refused:
            answer = b""
        if answer:
            self._report(client, raw, reason, answer[:200].decode("latin-1"))
        self.asked[reason] += 1
        self._log(client, reason, None)

    def _compare(self, client: Client, connection: Connection, raw: bytes, seen: Seen) -> bool:
        """Whether the connection goes on."""
        wanted = self.judged(client, seen.facts)
        got, goes_on = answered(connection, seen)
        self.asked[wanted.reason] += 1
        if got == "ok":
            self.reached += 1
        if not wanted.allow:
            self._log(client, wanted.reason, seen.facts.method)
        if got == wanted.reason or (got == "?" and not wanted.allow):
            return goes_on
        self._report(client, raw, wanted.reason, got)
        return False

    def _device(self, client: Client) -> str | None:
        """The id of the device that the guard takes this client for."""
        facts = client.facts(Facts(), int(time.time()))
        entry = self.snapshot.devices.get(facts.certificate or "")
        now = max(facts.now, self.snapshot.time)
        if entry is None or not facts.verified or not entry.not_before <= now <= entry.not_after:
            return None
        return entry.id

    def _log(self, client: Client, reason: str, method: str | None) -> None:
        self.logged[client.source, reason, self._device(client), method] += 1

    def _connect(self, client: Client, port: int) -> Connection:
        key = client.device.fingerprint if client.device is not None else ""
        if key not in self.contexts:
            self.contexts[key] = context(client.device)
        return Connection(port, with_context=self.contexts[key], source=client.source)

    # --- reports

    def _report(self, client: Client, raw: bytes, wanted: str, got: str) -> None:
        who = client.device.name if client.device else "no certificate"
        if len(self.wrong) < 5 and self.speaks(client) is None:
            raw = shorter(raw, lambda one: self._differs(client, one))
        self.wrong.append(f"{who} from {client.source}: decide says {wanted}, the guard {got}: {raw!r}")

    def _differs(self, client: Client, raw: bytes) -> bool:
        try:
            seen = facts_of(raw)
            with self._connect(client, self.lock.port) as connection:
                connection.send(raw)
                got, _ = answered(connection, seen)
        except (Refused, TimeoutError, ValueError):
            return False
        return got not in ("?", "400", self.judged(client, seen.facts).reason)


def answered(connection: Connection, seen: Seen) -> tuple[str, bool]:
    """The reason that the live guard gives ("ok": let in, "?": refused to a HEAD),
    and whether the connection goes on."""
    try:
        answer: Response = connection.response(seen.facts.method if not seen.upgrades else "GET")
    except Refused as refused:
        return f"no answer ({refused})", False
    if "x-reached" in answer.headers:
        return "ok", not seen.last and answer.headers.get("connection") != "close"
    goes_on = not seen.last and answer.headers.get("connection") != "close"
    if answer.status != 403 or "default-src 'none'" not in answer.headers.get("content-security-policy", ""):
        return str(answer.status), False
    if not answer.body:
        return "?", goes_on
    reason = re.search(r"\(([a-z-]+)\)\n", answer.body.decode())
    return reason[1] if reason else "a page without a reason", goes_on


def json_of(snapshot: Snapshot) -> str:
    """For a report: what matters of a snapshot."""
    kept = {name: getattr(snapshot, name) for name in ("mode", "names", "origins", "admin_root", "rules", "roles")}
    return json.dumps(kept, default=str)
