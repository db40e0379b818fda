"""Thousands of generated requests as bytes on the wire: `decide` and the running guard agree on every one.

REDLATCH_GENERATED=N asks N per Node-RED version instead of 5,000; REDLATCH_GENERATED_SEED another seed than 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from tests.integration.guard.conftest import build
from tests.integration.guard.examiner import Client, Examiner, counted, json_of
from tests.support.clients import SECONDS, Connection
from tests.support.nodered import Version, free_port
from tests.support.requests import network, snapshot_fields, some, wire

from redlatch.pki.authority import Authority
from redlatch.policy.model import DEFAULT_RULES, ROLES, Entry

WANTED = int(os.environ.get("REDLATCH_GENERATED") or 5000)
SEED = int(os.environ.get("REDLATCH_GENERATED_SEED") or 1)
PER_SNAPSHOT = 150
LOOKS = 8  # the guard writes its log once a second
SOURCES = (
    "127.0.0.1",
    "127.1.0.1",
    "127.1.0.2",
    "127.1.255.255",
    "127.2.0.4",
    "127.2.0.5",
    "127.2.0.9",
    "127.2.0.10",
)
NETWORKS = {
    "home": network("127.1.0.0/16"),
    "desk": network("127.1.0.2", "127.2.0.5-127.2.0.9"),
    "here": network("127.0.0.1", "::1"),
    "loop": network("127.0.0.0/8"),
    "away": network("203.0.113.0/24", "2001:db8::/32"),
    "empty": network(),
}
OWN_ROLES = ("family", "tech", "deputy", "superuser")  # the last one is in no snapshot


@pytest.fixture(scope="module")
def examiner(version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examiner]:
    lock = counted(build(version, tmp_path_factory.mktemp(f"generated-{version}")))
    with lock.red:
        yield Examiner(lock)


def clients(examiner: Examiner) -> tuple[list[Client], dict[str, Entry]]:
    """Everybody who may come, and the entries of those who are in the list whatever the snapshot."""
    site = examiner.lock.site
    known = [site.device(name, listed=False) for name in ("a", "b", "c", "d", "e", "f", "g", "h", "i")]
    foreign = Authority.create_device("elsewhere", now=datetime.now(UTC))
    past = {"begin": timedelta(days=-2), "end": timedelta(days=-1)}
    future = {"begin": timedelta(days=1), "end": timedelta(days=2)}
    listed_foreign = site.device("listed-foreign", authority=foreign, listed=False)
    over, early = site.device("over", listed=False), site.device("early", listed=False)
    outdated = site.device("outdated", listed=False, **past)
    now = site.snapshot.time
    everybody = [
        Client(None),
        *map(Client, known),
        Client(site.device("revoked", listed=False)),
        Client(over),
        Client(early),
        Client(site.device("foreign", authority=foreign, listed=False), trusted=False),
        Client(listed_foreign, trusted=False),
        Client(site.device("expired", listed=False, **past), trusted=False, at_handshake="expired"),
        Client(outdated, trusted=False, at_handshake="expired"),
        Client(site.device("not-yet", listed=False, **future), trusted=False, at_handshake="not-yet-valid"),
    ]
    fixed = {
        examiner.lock.admin.fingerprint: replace(examiner.lock.admin.entry, role="owner"),
        listed_foreign.fingerprint: listed_foreign.entry,
        outdated.fingerprint: replace(outdated.entry, not_after=now + 86400),  # whatever the list says of it
        over.fingerprint: replace(over.entry, not_after=now - 1),
        early.fingerprint: replace(early.entry, not_before=now + 86400),
    }
    return everybody, fixed


def test_the_guard_and_decide_agree(examiner: Examiner) -> None:
    """Every request gets the decision and the reason of `decide`, the access log says the same, and no other
    passes.
    """
    random = Random(SEED)
    everybody, fixed = clients(examiner)
    examiner.welcome(SOURCES)
    known = [one.device for one in everybody if one.device is not None and len(one.device.name) == 1]
    open_port = free_port()
    number = 0
    while sum(examiner.asked.values()) < WANTED and not examiner.wrong:
        number += 1
        fields = snapshot_fields(random, [one.id for one in known], NETWORKS, open_port)
        fields["networks"] = {name: NETWORKS[name] for name in some(random, list(NETWORKS), 6)}
        entries = {one.fingerprint: replace(one.entry, role=random.choice([*ROLES, *OWN_ROLES])) for one in known}
        before = sum(examiner.asked.values())
        examiner.publish(**fields, devices={**entries, **fixed})
        while sum(examiner.asked.values()) - before < PER_SNAPSHOT:
            client = replace(
                random.choices(everybody, weights=[6, *[2] * len(known), *[1] * 8])[0],
                source=random.choice(SOURCES),
                by_open_port=examiner.snapshot.open_port is not None and random.random() < 0.4,
            )
            # who is refused altogether needs a connection for each request, so few of them
            most = 12 if examiner.stays(client) else 2
            requests = [wire(random, examiner.snapshot) for _ in range(random.randint(1, most))]
            examiner.visit(client, requests, pipelined=random.random() < 0.3)
        if number % LOOKS == 0 or sum(examiner.asked.values()) >= WANTED:
            examiner.compare_logs()
        if examiner.wrong:
            pytest.fail(
                f"seed {SEED}, Node-RED {examiner.lock.version}, snapshot {number}: {json_of(examiner.snapshot)}\n"
                + "\n".join(examiner.wrong)
            )
    assert sum(examiner.asked.values()) >= WANTED
    # Each reason that a running guard can give was given, and by far not by one request alone
    assert {reason for reason, count in examiner.asked.items() if count >= 5} >= {
        "ok", "no-certificate", "untrusted-certificate", "unknown-certificate", "not-yet-valid", "expired",
        "foreign-host", "bad-target", "bad-upgrade", "cross-origin", "read-only", "no-rule", "wrong-method",
        "wrong-network",
    }  # fmt: skip
    # and what passed the guard is what was answered as let in, not one request more
    assert passed(examiner) == examiner.reached + 1


def passed(examiner: Examiner) -> int:
    """How many requests passed the guard up to and with this one."""
    admin = examiner.lock.admin
    entries = {admin.fingerprint: replace(admin.entry, role="owner")}
    examiner.publish(mode="strict", names=("localhost",), rules=DEFAULT_RULES, devices=entries)
    with Connection(examiner.lock.port, admin) as connection:
        return int(connection.request("GET", "/hello").headers["x-reached"])


# What Node.js's parser refuses by itself, or ends without asking anybody
REFUSED_BY_NODE = [
    b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"FETCH / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /a\tb HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /a\x00b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /\xfc HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET flows HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http:/flows HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: pi\x00.local\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\nHost: localhost\n\n",
    b"GET / HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 17000 + b"\r\n\r\n",
    b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT /flows HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def test_what_node_refuses_never_gets_to_node_red(examiner: Examiner) -> None:
    """Broken requests of a device that may do everything: an error or nothing comes back, and nothing passed."""
    before = passed(examiner)
    for raw in REFUSED_BY_NODE:
        with Connection(examiner.lock.port, examiner.lock.admin) as connection:
            connection.send(raw)
            connection.socket.settimeout(1 if b"Expect" in raw else SECONDS)  # after 417 the connection stays open
            answer = connection.rest()
        assert answer == b"" or answer[9:12] in (b"400", b"417", b"431"), (raw, answer)
        assert b"X-Reached" not in answer, raw
    assert passed(examiner) == before + 1


def test_the_long_form_is_documented() -> None:
    """What turns the number up stands in docs/configuration.md."""
    text = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
    assert "`REDLATCH_GENERATED`" in text
    assert "`REDLATCH_GENERATED_SEED`" in text
