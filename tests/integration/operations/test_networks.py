"""Roles, networks, DNS names and origins on a real store: what is stored, published and refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.operations.conftest import House
from tests.support.site import published

from redlatch.errors import Conflict, FileProblem, InvalidInput, NotFound, UsageError
from redlatch.operations import devices, lookups, networks, origins, roles, status, traffic
from redlatch.operations.site import Site
from redlatch.policy.model import Area, Rule
from redlatch.policy.networks import Network


@dataclass
class NameServer:
    """What names resolve to, as the tests say."""

    answers: dict[str, tuple[str, ...] | str]
    asked: int = 0

    def __call__(self, names: Sequence[str]) -> Mapping[str, tuple[str, ...] | str]:
        self.asked += 1
        return {name: self.answers.get(name, "name or service not known") for name in names}


@dataclass
class Clock:
    now: datetime

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def site(newest: House) -> Site:
    newest.up()
    return newest.open()


@pytest.fixture
def names() -> NameServer:
    return NameServer({"ada.example.org": ("203.0.113.7",)})


def use(site: Site, *networks_: str) -> int:
    """A rule that speaks of these networks; its number."""
    with site.store.write("test", site.clock()) as tx:
        rule = tx.add_rule(Rule(0, any_device=True, networks=networks_, area=Area.STATIC))
        tx.record("rule.added", id=rule.id)
    return rule.id


def held(site: Site, name: str) -> Network:
    with site.store.read() as view:
        return networks.network(view, name)


def nobody(_: Sequence[str]) -> Mapping[str, tuple[str, ...] | str]:
    raise AssertionError("no name was to be looked up")


def test_a_network_is_stored_merged_and_published_when_a_rule_uses_it(site: Site) -> None:
    """Addresses of a used network are in the published snapshot; those of an unused one are not."""
    networks.add(site, "home", ["192.168.1.0/25", "192.168.1.128/25", "2001:db8::/48"], resolver=nobody)
    networks.add(site, "other", ["10.0.0.1"], resolver=nobody)
    use(site, "home")
    changed = networks.add(site, "home", ["192.168.2.1 # shed"], resolver=nobody)
    assert changed.network.rules == (5,)
    snapshot = published(site.settings.published)
    assert set(snapshot.networks) == {"home"}
    assert snapshot.networks["home"] == held(site, "home")
    assert [snapshot.networks["home"].contains(one) for one in ("192.168.1.200", "192.168.2.1", "10.0.0.1")] == [
        True,
        True,
        False,
    ]
    networks.remove(site, "home", ["192.168.1.0/25"])
    assert not published(site.settings.published).networks["home"].contains("192.168.1.20")


def test_a_network_in_use_is_not_removed(site: Site) -> None:
    """The rules that use it are named; entries may go, down to nobody."""
    networks.add(site, "home", ["192.168.1.20"], resolver=nobody)
    rule = use(site, "home")
    with pytest.raises(Conflict, match=f"used by rule {rule}"):
        networks.remove(site, "home")
    assert networks.remove(site, "home", ["192.168.1.20/32"]).notes == ("home is empty and holds nobody",)
    assert published(site.settings.published).networks["home"] == Network()


def test_all_or_nothing(site: Site, tmp_path: Path, names: NameServer) -> None:
    """One bad line, name or file leaves no network, no event and no version."""
    with site.store.read() as view:
        before = view.audit_head(), view.site().revision
    good, bad, binary, empty = (tmp_path / name for name in ("good", "bad", "binary", "empty"))
    good.write_text("10.0.0.1\nada.example.org\n")
    bad.write_text("10.0.0.1\n10.0.0.256\n")
    binary.write_bytes("10.0.0.1\n".encode("utf-16"))
    empty.write_text("# nothing\n")
    wrong = dict.fromkeys((bad, binary, empty), InvalidInput)
    unreadable = dict.fromkeys((tmp_path, Path("/dev/zero"), tmp_path / "missing"), FileProblem)
    for file, error in {**wrong, **unreadable}.items():
        with pytest.raises(error):
            networks.add(site, "n", file=file, resolver=names)
    with pytest.raises(NotFound, match=r"typo\.example\.org does not resolve: name or service not known"):
        networks.add(site, "n", ["typo.example.org"], file=good, resolver=names)
    with pytest.raises(UsageError):
        networks.add(site, "n", resolver=names)
    for name in ("localhost", "private", "cloudflare"):
        with pytest.raises(Conflict, match="built-in"):
            networks.add(site, name, ["10.0.0.1"], resolver=names)
    for name in ("", "A", "a b", "-a", "a-", "1a", "x" * 33, "ä"):
        with pytest.raises(InvalidInput, match="cannot be the name of a network"):
            networks.add(site, name, ["10.0.0.1"], resolver=names)
    with site.store.read() as view:
        assert (view.audit_head(), view.site().revision) == before
        assert view.networks() == ()


def test_a_large_file_is_refused(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than the bound is not read."""
    monkeypatch.setattr(networks, "MOST_BYTES", 1 << 20)
    large = tmp_path / "large"
    large.write_bytes(b"# \n" * (1 << 20))
    with pytest.raises(FileProblem, match="larger than 1 MiB"):
        networks.add(site, "n", file=large, resolver=nobody)


def test_a_file_and_entries_are_added_together(site: Site, tmp_path: Path) -> None:
    """Carriage returns, a byte order mark and comments are what files of other systems have."""
    file = tmp_path / "office.txt"
    file.write_bytes(b"\xef\xbb\xbf192.168.7.0/24 # the office\r\n; more\r\n192.168.8.1\r\n")
    changed = networks.add(site, "office", ["192.168.7.9"], file=file, resolver=nobody)
    assert (changed.added, changed.network.count) == (3, 3)
    assert ("192.168.7.0/24", "the office") in changed.network.entries
    assert any("overlap" in note for note in changed.notes)


def test_dns_names_are_looked_up_again(site: Site, names: NameServer) -> None:
    """A new answer is recorded and published; the same one in another order costs no version."""
    networks.add(site, "away", ["ada.example.org # Ada"], resolver=names)
    use(site, "away")
    names.answers["ada.example.org"] = ("203.0.113.9", "203.0.113.8")
    assert lookups.resolve(site, names).changes == ("ada.example.org in away: 203.0.113.8, 203.0.113.9",)
    network = published(site.settings.published).networks["away"]
    assert [network.contains(f"203.0.113.{number}") for number in (7, 8, 9)] == [False, True, True]
    with site.store.read() as view:
        before = view.audit_head(), view.site().revision
    names.answers["ada.example.org"] = ("203.0.113.8", "203.0.113.9")
    assert lookups.resolve(site, names).changes == ()
    with site.store.read() as view:
        assert (view.audit_head(), view.site().revision) == before


def test_a_name_that_does_not_resolve_any_more(site: Site, names: NameServer) -> None:
    """Its last answer counts for 24 hours, then it holds nobody; when it resolves again, all is well."""
    clock = Clock(site.clock())
    site = replace(site, clock=clock)
    networks.add(site, "away", ["ada.example.org"], resolver=names)
    answer = names.answers.pop("ada.example.org")
    clock.now += timedelta(minutes=5)
    assert lookups.resolve(site, names).changes == ("ada.example.org in away does not resolve",)
    assert any("does not resolve since" in text and "24 hours" in text for text in warned(site))
    clock.now += timedelta(hours=23, minutes=54)
    assert lookups.resolve(site, names).changes == ()
    assert held(site, "away").contains("203.0.113.7")
    clock.now += timedelta(minutes=10)
    assert lookups.resolve(site, names).changes == ("ada.example.org in away: nobody any more",)
    assert held(site, "away") == Network()
    assert any("holds nobody" in text for text in warned(site))
    assert lookups.resolve(site, names).changes == ()
    names.answers["ada.example.org"] = answer
    assert lookups.resolve(site, names).changes == ("ada.example.org in away: 203.0.113.7",)
    assert warned(site) == []


def test_the_last_answer_is_as_old_as_the_last_look(site: Site, names: NameServer) -> None:
    """After two days in which nobody looked, an answer of two days ago does not count for another day."""
    clock = Clock(site.clock())
    site = replace(site, clock=clock)
    networks.add(site, "away", ["ada.example.org"], resolver=names)
    clock.now += timedelta(days=2)
    assert any("have not been looked up since" in text for text in warned(site))
    names.answers.clear()
    lookups.resolve(site, names)
    assert held(site, "away") == Network()


def warned(site: Site) -> list[str]:
    with site.store.read() as view:
        return lookups.warnings(site, view)


def test_force_stores_a_name_that_holds_nobody(site: Site, names: NameServer) -> None:
    """Until it resolves; what it must not stand for is no answer either."""
    names.answers["here.example.org"] = ("127.0.0.1", "::ffff:10.0.0.1", "0.0.0.0")
    with pytest.raises(NotFound, match=r"its answer is 0\.0\.0\.0, 127\.0\.0\.1, ::ffff:10\.0\.0\.1, which is"):
        networks.add(site, "away", ["here.example.org"], resolver=names)
    changed = networks.add(site, "away", ["here.example.org", "soon.example.org"], resolver=names, force=True)
    assert len(changed.notes) == 2
    assert held(site, "away") == Network()
    names.answers["soon.example.org"] = ("203.0.113.7",)
    lookups.resolve(site, names)
    assert held(site, "away").contains("203.0.113.7")
    assert not held(site, "away").contains("127.0.0.1")


def test_the_timer_is_told_of_names(site: Site, names: NameServer) -> None:
    """A file in the home is there while some network has a DNS name; without one nobody is asked."""
    marker = site.settings.look_up
    networks.add(site, "home", ["192.168.1.20"], resolver=names)
    assert lookups.resolve(site, names).names == 0
    assert (marker.exists(), names.asked) == (False, 0)
    networks.add(site, "home", ["ada.example.org"], resolver=names)
    assert lookups.last_look(site) is not None
    networks.remove(site, "home", ["ada.example.org"])
    assert not marker.exists()
    with pytest.raises(NotFound):
        networks.add(site, "home", ["typo.example.org"], resolver=names)
    assert not marker.exists()


def test_roles_are_what_they_are_like(site: Site) -> None:
    """A role like another one is like that one's built-in base; what devices or rules use is not removed."""
    roles.add(site, "kiosk", like="user")
    assert roles.add(site, "panel", like="kiosk").role.base == "user"
    devices.add(site, "Ada's tablet", role="panel")
    with site.store.write("test", site.clock()) as tx:
        tx.add_rule(Rule(0, roles=("kiosk",), path="/hook", methods=("POST",)))
        tx.record("rule.added")
    assert published(site.settings.published).roles == {"kiosk": "user", "panel": "user"}
    found = {one.name: one for one in roles.list_roles(site)}
    assert (found["panel"].devices, found["panel"].reaches) == (1, ("dashboards",))
    assert found["kiosk"].reaches == ("dashboards", "/hook (POST)")
    with pytest.raises(Conflict, match="1 device with the role panel: Ada's tablet"):
        roles.remove(site, "panel")
    with pytest.raises(Conflict, match="1 rule for the role kiosk: 5"):
        roles.remove(site, "kiosk")
    devices.revoke(site, "Ada's tablet")
    roles.remove(site, "panel")
    for error, name, like in ((Conflict, "owner", "user"), (Conflict, "kiosk", "user"), (InvalidInput, "x", "y"),
                              (InvalidInput, "X", "user"), (InvalidInput, "x" * 33, "user")):  # fmt: skip
        with pytest.raises(error):
            roles.add(site, name, like=like)
    with pytest.raises(InvalidInput, match="there is no role 'panel'"):
        devices.add(site, "new", role="panel")


def test_origins_are_published(site: Site) -> None:
    """In their canonical form; what is there twice or not at all is said."""
    assert origins.add(site, "HTTPS://HomeAssistant.local:443/").origin == "https://homeassistant.local"
    assert published(site.settings.published).origins == ("https://homeassistant.local",)
    with pytest.raises(Conflict):
        origins.add(site, "https://homeassistant.local")
    assert origins.add(site, "http://a.local").warnings
    origins.remove(site, "https://homeassistant.local:443")
    with pytest.raises(NotFound):
        origins.remove(site, "https://homeassistant.local")
    assert published(site.settings.published).origins == ("http://a.local",)


def log(site: Site, *addresses: str) -> None:
    """An access log as the guard writes it, one entry for each address."""
    lines = [
        {"at": 1_700_000_000 + number, "from": address, "device": None, "fp": None, "method": "GET", "path": "/",
         "allow": False, "reason": "no-certificate"}
        for number, address in enumerate(addresses)
    ]  # fmt: skip
    path = site.settings.spool / "access.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_traffic_in_which_everybody_is_one_address_is_said(site: Site, newest: House) -> None:
    """Where networks are added, listed and watched over; it is Node-RED's word and changes no permission."""
    log(site, *["::ffff:172.17.0.1"] * 600)
    seen = traffic.seen(site)
    assert (seen.connections, seen.addresses, seen.everybody) == (500, {"172.17.0.1": 500}, "172.17.0.1")
    changed = networks.add(site, "docker", ["172.17.0.0/16"], resolver=nobody)
    assert "all of the last 500 connections came from 172.17.0.1" in changed.network.cautions[0]
    shown = {one.name: one.cautions for one in networks.list_networks(site)}
    assert shown["docker"] == changed.network.cautions
    assert shown["private"][0].startswith("all of the last 500")
    assert shown["cloudflare"] == ()
    assert not any("172.17.0.1" in text for text in status.status(site, newest.environ).warnings)
    use(site, "docker")
    assert any("172.17.0.1" in text for text in status.status(site, newest.environ).warnings)


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param([], id="none"),
        pytest.param(["172.17.0.1"] * 19, id="too few to say"),
        pytest.param(["172.17.0.1"] * 50 + ["192.168.1.5"], id="two addresses"),
        pytest.param(["203.0.113.7"] * 50, id="one that is not private"),
        pytest.param(["nonsense"] * 50, id="nonsense"),
    ],
)
def test_other_traffic_says_nothing(site: Site, addresses: list[str]) -> None:
    """Only one loopback or private address for all of at least 20 connections is worth a word."""
    log(site, *addresses)
    assert traffic.sentence(traffic.seen(site)) is None


def test_a_planted_log_says_nothing(site: Site, tmp_path: Path) -> None:
    """A link in the place of the log is not followed."""
    (tmp_path / "elsewhere").write_text("{}")
    (site.settings.spool / "access.jsonl").symlink_to(tmp_path / "elsewhere")
    assert traffic.seen(site) == traffic.Seen()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["127.0.0.0/8"], "this machine's own address"),
        (["::1"], "this machine's own address"),
        (["172.17.0.1"], "one private address"),
        (["0.0.0.0/0"], "that is everybody"),
        (["::/0"], "that is everybody"),
    ],
)
def test_what_an_address_list_cannot_know_is_said(site: Site, entries: list[str], said: str) -> None:
    """Loopback, a single private address, the whole internet: each with its caution."""
    assert any(said in text for text in networks.add(site, "n", entries, resolver=nobody).network.cautions)


def test_other_addresses_need_no_caution(site: Site) -> None:
    """A subnet at home and a public address are what they seem."""
    assert networks.add(site, "n", ["192.168.1.0/24", "203.0.113.7"], resolver=nobody).network.cautions == ()


def test_a_network_in_use_does_not_grow_into_everywhere(site: Site) -> None:
    """What no rule could be added with, no network of a rule is given afterwards; nothing of it is stored."""
    networks.add(site, "home", ["192.168.1.0/24"], resolver=nobody)
    with site.store.write("test", site.clock()) as tx:
        tx.add_rule(Rule(0, anyone=True, networks=("home",), area=Area.EDITOR))
        tx.record("rule.added")
    for entries in (["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["::/0"]):
        with pytest.raises(Conflict, match="everybody from everywhere"):
            networks.add(site, "home", entries, resolver=nobody, force=True)
    with pytest.raises(Conflict, match="Cloudflare"):
        networks.add(site, "home", ["104.16.0.0/13"], resolver=nobody)
    assert networks.list_networks(site, "home")[0].count == 1
    networks.add(site, "home", ["192.168.2.0/24"], resolver=nobody)
    networks.add(site, "home", ["104.16.0.0/13"], resolver=nobody, force=True)
    assert networks.list_networks(site, "home")[0].count == 3
