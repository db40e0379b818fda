"""What Node-RED says, as the service keeps it: from the beginning of the log, over a rotation, never believed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.home import small_site

from redlatch.files import make_dir
from redlatch.operations import devices
from redlatch.operations.site import Site, Target, changing, set_config
from redlatch.service import watch as module
from redlatch.service.watch import HOURS, RECENT, Watch


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose Node-RED is this very process: its claims are of the right user and the process is alive."""
    site = small_site(tmp_path)
    with closing(site.store):
        with changing(site) as tx:
            target = Target("me", os.getuid(), os.getgid(), "/nowhere", "/nowhere/settings.js", 1880)
            set_config(tx, target=target, adopted=True)
            tx.record("site.changed")
        make_dir(site.settings.spool, mode=0o700)
        yield site


def say(site: Site, *entries: dict[str, Any], name: str = "access.jsonl") -> None:
    with (site.settings.spool / name).open("a") as stream:
        for entry in entries:
            line = {
                "at": datetime.now(UTC).timestamp(), "from": "192.168.1.20", "device": None, "fp": None,
                "method": "GET", "path": "/", "allow": True, "reason": "allowed", "count": 1,
            } | entry  # fmt: skip
            stream.write(json.dumps(line) + "\n")


def connected(site: Site, *devices_: str) -> None:
    now = datetime.now(UTC).timestamp()
    (site.settings.spool / "in-force.json").write_text(
        json.dumps(
            {"format": 1, "site": "x", "version": 1, "digest": "x", "pid": os.getpid(), "started": now, "at": now}
        )
    )
    entries = [{"id": one, "from": "192.168.1.30", "since": now, "websocket": True} for one in devices_]
    (site.settings.spool / "connections.json").write_text(json.dumps({"format": 1, "connections": entries}))


def test_accesses_are_read_from_the_beginning_and_once(site: Site) -> None:
    say(site, {"path": "/old"}, name="access.1.jsonl")
    say(site, {"path": "/new"})
    watch = Watch(site)
    watch.look()
    assert [one.path for one in watch.recent()] == ["/old", "/new"]
    before = watch.number
    watch.look()
    assert watch.number == before
    say(site, {"path": "/newest", "allow": False, "reason": "no-certificate"})
    watch.look()
    assert [one.path for one in watch.recent(before)] == ["/newest"]
    assert [one.path for one in watch.refused(5)] == ["/newest"]


def test_a_rotation_loses_nothing(site: Site) -> None:
    say(site, {"path": "/a"})
    watch = Watch(site)
    watch.look()
    say(site, {"path": "/b"})
    (site.settings.spool / "access.jsonl").rename(site.settings.spool / "access.1.jsonl")
    say(site, {"path": "/c"})
    watch.look()
    assert [one.path for one in watch.recent()] == ["/a", "/b", "/c"]


def test_who_was_seen_is_kept_in_the_store(site: Site) -> None:
    """By its last access, or by being connected; of devices that there are, never in the future."""
    lamp, phone = (devices.add(site, name).device for name in ("Lamp", "Phone"))
    hour = datetime.now(UTC) - timedelta(hours=1)
    say(
        site,
        {"device": lamp.id, "at": hour.timestamp()},
        {"device": "00000000-0000-0000-0000-000000000000"},
        {"device": phone.id, "at": (datetime.now(UTC) + timedelta(days=9)).timestamp()},
    )
    watch = Watch(site)
    watch.look()
    assert watch.seen(lamp.id) == (hour, "192.168.1.20")
    watch.note()
    with site.store.read() as view:
        seen, address = view.sighting(lamp.id) or (None, None)
        assert (seen, address) == (hour.replace(microsecond=0), "192.168.1.20")
        future = view.sighting(phone.id)
        assert future is not None
        assert future[0] <= datetime.now(UTC)
        assert view.verify_audit().ok
        revision = view.site().revision
    assert watch.seen(lamp.id) is None
    say(site, {"device": lamp.id, "at": (hour - timedelta(hours=1)).timestamp()})  # older than what is known
    connected(site, phone.id)
    watch.look()
    assert {one.device_id for one in watch.connections()} == {phone.id}
    assert watch.connections(lamp.id) == ()
    watch.note()
    with site.store.read() as view:
        assert (view.sighting(lamp.id) or (None,))[0] == hour.replace(microsecond=0)
        assert (view.sighting(phone.id) or ("", ""))[1] == "192.168.1.30"
        assert view.site().revision == revision  # nobody changed anything


def test_connections_of_a_node_red_that_is_gone_are_gone(site: Site) -> None:
    connected(site, "somebody")
    watch = Watch(site)
    watch.look()
    assert len(watch.connections()) == 1
    claim = site.settings.spool / "in-force.json"
    claim.write_text(claim.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194304'))
    watch.look()
    assert watch.connections() == ()


def test_the_first_time_in_is_found_by_the_certificate(site: Site) -> None:
    start = datetime.now(UTC)
    fingerprint = "ab" * 32
    say(
        site,
        {"fp": fingerprint[:16], "at": (start - timedelta(minutes=1)).timestamp()},
        {"fp": fingerprint[:16], "allow": False, "at": start.timestamp()},
        {"fp": "cd" * 8, "at": start.timestamp()},
    )
    watch = Watch(site)
    watch.look()
    assert watch.let_in(fingerprint, start) is None
    say(site, {"fp": fingerprint[:16], "path": "/in"})
    watch.look()
    found = watch.let_in(fingerprint, start)
    assert found is not None
    assert found.path == "/in"


def test_the_hours_count_what_was_folded(site: Site) -> None:
    now = datetime.now(UTC)
    say(
        site,
        {"count": 3},
        {"allow": False, "count": 40},
        {"at": (now - timedelta(hours=5)).timestamp()},
        {"at": (now - timedelta(hours=HOURS + 3)).timestamp()},
    )
    watch = Watch(site)
    watch.look()
    hours = watch.hours()
    assert len(hours) == HOURS
    assert (hours[-1].accepted, hours[-1].refused) == (3, 40)
    assert (hours[-6].accepted, sum(one.accepted for one in hours)) == (1, 4)


def test_a_flood_of_claims_does_not_grow_the_service(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node-RED's user may write what it likes: what is kept has an end."""
    monkeypatch.setattr(module, "_MOST_UNNOTED", 50)
    watch = Watch(site)
    say(site, *({"device": f"forged {number}", "at": number * 3600} for number in range(2000)))
    watch.look()
    watch.look()
    assert len(watch.recent()) == RECENT
    assert not watch._unnoted
    assert len(watch._hours) <= 2 * (HOURS + 1)


@pytest.mark.parametrize("planted", ["link", "folder", "garbage"])
def test_what_is_planted_there_is_not_believed(site: Site, planted: str) -> None:
    path = site.settings.spool / "access.jsonl"
    if planted == "link":
        secret = site.settings.home / "secret"
        secret.write_text('{"at": 1, "from": "x"}\n')
        path.symlink_to(secret)
    elif planted == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\x00[[[[\n" * 100 + b'{"at": "x"}\n')
    connected(site, "somebody")
    watch = Watch(site)
    watch.look()
    assert list(watch.recent()) == []


def test_without_a_node_red_there_is_nothing_to_read(tmp_path: Path) -> None:
    site = small_site(tmp_path)
    with closing(site.store):
        watch = Watch(replace(site))
        watch.look()
        assert watch.connections() == ()
