"""Every operation that changes something, and a site that has something of everything to change.

A new operation is one line of OPERATIONS. It is done by a forked child, on a copy of its base, and closes nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from tests.integration.operations.conftest import fill
from tests.integration.operations.gateways import Both
from tests.support import foreign_cas as other
from tests.support.enrolling import make_csr

from redlatch import bootstrap
from redlatch.files import write_new
from redlatch.operations import (
    adopting,
    backup,
    devices,
    emergency,
    exchange,
    gateway,
    importing,
    links,
    locking,
    lookups,
    networks,
    notices,
    origins,
    restore,
    roles,
    rotation,
    rules,
    server,
    service,
    setup,
    trials,
)
from redlatch.pki.certificates import fingerprint, load_certificates

PEER: Final = "192.168.1.20"
LONG: Final = 20_000
MANY: Final = 300  # devices: enough for a snapshot of several parts
PASSPHRASE: Final = b"correct horse"


def nobody(_: Any) -> dict[str, Any]:
    """A resolver that is never asked."""
    return {}


class Place(Both):
    """A home that can be put back as it was: nothing yet ("fresh"), a locked Node-RED ("locked"), that with many
    devices ("many") or with its keys under a passphrase ("sealed"), or that with a gateway, devices, rules,
    networks, links and all ("lived"), and then with a new device CA beside the old one ("overlap"), or with all
    that can be half-way ("half-way").
    """

    def __init__(self, root: Path, base: str) -> None:
        super().__init__(root, locked=False)
        self.before = root.with_name(f"{root.name}-before")
        self.token, self.number, self.other = "", 0, 0
        if base != "fresh":
            self.lock()
        if base in ("lived", "overlap", "half-way"):
            self.up()
            self._live()
        if base == "many":
            fill(self.open(), MANY)
        elif base == "sealed":
            locking.lock(self.open(), PASSPHRASE)
        elif base == "overlap":
            rotation.begin(self.open(), "device")
        elif base == "half-way":
            self._stop_half_way()
        self.close()
        shutil.copytree(root, self.before, symlinks=True)

    def _live(self) -> None:
        site = self.open()
        for name, role in (("laptop", "owner"), ("phone", "user"), ("tablet", "viewer")):
            devices.add(site, name, role=role)
        roles.add(site, "kiosk", like="user")
        roles.add(site, "spare", like="thing")
        networks.add(site, "home", ["192.168.1.0/24 # the house"], resolver=nobody)
        networks.add(site, "spare", ["10.1.0.0/16", "10.3.0.0/16"], resolver=nobody)
        origins.add(site, "https://homeassistant.local:8123")
        rules.add(site, rules.Wanted(area="dashboards", networks=("home",)))
        rules.add(site, rules.Wanted(area="http-in", roles=("kiosk",)))
        server.add_name(site, "cellar.local")
        for name in ("guest", "other guest", "third guest"):
            (made,) = links.invite(site, [links.Wanted(name)], trust_lan=True)
            if name == "guest":
                self.token, self.number = made.token, made.link.id
            if name == "third guest":
                links.redeem(site, made.token, peer=PEER, by_page=False, csr=make_csr())
                self.other = made.link.id
        backup.make(site, seal=bytes, how={}, deliver=(self.root / "backup").write_bytes)  # type: ignore[arg-type]
        devices.revoke(site, "tablet")
        (self.root / "long.txt").write_text("".join(f"10.{n >> 8}.{n & 255}.0/25\n" for n in range(LONG)))
        text = exchange.export(site).replace("kiosk", "panel") + (
            '\n[[rule]]\narea = "static"\nroles = ["panel"]\nfrom = ["home"]\n'
        )
        (self.root / "rules.toml").write_text(text)

    def _stop_half_way(self) -> None:
        """A new server root handed out, a request signed elsewhere, an adopted card, names to look up, a trial."""
        site = self.open()
        company = other.make(self.root, "company", other.CA)
        for name in ("card", "badge"):
            other.make(self.root, name, other.LEAF, by=company)
        another = other.make(self.root, "another", other.CA)
        other.make(self.root, "pass", other.LEAF, by=another)
        adopting.adopt(site, "card", self.files("another", "pass"), no_password)
        rotation.begin(site, "server")
        (self.root / "wanted.csr").write_bytes(importing.request(site, "device"))
        other.signed(self.root, self.root / "wanted.csr", self.root / "wanted.crt", other.BELOW, by=company)
        networks.add(site, "cafe", ["cafe.example.org"], resolver=lambda _: {"cafe.example.org": ("192.0.2.7",)})
        rules.remove(replace(site, trial=trials.Asked(timedelta(hours=1), "a rule", "nobody's")), 5)

    def files(self, above: str, *names: str) -> list[Path]:
        """Certificates of other CAs, that of the CA `above` last."""
        return [self.root / f"{name}.crt" for name in (*names, above)]

    def close(self) -> None:
        if self.site is not None:
            self.site.store.close()
            self.site = None

    def restore(self, source: Path | None = None) -> None:
        """Everything as it was, or as it is in `source`."""
        self.close()
        shutil.rmtree(self.root)
        subprocess.run(["cp", "-a", source or self.before, self.root], check=True)


Base = Literal["fresh", "locked", "sealed", "many", "lived", "overlap", "half-way"]


@dataclass(frozen=True)
class Operation:
    """`again`: the next command is the operation itself, because there may be no site yet, or none any more.
    `taken_back`: the kind of event by which it undoes itself when it fails. `unread`: in a state with these words
    it could not read the site that was there, and had said so before it was told to go on.
    """

    name: str
    do: Callable[[Place], object]
    base: Base = "lived"
    again: bool = False
    taken_back: str = ""
    unread: str = ""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def _apply(at: Place) -> None:
    site = at.open()
    wanted = exchange.read(site, at.root / "rules.toml", resolver=nobody)
    exchange.apply(site, wanted, exchange.plan(site, wanted))


def _renew(at: Place) -> None:
    server.refresh(replace(at.open(), clock=lambda: bootstrap.now() + timedelta(days=370)))


def _redeem(at: Place) -> None:
    links.redeem(at.open(), at.token, peer=PEER, by_page=False, csr=make_csr())


def _back_up(at: Place) -> None:
    backup.make(at.open(), seal=bytes, how={}, deliver=lambda data: write_new(at.root / "new", data, mode=0o600))


def _restore(at: Place) -> None:
    proved = backup.read((at.root / "backup").read_bytes(), at.root / "backup")
    plan = restore.plan(at.settings, proved, now=bootstrap.now(), replace_present=True)
    restore.restore(plan, actor="test", clock=bootstrap.now)


def no_password(_: Path) -> bytes:
    raise AssertionError("it needs none")


def _adopt(at: Place) -> None:
    adopting.adopt(at.open(), "new", at.files("company", "badge"), no_password)


def _import(at: Place, *files: Path) -> None:
    site = at.open()
    importing.carry_out(site, importing.plan(site, "device", files, no_password))


def _end(at: Place) -> None:
    (certificate,) = load_certificates((at.root / "another.crt").read_bytes())
    adopting.end(at.open(), fingerprint(certificate), force=True)


def _look_up(at: Place) -> None:
    lookups.resolve(at.open(), lambda _: {"cafe.example.org": ("192.0.2.8",)})


def _unlock(at: Place) -> None:
    locking.unlock(replace(at.open(), passphrase=lambda: PASSPHRASE))


def _on_trial(at: Place) -> None:
    asked = trials.Asked(timedelta(minutes=2), "a rule", "nobody's")
    rules.add(replace(at.open(), trial=asked), rules.Wanted(area="static", roles=("user",)))


OPERATIONS: Final = (
    Operation("up", lambda at: at.lock(), "fresh", again=True),
    Operation("up with another name", lambda at: at.lock(names=("cellar.local",)), "locked", again=True),
    Operation("down", lambda at: setup.down(at.open(), at.environ), "locked", again=True),
    Operation("gateway up", lambda at: at.up(), "locked", again=True, taken_back="gateway.taken-down"),
    Operation("gateway down", lambda at: gateway.take_down(at.open(), at.environ), again=True),
    Operation("refresh", _renew),
    Operation("device add", lambda at: devices.add(at.open(), "watch")),
    Operation("device renew", lambda at: devices.renew(at.open(), "phone")),
    Operation("device revoke", lambda at: devices.revoke(at.open(), "phone")),
    Operation("device rename", lambda at: devices.rename(at.open(), "phone", "pocket")),
    Operation("device role", lambda at: devices.set_role(at.open(), "phone", "kiosk")),
    Operation("device role among many", lambda at: devices.set_role(at.open(), "d7", "owner"), "many"),
    Operation("device add --emergency", lambda at: emergency.open_(at.open(), "way back")),
    Operation("device invite", lambda at: links.invite(at.open(), [links.Wanted("new")], trust_lan=True)),
    Operation("device withdraw", lambda at: links.withdraw(at.open(), at.number)),
    Operation("link redeemed", _redeem),
    Operation("link confirmed", lambda at: links.confirmed(at.open(), at.other)),
    Operation("rule add", lambda at: rules.add(at.open(), rules.Wanted(area="static", roles=("user",)))),
    Operation("rule add on trial", _on_trial),
    Operation("rule remove", lambda at: rules.remove(at.open(), 5)),
    Operation("rule open-port", lambda at: rules.set_open_port(at.open(), at.behind)),
    Operation("rules apply", _apply),
    Operation("network add", lambda at: networks.add(at.open(), "home", ["10.9.0.0/16"], resolver=nobody)),
    Operation(
        "network add of a long list",
        lambda at: networks.add(at.open(), "home", file=at.root / "long.txt", resolver=nobody),
    ),
    Operation("network remove", lambda at: networks.remove(at.open(), "spare")),
    Operation("network remove of an entry", lambda at: networks.remove(at.open(), "home", ["192.168.1.0/24"])),
    Operation("name add", lambda at: server.add_name(at.open(), "shed.local")),
    Operation(
        "name add with a new root", lambda at: server.add_name(at.open(), "shed.example.org", new_root=True)
    ),
    Operation("name remove", lambda at: server.remove_name(at.open(), "cellar.local")),
    Operation("role add", lambda at: roles.add(at.open(), "child", like="user")),
    Operation("role remove", lambda at: roles.remove(at.open(), "spare")),
    Operation("origin add", lambda at: origins.add(at.open(), "https://panel.local:8443")),
    Operation("origin remove", lambda at: origins.remove(at.open(), "https://homeassistant.local:8123")),
    Operation("console", lambda at: service.configure(at.open(), enrolment_port=at.behind)),
    Operation("ca rotate device", lambda at: rotation.begin(at.open(), "device")),
    Operation("ca rotate device at once", lambda at: rotation.now(replace(at.open(), insist=True))),
    Operation("ca rotate server", lambda at: rotation.begin(at.open(), "server")),
    Operation("ca rotate server --switch", lambda at: rotation.switch(at.open()), "half-way"),
    Operation("ca rotate server --cancel", lambda at: rotation.cancel(at.open(), "server"), "half-way"),
    Operation("ca rotate device --cancel", lambda at: rotation.cancel(at.open(), "device"), "overlap"),
    Operation("ca rotate device --end", lambda at: rotation.end(at.open(), "device", force=True), "overlap"),
    Operation("ca end", _end, "half-way"),
    Operation("ca lock", lambda at: locking.lock(at.open(), PASSPHRASE)),
    Operation("ca unlock", _unlock, "sealed"),
    Operation("ca import", lambda at: _import(at, *at.files("company"), at.root / "company.key"), "half-way"),
    Operation(
        "ca import of what was requested", lambda at: _import(at, *at.files("company", "wanted")), "half-way"
    ),
    Operation("ca request", lambda at: importing.request(at.open(), "device")),
    Operation("ca request forgotten", lambda at: importing.forget_request(at.open(), "device"), "half-way"),
    Operation("device adopt", _adopt, "half-way"),
    Operation("names looked up", _look_up, "half-way"),
    Operation("trial keep", lambda at: trials.keep(at.open()), "half-way"),
    Operation("trial undo", lambda at: trials.undo(at.open()), "half-way"),
    Operation("backup", _back_up),
    Operation("restore", _restore, unread='"replaced\\":null'),
    Operation("notify", lambda at: notices.configure(at.open(), command=None, webhook="https://notes.example/x")),
)
