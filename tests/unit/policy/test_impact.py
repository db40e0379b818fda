"""What a change means for those who came in lately, and who can still put things right after it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from redlatch.policy import lockout
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.impact import Impact, Moved, Seen, impact
from redlatch.policy.lockout import Maker, Standing
from redlatch.policy.model import DEFAULT_RULES, Area, Areas, Entry, Rule, Snapshot

NOW = 1_800_000_000
PHONE, TABLET, OTHER = "a" * 64, "b" * 64, "c" * 64
HOME, AWAY = "192.168.1.20", "203.0.113.7"


def entry(device: str, role: str, *, ends: int = NOW + 86400) -> Entry:
    return Entry(device, role, device, NOW - 86400, ends)


def snapshot(**fields: Any) -> Snapshot:
    made: dict[str, Any] = {
        "site": "s", "version": 1, "time": NOW, "mode": "strict", "port": None, "keep_auth": False,
        "names": ("pi.local",), "admin_root": "/", "spool": "/s", "rules": DEFAULT_RULES,
        "areas": Areas(dashboards=("/dashboard",), http_in=("/hook",)),
        "devices": {PHONE: entry("phone", "admin"), TABLET: entry("tablet", "user")},
        "networks": {"private": BUILTIN["private"]},
    }  # fmt: skip
    return Snapshot(**made | fields)


def seen(path: str = "/", device: str | None = "phone", **more: Any) -> Seen:
    certificate = {"phone": PHONE[:12], "tablet": TABLET[:12], None: None}[device]
    made = {"at": NOW - 60, "address": HOME, "method": "GET", "device": device, "certificate": certificate}
    return Seen(path=path, **made | more)


def without(*numbers: int, **fields: Any) -> Snapshot:
    return snapshot(rules=tuple(rule for rule in DEFAULT_RULES if rule.id not in numbers), **fields)


def weighed(before: Snapshot, after: Snapshot, *some: Seen) -> Impact:
    return impact(before, after, some, now=NOW)


def test_who_is_cut() -> None:
    """What was let in and would not be: the editor as one thing, everything else by its path."""
    found = weighed(
        snapshot(),
        without(2),
        seen("/flows", method="POST", at=NOW - 500, count=3),
        seen("/red/x.js", at=NOW - 40, address=AWAY),
        seen("/dashboard/1"),
        seen("/dashboard/2", "tablet"),
    )
    assert found == Impact(
        (Moved("phone", AWAY, "the editor", 4, NOW - 40), Moved("phone", HOME, "/dashboard/1", 1, NOW - 60)), (), 6
    )


def test_who_is_let_in() -> None:
    """The other way round, whatever the log says of why it was refused."""
    more = snapshot(rules=(*DEFAULT_RULES, Rule(5, any_device=True, area="http-in")))
    asked = seen("/hook", "tablet", method="POST", allowed=False)
    assert weighed(snapshot(), more, asked, seen("/")).let_in == (Moved("tablet", HOME, "/hook", 1, NOW - 60),)
    assert weighed(more, snapshot(), asked) == Impact((), (), 1)  # it was refused, so nobody misses it


def test_what_another_change_did_is_not_this_ones() -> None:
    """Who was let in by rules that are gone already is not cut by this change."""
    assert weighed(without(2), without(2, 3), seen("/")).cut == ()


def test_the_last_address_is_told() -> None:
    late, early = seen(address=AWAY, at=NOW - 5), seen(address=HOME, at=NOW - 50)
    for some in ((late, early), (early, late)):
        assert weighed(snapshot(), without(2), *some).cut == (Moved("phone", AWAY, "the editor", 2, NOW - 5),)


@pytest.mark.parametrize(
    ("after", "cut"),
    [
        (snapshot(devices={TABLET: entry("tablet", "user")}), True),
        (snapshot(devices={PHONE: entry("phone", "user")}), True),
        (snapshot(devices={PHONE: entry("phone", "owner")}), False),
        (snapshot(devices={PHONE: entry("phone", "admin", ends=NOW - 1)}), True),
        (snapshot(names=()), False),
    ],
    ids=["revoked", "another role", "a better role", "expired", "names are not in the log"],
)
def test_devices(after: Snapshot, cut: bool) -> None:
    assert bool(weighed(snapshot(), after, seen()).cut) is cut


def test_a_renewed_device_comes_with_its_other_certificate() -> None:
    """The one of the log where it is in use, another one of the device's where it is not."""
    both = {PHONE: entry("phone", "admin"), OTHER: entry("phone", "admin")}
    renewed = snapshot(devices={OTHER: both[OTHER]})
    assert weighed(snapshot(devices=both), renewed, seen()).cut != ()
    assert weighed(renewed, renewed, seen()) == Impact((), (), 1)
    assert weighed(renewed, without(2, devices=renewed.devices), seen()).cut != ()
    anyone = snapshot(rules=(Rule(9, anyone=True, path="/x"),))
    stranger = seen("/x", None, certificate="d" * 12, allowed=False)
    assert weighed(snapshot(), anyone, stranger).let_in == (Moved(None, HOME, "/x", 1, NOW - 60),)


def test_names_count_where_the_log_says_them() -> None:
    assert weighed(snapshot(), snapshot(names=()), seen(host="pi.local")).cut != ()


def test_websockets_are_judged_as_such() -> None:
    areas = Areas(websockets=("/ws",))
    before = snapshot(areas=areas, rules=(Rule(1, any_device=True, area=Area.WEBSOCKETS),))
    assert weighed(before, snapshot(areas=areas, rules=()), seen("/ws", websocket=True)).cut[0].what == "/ws"
    assert weighed(before, snapshot(areas=areas, rules=()), seen("/ws")).cut == ()


HOOK = Rule(9, anyone=True, path="/x")


@pytest.mark.parametrize(
    ("before", "after", "cut"),
    [
        (None, None, False),
        (None, 1890, True),
        (1890, 1890, False),
        (1890, None, True),
        (1890, 1891, True),
    ],
)
def test_the_open_port(before: int | None, after: int | None, cut: bool) -> None:
    """Who has no certificate calls the port that it called: another one, or none, is a refusal to it."""
    found = weighed(
        snapshot(rules=(HOOK,), open_port=before), snapshot(rules=(HOOK,), open_port=after), seen("/x", None)
    )
    assert bool(found.cut) is cut


def test_a_week_of_a_busy_house_costs_little() -> None:
    """50,000 entries, of which 200 differ, are judged in well under a second."""
    some = [seen(f"/x/{number % 200}", at=NOW - number) for number in range(50_000)]
    begun = time.process_time()
    assert weighed(snapshot(), without(2), *some).judged == 50_000
    assert time.process_time() - begun < 3


# --- who can still put things right


def standing(
    rules: tuple[Rule, ...] = DEFAULT_RULES, there: tuple[str, ...] = ("owner", "admin"), **more: Any
) -> Standing:
    def holds(rule: Rule) -> bool:
        return rule.anyone or rule.any_device or bool(set(rule.roles) & set(there))

    return lockout.standing(rules, more.get("roles", {}), more.get("empty", ()), holds)


def test_who_stands() -> None:
    """An owner, by role or one like it; somebody in the editor who may write, from where there is somewhere."""
    assert standing() == Standing(True, True)
    assert standing(there=("user",)) == Standing(False, False)
    assert standing(there=("boss",), roles={"boss": "owner", "kiosk": "user"}).owner
    assert not standing(there=("kiosk",), roles={"boss": "owner", "kiosk": "user"}).owner
    assert standing((Rule(1, roles=("viewer",), area="editor-read"),), ("viewer",)) == Standing(False, False)
    at_home = (Rule(1, roles=("owner",), area="all", networks=("home", "office")),)
    assert standing(at_home, empty=("home",)).editor
    assert not standing(at_home, empty=("home", "office")).editor


@pytest.mark.parametrize(
    ("rules", "address", "expected"),
    [
        (DEFAULT_RULES, AWAY, Maker(True, True, True)),
        ((Rule(1, any_device=True, area="editor-read"),), HOME, Maker(True, True, False)),
        ((Rule(1, any_device=True, area="all", networks=("private",)),), HOME, Maker(True, True, True)),
        ((Rule(1, any_device=True, area="all", networks=("private",)),), AWAY, Maker(True, False, False)),
        ((), HOME, Maker(True, False, False)),
    ],
)
@pytest.mark.parametrize("root", ["/", "/admin", None])
def test_what_the_maker_may(rules: tuple[Rule, ...], address: str, expected: Maker, root: str | None) -> None:
    found = lockout.maker(
        snapshot(rules=rules, admin_root=root), certificate=PHONE, address=address, base="owner", now=NOW
    )
    # without an editor every path is one that only "all" and "editor" speak of
    assert found == (replace(expected, read=expected.deploy) if root is None else expected)


def test_a_maker_that_is_gone() -> None:
    """Revoked, it manages nothing and gets in nowhere."""
    gone = lockout.maker(snapshot(devices={}), certificate=PHONE, address=HOME, base=None, now=NOW)
    assert gone == Maker(False, False, False)


YES, NO = Standing(True, True), Standing(False, False)
ALL, NONE = Maker(True, True, True), Maker(False, False, False)


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ((YES, YES), (YES, YES), ()),
        ((NO, NO), (NO, NO), ()),
        ((NO, NO), (YES, YES), ()),
        ((YES, YES), (NO, NO), (lockout.NO_OWNER, lockout.NO_EDITOR)),
        ((YES, YES), (YES, NO), (lockout.NO_OWNER, lockout.NO_EDITOR)),
        ((YES, NO), (YES, NO), ()),
        ((YES, NO), (NO, NO), (lockout.NO_OWNER, lockout.NO_EDITOR)),
        ((YES,), (Standing(True, False),), (lockout.NO_EDITOR,)),
        ((YES,), (Standing(False, True),), (lockout.NO_OWNER,)),
    ],
)
def test_what_is_lost(before: tuple[Standing, ...], after: tuple[Standing, ...], lost: tuple[str, ...]) -> None:
    """Only what was there, now or in an hour: who is there for minutes is nobody who stays."""
    assert lockout.lost(before, after) == lost


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (ALL, ""),
        (NONE, "manage nothing"),
        (Maker(True, False, False), "not reach the editor"),
        (Maker(True, True, False), "not change flows"),
    ],
)
def test_what_the_maker_loses(after: Maker, said: str) -> None:
    """One sentence, the worst of them; nothing where there is no such device, or it had nothing to lose."""
    found = lockout.lost((YES,), (YES,), ALL, after)
    assert len(found) == bool(said)
    assert said in "".join(found)
    assert lockout.lost((YES,), (YES,), NONE, after) == ()
    assert lockout.lost((YES,), (YES,), None, None) == ()
    assert lockout.lost((YES,), (YES,), ALL, None) == ()
