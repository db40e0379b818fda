"""Rules as a file: export and apply give the same back, and a mistake in the file changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.operations.conftest import House
from tests.support.site import published

from redlatch.errors import Conflict, InvalidInput, NotFound, RedlatchError
from redlatch.operations import devices, exchange, networks, origins, roles, rules
from redlatch.operations.exchange import Plan
from redlatch.operations.rules import Wanted
from redlatch.operations.site import Site

ANSWERS = {"ada.example.org": ("203.0.113.7",)}
COMMENT = 'the "router" \\ Küche'


def resolver(names: object) -> dict[str, tuple[str, ...] | str]:
    assert isinstance(names, list | tuple)
    return {name: ANSWERS.get(name, "name or service not known") for name in names}


@pytest.fixture
def site(newest: House) -> Site:
    """One that insists: what locks out its only devices is not what these tests are about."""
    newest.up()
    return replace(newest.open(), insist=True)


def fill(site: Site) -> None:
    """Something of everything."""
    devices.add(site, 'Ada\'s "tablet"')
    devices.add(site, "Bart's phone", role="user")
    roles.add(site, "garden", like="user")
    networks.add(site, "home", [f"192.168.1.0/24 # {COMMENT}", "ada.example.org"], resolver=resolver)
    origins.add(site, "https://ha.local:8123")
    rules.add(site, Wanted(area="dashboards", roles=("garden",), devices=('Ada\'s "tablet"',), networks=("home",)))
    rules.add(site, Wanted(path="/hook", anyone=True, methods=("POST",), open_port=1890))
    rules.remove(site, 2)


def apply(site: Site, text: str, folder: Path, *, force: bool = False) -> Plan:
    """Applies a file with that text; the plan that was carried out."""
    file = folder / "rules.toml"
    file.write_text(text, "utf-8")
    wanted = exchange.read(site, file, resolver=resolver)
    plan = exchange.plan(site, wanted, force=force)
    if plan.changes:
        exchange.apply(site, wanted, plan, force=force)
    return plan


def state(site: Site) -> tuple[object, ...]:
    with site.store.read() as view:
        entries = {row.name: (row.entries, row.digest) for row in view.networks()}
        config = site.config()
        return view.rules(), view.roles(), entries, config.origins, config.open_port, view.audit_head()


def test_export_and_apply_change_nothing(site: Site, tmp_path: Path) -> None:
    """The file that a site writes asks for what is there, comments and quotes included."""
    fill(site)
    before = state(site)
    text = exchange.export(site)
    assert COMMENT.replace("\\", "\\\\").replace('"', '\\"') in text
    assert apply(site, text, tmp_path) == Plan((), "", ())
    assert state(site) == before


def test_an_export_makes_another_site_the_same(site: Site, tmp_path: Path) -> None:
    """With devices by name; what that site had besides goes. One transaction, one event."""
    fill(site)
    text = exchange.export(site)
    other = House(tmp_path / "other", "5.0")
    (tmp_path / "other").mkdir(exist_ok=True)
    other.up()
    there = replace(other.open(), insist=True)
    with pytest.raises(NotFound, match=r"rule 4 in .*tablet"):
        apply(there, text, tmp_path)
    devices.add(there, 'Ada\'s "tablet"')
    networks.add(there, "old", ["10.0.0.1"], resolver=resolver)
    plan = apply(there, text, tmp_path)
    assert plan.changes == (
        "+ role garden, like user",
        "- network old",
        "+ network home: 192.168.1.0/24, ada.example.org",
        "+ origin https://ha.local:8123",
        "+ open port 1890",
        "- devices with the role admin, from anywhere, may reach everything",
        '+ Ada\'s "tablet" and devices with the role garden, from home, may reach the dashboards',
        "+ anyone, with or without a certificate, from anywhere, may POST to /hook",
    )
    assert exchange.export(there).splitlines()[1:] == text.splitlines()[1:]
    assert published(there.settings.published).networks["home"].contains("203.0.113.7")
    with there.store.read() as view:
        last = [one.event for one in view.audit_events()][-1]
    assert (last.kind, last.data["changes"]) == ("rules.applied", list(plan.changes))


def test_revoked_devices_are_not_exported(site: Site, tmp_path: Path) -> None:
    """Another device may have the name by now; a rule of theirs alone stays where it is."""
    fill(site)
    rules.add(site, Wanted(area="static", devices=("Bart's phone",)))
    devices.revoke(site, "Bart's phone")
    devices.add(site, "Bart's phone")
    text = exchange.export(site)
    assert "Bart" not in text
    before = state(site)
    assert apply(site, text, tmp_path).changes == ()
    assert state(site) == before


def test_long_lists_are_named_by_their_text(site: Site, tmp_path: Path) -> None:
    """More than 1,000 entries are named as stored; elsewhere a file takes their place."""
    entries = [f"10.{number >> 8}.{number & 255}.1" for number in range(1001)]
    file = tmp_path / "list.txt"
    file.write_text("\n".join([*entries, "ada.example.org # moves"]))
    networks.add(site, "long", file=file, resolver=resolver)
    text = exchange.export(site)
    assert "long = {stored = " in text
    assert "10.0.0.1" not in text
    assert apply(site, text, tmp_path).changes == ()
    with_file = text.replace(text[text.index("{stored") : text.index("}") + 1], '{file = "list.txt"}')
    assert apply(site, with_file, tmp_path).changes == ()
    file.write_text(file.read_text() + "\n172.16.0.1\n")
    assert apply(site, with_file, tmp_path).changes == ("+ in the network long: 172.16.0.1",)
    with pytest.raises(NotFound, match="not stored here any more") as caught:
        apply(site, text, tmp_path)
    assert "file = " in caught.value.hint


def test_what_changes_is_said_by_kind(site: Site, tmp_path: Path) -> None:
    """Entries of a network, the base of a role, the port; what to ask is said with it."""
    fill(site)
    text = exchange.export(site)
    text = text.replace('garden = "user"', 'garden = "viewer"').replace("open_port = 1890\n", "")
    text = text.replace('"ada.example.org"', '"10.0.0.0/8", "10.1.0.0-10.1.0.9"').replace(
        'roles = ["owner"]', 'roles = ["user"]'
    )
    plan = apply(site, text, tmp_path)
    assert plan.changes == (
        "- role garden, like user",
        "+ role garden, like viewer",
        "- in the network home: ada.example.org",
        "+ in the network home: 10.0.0.0/8, 10.1.0.0-10.1.0.9",
        "- open port 1890",
        "- devices with the role owner, from anywhere, may reach everything",
        "+ devices with the role user, from anywhere, may reach everything",
    )
    assert "handshake" in plan.question
    assert apply(site, "", tmp_path).question == ""
    assert exchange.export(site).count("\n") == 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[[rule]]\nanyone = true\narea = 'all'\n", Conflict, "everybody from everywhere"),
        ("[[rule]]\nanyone = true\nfrom = ['cloudflare']\npath = '/x'\n", Conflict, "Cloudflare"),
        ("[[rule]]\nany_device = true\narea = 'dashboard'\n", InvalidInput, "rule 1 in .*no area 'dashboard'"),
        ("[[rule]]\nroles = ['amdin']\narea = 'all'\n", NotFound, "rule 1 in .*no role 'amdin'"),
        ("[[rule]]\nany_device = true\nfrom = ['home']\narea = 'all'\n", NotFound, "no network 'home'"),
        ("[[rule]]\ndevices = ['nobody']\narea = 'all'\n", NotFound, "no device named 'nobody'"),
        ("[[rule]]\npath = '/x'\n", InvalidInput, "names nobody"),
        ("[[rule]]\nany_device = true\npath = '/flows'\n", InvalidInput, "belongs to the editor"),
        ("[networks]\nhome = ['010.0.0.1']\n", InvalidInput, "network 'home' in .*octal"),
        ("[networks]\nhome = ['nowhere.example.org']\n", NotFound, "does not resolve"),
        ("[networks]\nprivate = ['10.0.0.1']\n", Conflict, "built in"),
        ("[networks]\n'A B' = []\n", InvalidInput, "'A B'"),
        ("[networks]\na = {file = '/proc/self/mem'}\n", RedlatchError, "/proc/self/mem"),
        ("[networks]\na = {file = 'missing.txt'}\n", RedlatchError, "missing.txt"),
        ("[networks]\na = {stored = 'abc'}\n", NotFound, "not stored here"),
        ("[roles]\nadmin = 'user'\n", Conflict, "built in"),
        ("[roles]\ngarden = 'usre'\n", NotFound, "no built-in role 'usre'"),
        ("[roles]\n'a b' = 'user'\n", InvalidInput, "'a b'"),
        ("origins = ['ha.local']\n", InvalidInput, "no web origin"),
        ("open_port = 99999\n", InvalidInput, "no port"),
        ("rulez = 1\n", InvalidInput, "unknown key 'rulez'"),
        ("[[rule]\n", InvalidInput, "is no TOML"),
    ],
)
def test_a_mistake_changes_nothing(
    shared: Site, tmp_path: Path, text: str, error: type[RedlatchError], message: str
) -> None:
    """Nothing of the file, whatever else is right in it."""
    before = state(shared)
    with pytest.raises(error, match=message):
        apply(shared, text, tmp_path)
    assert state(shared) == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that nothing may change."""
    house = House(tmp_path_factory.mktemp("shared"), "5.0")
    house.up()
    return house.open()


def test_with_force_what_is_doubtful_is_taken(site: Site, tmp_path: Path) -> None:
    """A name that does not resolve holds nobody until it does; what stands for everybody is said."""
    text = exchange.export(site) + (
        "[networks]\nodd = ['nowhere.example.org']\n[[rule]]\nanyone = true\nfrom = ['cloudflare']\npath = '/x'\n"
        "[[rule]]\nanyone = true\nfrom = ['cloudflare']\npath = '/x'\n"
    )
    plan = apply(site, text, tmp_path, force=True)
    assert len([one for one in plan.remarks if "Cloudflare" in one]) == 1
    assert any("does not resolve" in one for one in plan.remarks)
    assert any("says what another one says" in one for one in plan.remarks)
    assert published(site.settings.published).rules[-1].path == "/x"


def test_roles_that_devices_have_stay(site: Site, tmp_path: Path) -> None:
    """A file without them is refused."""
    fill(site)
    text = exchange.export(site)
    devices.add(site, "mower", role="garden")
    with pytest.raises(Conflict, match="garden, which 1 device"):
        apply(site, text.replace('[roles]\ngarden = "user"\n', "").replace('roles = ["garden"]\n', ""), tmp_path)


def test_a_change_in_between_stops_it(site: Site, tmp_path: Path) -> None:
    """What was agreed to is what is applied."""
    file = tmp_path / "rules.toml"
    file.write_text("")
    wanted = exchange.read(site, file, resolver=resolver)
    plan = exchange.plan(site, wanted)
    rules.add(site, Wanted(path="/new"))
    before = state(site)
    with pytest.raises(Conflict, match="changed meanwhile"):
        exchange.apply(site, wanted, plan)
    assert state(site) == before


def test_a_rule_that_stays_is_judged_by_its_networks_anew(site: Site, tmp_path: Path) -> None:
    """A file that only lets a network grow opens no more than a new rule could; nothing of it is applied."""
    text = "[networks]\nhome = ['192.168.1.0/24']\n[[rule]]\nanyone = true\nfrom = ['home']\narea = 'editor'\n"
    apply(site, text, tmp_path)
    before = state(site)
    with pytest.raises(Conflict, match="everybody from everywhere"):
        apply(site, text.replace("192.168.1.0/24", "0.0.0.0/0"), tmp_path, force=True)
    assert state(site) == before
    apply(site, text.replace("192.168.1.0/24", "192.168.2.0/24"), tmp_path)
    assert state(site) != before
