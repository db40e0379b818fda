"""The console asks whom a change would cut, and makes it on trial: kept over a new connection, by an owner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.support.clients import Connection, Refused, Response
from tests.support.consoling import PAGE, Consoling, consoling, text_of
from tests.support.wait import until

from redlatch.operations import devices, emergency, networks, rules, trials

HTMX = {"HX-Request": "true", "HX-Target": "trial"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoling]:
    with consoling(tmp_path_factory.mktemp("console")) as served:
        yield served


@pytest.fixture
def at(shared: Consoling) -> Iterator[Consoling]:
    """The console, with the rules of a new site and no trial."""
    yield shared
    if trials.show(shared.site) is not None:
        trials.undo(shared.site)


def posted(at: Consoling, connection: Connection, target: str, fields: Any = ()) -> Response:
    """A form, over a connection that is kept."""
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": f"https://localhost:{at.port}",
        **PAGE,
    }
    return connection.request("POST", target, headers=headers, body=urlencode(fields).encode())


def numbers(at: Consoling) -> list[int]:
    return [one.rule.id for one in rules.list_rules(at.site)]


def test_a_change_on_trial_is_kept_over_a_new_connection(at: Consoling) -> None:
    """The connection that made it is refused, whatever it sends; a new one keeps it."""
    with at.connection() as one:
        answer = posted(at, one, "/rules/4/remove", {"try": "120"})
        assert answer.status == 303
        page = text_of(one.request("GET", answer.headers["location"]))
        assert "It is on trial until" in page
        assert 4 not in numbers(at)
        trial = one.request("GET", "/trial")
        assert "It is taken back in 1" in text_of(trial)
        assert '<noscript><meta http-equiv="refresh"' in trial.body.decode()
        said = posted(at, one, "/trial/keep")
        assert "came over a connection that was there before the change" in text_of(
            one.request("GET", said.headers["location"])
        )
    assert trials.show(at.site) is not None
    assert "A change is on trial until" in text_of(at.get("/rules"))
    assert "kept: Remove rule 4" in at.change("/trial/keep")
    assert trials.show(at.site) is None
    assert 4 not in numbers(at)
    assert "The last one was kept" in text_of(at.get("/trial"))
    assert "no change is on trial" in at.change("/trial/keep")


def test_a_change_on_trial_is_taken_back(at: Consoling) -> None:
    """By its button, by an owner only; the page shows the time that is left, and nothing else, to a script."""
    before = numbers(at)
    assert at.change("/rules/3/remove", {"try": "600"})
    part = at.get("/trial", **HTMX).body.decode()
    assert 'role="timer"' in part
    assert "<main" not in part
    for who in ("admin", "user"):
        assert at.post("/trial/undo", who=who).status == 403
        assert at.post("/trial/keep", who=who).status == 403
    assert at.get("/trial", "user").status == 403
    assert (
        "Keep it" not in text_of(at.get("/trial", "admin")).partition("On trial")[2].partition("Keep it when")[0]
    )
    assert "a change is on trial" in at.change("/roles/add", {"name": "kiosk", "like": "user"})
    assert "taken back: Remove rule 3" in at.change("/trial/undo")
    assert numbers(at) == before


def test_who_is_no_owner_any_more_keeps_nothing(at: Consoling) -> None:
    """By the rules on trial: the visitor's own role was changed by them."""
    second = at.key("second", "owner")
    fields = {"role": "admin", "try": "120", "insist": "1"}
    at.change(f"/devices/{second.id}/role", fields, second)
    assert at.post("/trial/keep", who=second).status == 403
    assert trials.show(at.site) is not None
    at.change("/trial/undo")
    assert devices.show(at.site, "second").device.role == "owner"
    devices.revoke(at.site, "second")


@pytest.mark.parametrize("length", ["5", "3601", "x", "-1"])
def test_a_trial_has_its_limits(at: Consoling, length: str) -> None:
    before = numbers(at)
    assert at.post("/rules/3/remove", {"try": length}).status == 400
    assert numbers(at) == before


def test_no_page_of_elsewhere_keeps_it(at: Consoling) -> None:
    """As every form of the console: its own origin only, and only by POST."""
    at.change("/rules/3/remove", {"try": "120"})
    assert at.post("/trial/keep", Origin="https://evil.example").status == 403
    assert at.get("/trial/keep").status == 405
    assert trials.show(at.site) is not None


def test_the_form_says_whom_it_cuts(at: Consoling) -> None:
    """In red, by name and address; with a box that names what is lost; and nobody where nobody was seen."""
    assert "Nobody of the last 7 days" in text_of(at.get("/rules/3/remove"))
    boss = at.keys["owner"]
    at.say(device=boss.id, fp=boss.issued.fingerprint[:12], path="/flows", from_="127.0.0.1", count=7)
    page = at.get("/rules/1/remove")
    assert (
        "Would be cut , of the last 7 days: Who From What Times Last the owner 127.0.0.1 the editor 7"
        in text_of(page)
    )
    assert "It locks out who could undo it: the device that you are using now" in text_of(page)
    assert 'name="insist" value="1" required aria-describedby="lost"' in page.body.decode()
    refused = at.post("/rules/1/remove", {"try": "120"})
    assert refused.status == 409
    assert "would not reach the editor any more" in text_of(refused)
    look = at.get(f"/devices/{boss.id}/role?look=1&role=viewer")
    assert "would manage nothing here any more" in text_of(look)
    revoke = text_of(at.get(f"/devices/{boss.id}/revoke"))
    assert "On trial" not in revoke
    assert "Would be cut" in revoke
    at.say(from_="198.51.100.9", path="/hook", method="POST", allow=False, reason="no-certificate")
    found = text_of(at.get("/rules/new?look=1&who=anyone&what=path&path=/hook"))
    assert (
        "Would be let in , of the last 7 days: Who From What Times Last without a key 198.51.100.9 /hook" in found
    )


def test_a_network_does_not_shrink_under_its_visitor(at: Consoling) -> None:
    networks.add(at.site, "here", ["127.0.0.1"], resolver=lambda _: {}, force=True)
    made = rules.add(at.site, rules.Wanted(area="all", roles=("owner",), networks=("here",))).shown
    assert made is not None
    rules.remove(at.site, 1)
    answer = at.post("/networks/of/here/remove", {"entry": "127.0.0.1"})
    assert answer.status == 409
    assert "would not reach the editor any more" in text_of(answer)
    said = at.change("/networks/of/here/remove", {"entry": "127.0.0.1", "insist": "1", "try": "120"})
    assert "It is on trial until" in said
    trials.undo(at.site)
    assert networks.list_networks(at.site, "here")[0].count == 1


def test_connections_are_new_after_a_change_on_trial(at: Consoling, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service ends those that there are, so that the next press of any browser comes over a new one."""
    ended: list[str] = []
    monkeypatch.setattr(at.context, "renew_connections", lambda: ended.append("ended"))
    at.change("/rules/3/remove")
    assert ended == []
    rules.add(at.site, rules.Wanted(area="editor-read", roles=("viewer",)))
    rule = numbers(at)[-1]
    at.change(f"/rules/{rule}/remove", {"try": "120"})
    assert ended == ["ended"]
    with at.connection() as idle:
        assert idle.request("GET", "/").status == 200
        at.renew()
        with pytest.raises(Refused):
            idle.request("GET", "/")
    assert at.get("/").status == 200


def test_the_end_is_the_services_own(at: Consoling) -> None:
    """What takes a trial back when the service is gone is started with every one."""
    started: list[timedelta] = []
    at.context.watch_trial = lambda _, length: started.append(length)
    number = numbers(at)[-1]
    at.change(f"/rules/{number}/remove", {"try": "120"})
    assert started == [timedelta(minutes=2)]
    site = replace(at.site, actor="somebody else")
    trials.undo(site)
    with at.site.store.read() as view:
        event = view.audit_before(None, 1)[0].event
    assert (event.kind, event.actor) == ("trial.undone", "somebody else")
    assert json.dumps(event.data)


def test_a_way_back_in_is_named_until_its_end(at: Consoling) -> None:
    """On the page of what is not as it should be."""
    opened = emergency.open_(at.site, "again")
    said = "a way back in is open until"
    until(lambda: said in text_of(at.get("/health")), what="the warning")
    at.change(f"/devices/{opened.issued.device.id}/revoke")
    assert said not in text_of(at.get("/health"))
