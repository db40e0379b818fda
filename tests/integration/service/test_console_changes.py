"""Rules, networks, roles and how far a change has got; the log, the audit trail, health, the picture."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.consoling import Consoling, consoling, heading, text_of
from tests.support.wait import until

from redlatch.checks import report as reports
from redlatch.operations import devices, networks, reach, roles, rules
from redlatch.operations.site import Site, changing, set_config
from redlatch.policy.model import Areas
from redlatch.service.console import chart
from redlatch.service.watch import Hour

HTMX = {"HX-Request": "true", "HX-Target": "main"}


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Consoling]:
    with consoling(tmp_path) as served:
        yield served


# --- how far


def test_a_change_answers_at_once_and_goes_on(at: Consoling, monkeypatch: pytest.MonkeyPatch) -> None:
    """With htmx the answer does not wait; what is seen later is told later, what is not new is not sent."""
    go = threading.Event()
    real = devices.revoke

    def slow(site: Site, *args: Any, **told: Any) -> Any:
        assert site.rehearsal is not None or go.wait(10)
        return real(site, *args, **told)

    monkeypatch.setattr("redlatch.operations.devices.revoke", slow)
    answer = at.post(f"/devices/{at.keys['user'].id}/revoke", who="owner", **HTMX)
    assert answer.status == 200
    place = answer.headers["hx-push-url"]
    assert "At work" in text_of(answer)
    part = {"HX-Request": "true", "HX-Target": "change"}
    assert at.get(f"{place}?seen=begun", **part).status == 204
    waiting = at.get(place)
    assert '<noscript><meta http-equiv="refresh"' in waiting.body.decode()
    go.set()
    until(lambda: at.get(f"{place}?seen=begun", **part).status == 200)
    found = at.get(f"{place}?seen=recorded", **part)
    assert "is revoked, with 1 certificate" in text_of(found)
    assert "hx-trigger" not in found.body.decode()
    assert "<main" not in found.body.decode()


def test_a_fault_is_told_without_its_inside(
    at: Consoling, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a change or in a page: words for the visitor, the place of the fault for the log, no secret in either."""

    def broken(site: Site, *_: Any, **__: Any) -> Any:
        if site.rehearsal is None:
            raise ValueError("token s3cret in /var/lib")

    monkeypatch.setattr("redlatch.operations.devices.revoke", broken)
    said = at.change(f"/devices/{at.keys['user'].id}/revoke", {"reason": "s3cret"})
    assert "something went wrong that redlatch did not foresee" in said
    monkeypatch.setattr("redlatch.operations.roles.list_roles", broken)
    answer = at.get("/roles?q=s3cret")
    assert answer.status == 500
    assert "s3cret" not in text_of(answer) + said
    logged = capsys.readouterr()
    assert "ValueError" in logged.out + logged.err
    assert "s3cret" not in logged.out + logged.err


def test_a_change_that_nobody_knows(at: Consoling) -> None:
    answer = at.get("/changes/nothing")
    assert answer.status == 404
    assert "this change is not known any more" in text_of(answer)


def test_published_and_not_confirmed_is_not_in_force(at: Consoling) -> None:
    """Nothing is reported further than it was seen."""
    at.publish()
    said = at.change(f"/devices/{at.keys['user'].id}/role", {"role": "viewer"})
    assert "● published (done)" in said
    assert "○ in force (not seen)" in said
    assert "no guard runs yet" in said


# --- rules


def test_a_rule_is_shown_before_it_is_made(at: Consoling) -> None:
    """By GET, which changes nothing; then made, then in the list, in the same words."""
    query = "who=named&role=viewer&what=area&area=dashboards&network=private"
    page = at.get(f"/rules/new?look=1&{query}")
    sentence = "devices with the role viewer, from private, may reach the dashboards"
    assert f"This rule would be added {sentence}" in text_of(page)
    assert len(rules.list_rules(at.site)) == 4
    form = {"who": "named", "role": "viewer", "what": "area", "area": "dashboards", "network": "private"}
    assert f"added: {sentence}" in at.change("/rules/new", form)
    assert sentence in text_of(at.get("/rules"))
    assert at.post("/rules/new", form).status == 409
    assert len(rules.list_rules(at.site)) == 5


def test_what_asks_for_a_yes_gets_it(at: Consoling) -> None:
    """A rule that makes the certificate optional, and the last rule into the editor: only with the box ticked."""
    form = {"who": "anyone", "what": "path", "path": "/hook", "method": "POST"}
    page = at.get("/rules/new?look=1&who=anyone&what=path&path=/hook&method=POST")
    assert 'name="sure"' in page.body.decode()
    assert at.post("/rules/new", form).status == 409
    assert len(rules.list_rules(at.site)) == 4
    assert "added: anyone" in at.change("/rules/new", form | {"sure": "1"})
    page = at.get("/rules/1/remove")
    assert "the device that you are using now would not reach the editor any more" in text_of(page)
    assert at.post("/rules/1/remove").status == 409
    at.change("/rules/1/remove", {"insist": "1"})
    assert "nobody could reach the editor any more" in text_of(at.get("/rules/2/remove"))
    assert at.post("/rules/2/remove").status == 409
    assert "removed: devices with the role admin" in at.change("/rules/2/remove", {"insist": "1"})


def test_what_may_be_overruled_is_only_by_a_box(at: Consoling) -> None:
    """Everybody seems to come from one address: refused, but for who says that it is meant so."""
    for _ in range(30):
        at.say(from_="127.0.0.1")
    form = {"who": "anyone", "what": "area", "area": "dashboards", "network": "private", "port": "1883"}
    query = "&".join(f"{name}={value}" for name, value in form.items())
    page = at.get(f"/rules/new?look=1&{query}")
    assert page.status == 409
    assert 'name="force"' in page.body.decode()
    assert at.post("/rules/new", form | {"sure": "1"}).status == 409
    assert "added: anyone" in at.change("/rules/new", form | {"sure": "1", "force": "1"})
    assert "port 1883" in text_of(at.get("/rules"))
    never = at.get("/rules/new?look=1&who=anyone&what=area&area=all")
    assert never.status == 409
    assert 'name="force"' not in never.body.decode()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("who=named&what=area&area=editor", "the rule names nobody"),
        ("who=any&what=path&path=", "area"),
        ("who=any&what=area&area=moon", "moon"),
        ("who=named&device=Nobody&what=area&area=editor", "there is no device named 'Nobody'"),
        ("who=any&network=mars&what=area&area=editor", "there is no network 'mars'"),
        ("who=any&what=area&area=editor&port=x", "'x' is no port"),
    ],
)
def test_a_rule_that_cannot_be(at: Consoling, query: str, says: str) -> None:
    answer = at.get(f"/rules/new?look=1&{query}")
    assert answer.status in (400, 404)
    assert says in text_of(answer)


def test_the_open_port(at: Consoling) -> None:
    assert "would be opened" in text_of(at.get("/rules/open-port?look=1&port=1890"))
    assert "port 1890 is open" in at.change("/rules/open-port", {"port": "1890"})
    assert at.site.config().open_port == 1890
    assert at.post("/rules/open-port", {"port": "1"}).status == 409
    assert "the open port is closed" in at.change("/rules/open-port", {"port": "off"})


def test_the_tester_says_what_decide_says(at: Consoling) -> None:
    """Allowed or refused, why, by which rule; in a form that was filled in as before."""
    page = text_of(at.get("/rules/test?look=1&method=GET&path=/flows&device=the+viewer"))
    assert "● Allowed" in page
    assert "Rule 3" in page
    refused = text_of(at.get("/rules/test?look=1&method=POST&path=/flows&device=the+viewer"))
    found = reach.explain(at.site, reach.Asked("POST", "/flows", "the viewer"))
    assert f"✕ Refused {found.text} ({found.decision.reason})" in refused
    assert "somebody without a certificate" in text_of(at.get("/rules/test?look=1&path=/"))
    assert "'nowhere' is no address" in text_of(at.get("/rules/test?look=1&path=/&address=nowhere"))
    assert "did you mean 'the owner'" in text_of(at.get("/rules/test?look=1&path=/&device=the+ownr"))


# --- networks, roles


def test_networks(at: Consoling) -> None:
    """All entries or none; an entry, then the whole; a network that a rule uses stays."""
    assert "2 entries added: home has 2" in at.change(
        "/networks/new", {"name": "home", "entries": "192.168.1.0/24 # <b>house</b>\r\n\r\n2001:db8::/48\r\n"}
    )
    page = text_of(at.get("/networks/of/home"))
    assert "<b>house</b>" in page
    assert "'192.168.1.999'" in at.change("/networks/new", {"name": "home", "entries": "10.0.0.1\n192.168.1.999"})
    assert networks.list_networks(at.site, "home")[0].count == 2
    assert at.post("/networks/new", {"name": "home", "entries": " \n "}).status == 400
    rules.add(at.site, rules.Wanted(area="dashboards", networks=("home",)))
    assert "the network home is used by rule 5" in at.change("/networks/of/home/remove")
    entry = {"entry": "2001:db8::/48"}
    assert "2001:db8::/48 removed: home has 1" in at.change("/networks/of/home/remove", entry)
    rules.remove(at.site, 5)
    assert "the network home is gone" in at.change("/networks/of/home/remove")
    assert at.get("/networks/of/home").status == 404
    assert "private is a built-in network" in at.change("/networks/of/private/remove")


def test_networks_of_any_name(at: Consoling) -> None:
    """No name of a network hides a page, or is hidden by one."""
    for name in ("new", "of", "remove"):
        networks.add(at.site, name, ["10.0.0.1"], resolver=lambda _: {})
        assert heading(at.get(f"/networks/of/{name}")) == name


def test_roles(at: Consoling) -> None:
    assert "the role kiosk is like user" in at.change("/roles/add", {"name": "kiosk", "like": "user"})
    assert "there is a role kiosk already" in at.change("/roles/add", {"name": "kiosk", "like": "user"})
    assert "cannot be the name of a role" in at.change("/roles/add", {"name": "<b>", "like": "user"})
    one = at.key("panel", "kiosk")
    assert "there is 1 device with the role kiosk: panel" in at.change("/roles/kiosk/remove")
    devices.set_role(at.site, one.issued.device.name, "user")
    assert "the role kiosk is gone" in at.change("/roles/kiosk/remove")
    assert at.get("/roles/owner/remove").status == 404
    assert roles.list_roles(at.site)


# --- what Node-RED says


def test_the_log_goes_on_from_where_it_was(at: Consoling) -> None:
    """Only what is new; with its filter; of a page that is older than the service it begins anew."""
    at.say(path="/one", device=at.keys["user"].id)
    at.say(path="/two", allow=False, reason="no-certificate", from_="203.0.113.5", count=3)
    at.watch.look()
    page = at.get("/log").body.decode()
    assert page.index("/two") < page.index("/one")
    assert "your browser or program sent no certificate" in page
    assert "(3 times)" in page
    assert "/one" not in at.get("/log?show=refused").body.decode()
    assert "/two" not in at.get(f"/log?device={at.keys['user'].id}").body.decode()
    found = re.search(r'hx-get="(/log/rows\?after=2)"', page)
    assert found is not None
    at.say(path="/three")
    at.watch.look()
    rows = at.get(found[1]).body.decode()
    assert "/three" in rows
    assert "/one" not in rows
    assert "/three" not in at.get("/log/rows?after=2&show=refused").body.decode()
    assert at.get("/log/rows?after=99").headers["hx-refresh"] == "true"
    assert "hx-refresh" not in at.get("/log/rows?after=3").headers
    assert at.get("/log/rows?after=x").status == 400


def test_a_hostile_log_is_text(at: Consoling) -> None:
    at.say(path="/<script>alert(1)</script>", method="G<b>", from_='"><img src=x>', device='"><b>')
    at.watch.look()
    for target in ("/log", "/log/rows", "/"):
        page = at.get(target).body.decode()
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "G<b>" not in page


def test_the_picture(at: Consoling) -> None:
    """Bars by the hour, figures beside them; what happened once in a million can still be seen."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [Hour(start + timedelta(hours=n), 1_000_000 if n == 1 else n == 2, 3 * (n == 4)) for n in range(48)]
    made = chart.draw(hours)
    assert [bar.height for bar in made.accepted] == [chart.HEIGHT, 2.0]
    assert [(bar.x, bar.height) for bar in made.refused] == [(57.5, chart.HEIGHT)]
    assert (made.most_accepted, made.all_accepted, made.all_refused) == (1_000_000, 1_000_001, 3)
    at.say(count=5)
    at.say(allow=False, reason="no-rule", count=2)
    at.watch.look()
    page = text_of(at.get("/"))
    assert "above the line: accepted, 5, highest bar 5 in an hour" in page
    assert "below it: refused, 2, highest bar 2 in an hour" in page
    empty = chart.draw([])
    assert (empty.accepted, empty.width) == ((), 0)


def test_the_map_is_what_is_known(at: Consoling) -> None:
    with changing(at.site) as tx:
        set_config(tx, areas=Areas(dashboards=("/dashboard",), http_in=("/light/:who",), websockets=("/ws",)))
        tx.record("site.changed")
    rules.add(at.site, rules.Wanted(path="/mine", anyone=True))
    shown = {one.path: one for one in reach.known(at.site).things}
    assert set(shown) == {"/", "/dashboard", "/light/:who", "/ws", "/mine"}
    assert shown["/light/:who"].area == "http-in"
    page = text_of(at.get("/map"))
    assert "devices with the role user, from anywhere" in page
    assert "anyone, with or without a certificate" in page
    assert "redlatch refresh" in page


# --- the audit trail, health


def test_the_audit_trail_in_pages_and_verified(at: Consoling) -> None:
    at.change(f"/devices/{at.keys['user'].id}/rename", {"name": 'The "user" <b>'})
    first = at.get("/audit")
    assert 'a device got another name: The "user" <b>' in text_of(first)
    assert "console: the owner" in text_of(first)
    for number in range(60):
        roles.add(at.site, f"role-{number}", like="thing")
    with at.site.store.read() as view:
        last = view.audit_head().seq
    seen: list[int] = []
    target: str | None = "/audit"
    while target:
        page = at.get(target).body.decode()
        seen += [int(one) for one in re.findall(r"Event </span>(\d+)", page)]
        found = re.search(r'rel="next" href="([^"]*)"', page)
        target = found[1] if found else None
    assert seen == list(range(last, 0, -1))
    verified = at.get("/audit/verify", "admin")
    assert f"{last} events, unbroken" in text_of(verified)
    with at.site.store.read() as view:
        assert view.audit_head().hash.hex() in text_of(verified)
    with closing(sqlite3.connect(at.site.settings.database)) as connection:
        connection.execute("UPDATE audit SET actor = 'somebody' WHERE seq = 5")
        connection.commit()
    broken = text_of(at.get("/audit/verify"))
    assert "The audit trail was tampered with event 5 is not what was recorded" in broken


def test_health_says_what_can_be_seen_from_here(at: Consoling) -> None:
    """And what cannot; a verdict that is no better than what was seen."""
    at.key("short", days=10)
    page = text_of(at.get("/health"))
    assert "Node-RED says nothing" in page
    assert "is missing or garbled; run: redlatch refresh" in page
    assert "the key of short ends on" in page
    assert "Whether Node-RED’s settings still carry the lock" in page
    at.publish()
    at.connected()
    at.change(f"/devices/{at.keys['user'].id}/rename", {"name": "other"})  # the guard stays behind
    assert "Not everything is in force" in text_of(at.get("/health"))
    at.connected()
    at.change("/roles/add", {"name": "kiosk", "like": "user"})
    at.connected()
    until(lambda: "Locked, says Node-RED" in text_of(at.get("/")) or None, seconds=8)


def found(text: str, at: datetime) -> reports.Kept:
    """A report with one finding, of that time."""
    line = reports.Line(
        "file-open", "open", "files can be read", text, "/a/file", "Somebody can.", "chmod 600 '<b>'", at
    )
    return reports.Kept(at, (line,), (("a title", "only root may <look>"),), 2)


def test_health_shows_what_check_found(at: Consoling) -> None:
    """With since when, what it means and what to do, escaped; and that it is old, or that there is none."""
    assert "Nobody has looked yet" in text_of(at.get("/health"))
    now = at.site.clock()
    reports.save(at.site.settings, found("<script>alert(1)</script>", now - timedelta(hours=3)))
    answer = at.get("/health", "admin")
    page = text_of(answer)
    assert "open: files can be read" in page
    assert "3 hours ago" in page
    assert "<script>alert(1)</script>" in page
    assert b"<script>alert" not in answer.body
    assert "What to do: chmod 600 '<b>'" in page
    assert "2 findings follow from what stands above" in page
    assert "could not be looked at: a title: only root may <look>" in page
    assert "too long ago" not in page
    reports.save(at.site.settings, found("old", now - timedelta(days=3)))
    assert "That is too long ago to go by" in text_of(at.get("/health"))


def test_a_site_without_node_red_is_told_so(tmp_path: Path) -> None:
    """No page fails because `up` was never run to its end."""
    with consoling(tmp_path) as bare:
        with changing(bare.site) as tx:
            set_config(tx, target=None, adopted=False)
            tx.record("site.changed")
        answer = bare.get("/")
        assert "this site has no Node-RED yet" in text_of(answer)
        assert "run: redlatch up" in text_of(answer)
        assert bare.get("/devices").status == 200
        assert bare.get("/log").status == 200


def test_errors_have_the_console_round_them(at: Consoling) -> None:
    answer = at.get("/nowhere")
    assert heading(answer) == "Not found"
    assert 'aria-label="Console"' in answer.body.decode()
