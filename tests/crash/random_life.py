"""Random operations at a real site with both engines running, a share of them killed, held against a model.

    python tests/crash/random_life.py [--operations 1000] [--seed 1] [--kills 0.3]

Each operation runs in a process of its own; one that is killed may have happened or not, and the model
(tests/crash/model.py) follows what the store says, for that one operation, and only to one of both. Every so
often, and at the end: store, audit chain, published files, and what both engines answer over TLS, against it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.common import HELLO, TAB
from tests.crash.model import BUILT_IN_ROLES, PATHS, Model, Probe
from tests.crash.whole import admits
from tests.integration.operations.gateways import Both
from tests.support.clients import Refused, request
from tests.support.enrolling import make_csr
from tests.support.nodered import NodeRed, write_settings
from tests.support.site import published
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.errors import RedlatchError
from redlatch.operations import devices, engines, links, networks, roles, rules
from redlatch.operations.publishing import build, running
from redlatch.operations.site import Site
from redlatch.pki.certificates import certificate_pem
from redlatch.pki.keys import generate_key, private_key_pem

ADDRESSES: Final = ("127.0.0.1", "127.0.1.7", "127.0.2.7", "127.9.9.9")
ENTRIES: Final = ("127.0.1.0/24", "127.0.2.0/24", "127.0.2.7", "10.0.0.0/8", "127.9.0.0/16", "192.168.7.0/24")
METHODS: Final = ("GET", "POST", "DELETE")
#: Names by which an operation of this file is called, and how often among a hundred.
SHARES: Final = {
    "add": 20, "renew": 8, "revoke": 12, "rename": 5, "set_role": 8, "add_rule": 10, "remove_rule": 7,
    "add_network": 8, "remove_network": 3, "add_role": 4, "remove_role": 2, "invite": 6, "withdraw": 2,
    "redeem": 5,
}  # fmt: skip


@dataclass(frozen=True)
class Pem:
    cert_file: Path


class Wrong(AssertionError):
    """The site is not as the model says."""


@dataclass(frozen=True)
class Step:
    """One operation: what it is in the model, with which arguments, and how it is done. `new` is what only the
    store can say: the number of a rule or a link, or the fingerprint of the key that was made for it.
    """

    name: str
    arguments: dict[str, Any]
    do: Callable[[Site], Any]
    new: str = ""


class Life:
    """One site, its model, and the dice."""

    def __init__(self, root: Path, seed: int, kills: float) -> None:
        self.at = Both(root, locked=False)
        for folder in (self.at.user_dir, root / "behind"):
            write_settings(folder, flows=[TAB, *HELLO])
        self.at.lock()
        self.at.up()
        self._closed()
        self.root, self.dice, self.kills = root, random.Random(seed), kills
        self.model = Model()
        self.keys: dict[str, Pem] = {}  # fingerprint -> certificate and key
        self.tokens: dict[int, str] = {}
        self.done: Counter[str] = Counter()
        self.kinds = self._kinds()  # of the events before the first operation
        self.made = 0

    def _closed(self) -> None:
        if self.at.site is not None:
            self.at.site.store.close()
            self.at.site = None

    @contextmanager
    def engines(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self.at.node_red())
            stack.enter_context(NodeRed("5.0", self.root / "behind", port=self.at.behind))
            stack.enter_context(self.at.run())
            self._closed()
            yield

    # --- the store, read without the code that wrote it

    def _query(self, text: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"{self.at.settings.database.as_uri()}?mode=ro", uri=True)) as store:
            return store.execute(text).fetchall()

    def _kinds(self) -> Counter[str]:
        return Counter(row[0] for row in self._query("SELECT kind FROM audit"))

    def store(self) -> dict[str, Any]:
        """As Model.summary."""
        held: dict[str, tuple[set[str], set[str]]] = {}
        for device, print_, revoked in self._query("SELECT device_id, fingerprint, revoked_at FROM certificates"):
            held.setdefault(device, (set(), set()))[revoked is not None].add(print_)
        found = self._query("SELECT id, name, role, revoked_at FROM devices")
        any_key = {device: sorted(good | bad)[:1] for device, (good, bad) in held.items()}
        rules_ = {}
        for number, body in self._query("SELECT id, body FROM rules"):
            rule = json.loads(body)
            device = next(iter(rule.get("devices") or ()), None)
            rules_[number] = (
                rule.get("area"), rule.get("path"), sorted(rule.get("methods") or ()),
                sorted(rule.get("roles") or ()), None if device is None else any_key[device],
                bool(rule.get("anyone")), next(iter(rule.get("networks") or ()), None),
            )  # fmt: skip
        states = {}
        for number, name, role, withdrawn, used in self._query(
            "SELECT id, name, role, withdrawn_at, used_at FROM links"
        ):
            states[number] = (name, role, "used" if used else "withdrawn" if withdrawn else "open")
        return {
            "devices": sorted(
                (name, role, revoked is not None, sorted(held[key][0]), sorted(held[key][1]))
                for key, name, role, revoked in found
            ),
            "roles": dict(self._query("SELECT name, base FROM roles")),
            "networks": {
                name: sorted(_entries(entries))
                for name, entries in self._query("SELECT name, entries FROM networks")
            },
            "rules": rules_,
            "links": states,
        }

    # --- operations

    def choose(self) -> Step:
        names, weights = zip(*SHARES.items(), strict=True)
        while True:
            step = getattr(self, f"_{self.dice.choices(names, weights)[0]}")()
            if step is not None:
                found: Step = step
                return found

    def _name(self, what: str) -> str:
        self.made += 1
        return f"{what} {self.made}" if what == "device" else f"{what}-{self.made}"

    def _key(self) -> tuple[Any, bytes]:
        key = generate_key()
        return key, make_csr(key)

    def _live(self) -> list[str]:
        return [one.name for one in self.model.devices if not one.revoked]

    def _role(self) -> str:
        return self.dice.choice((*BUILT_IN_ROLES, *self.model.roles))

    def _add(self) -> Step | None:
        if len(self._live()) > 30:
            return None
        name, role, (key, csr) = self._name("device"), self._role(), self._key()
        return self._with_key(
            Step("add", {"name": name, "role": role}, lambda at: devices.add(at, name, role=role, csr=csr)), key
        )

    def _renew(self) -> Step | None:
        if not self._live():
            return None
        name, (key, csr) = self.dice.choice(self._live()), self._key()
        return self._with_key(Step("renew", {"name": name}, lambda at: devices.renew(at, name, csr=csr)), key)

    def _with_key(self, step: Step, key: Any) -> Step:
        self.pending = private_key_pem(key, None)
        return Step(step.name, step.arguments, step.do, "fingerprint")

    def _revoke(self) -> Step | None:
        if not self._live():
            return None
        name = self.dice.choice(self._live())
        return Step("revoke", {"name": name}, lambda at: devices.revoke(at, name))

    def _rename(self) -> Step | None:
        if not self._live():
            return None
        name, new = self.dice.choice(self._live()), self._name("device")
        return Step("rename", {"name": name, "new": new}, lambda at: devices.rename(at, name, new))

    def _set_role(self) -> Step | None:
        if not self._live():
            return None
        name, role = self.dice.choice(self._live()), self._role()
        if self.model.device(name).role == role:
            return None
        return Step("set_role", {"name": name, "role": role}, lambda at: devices.set_role(at, name, role))

    def _add_rule(self) -> Step | None:
        if len(self.model.rules) > 14:
            return None
        rule: dict[str, Any] = {}
        if self.dice.random() < 0.3:
            rule["path"] = "/hook"
        else:
            rule["area"] = self.dice.choice(("editor", "editor-read", "dashboards", "http-in"))
        who = self.dice.random()
        if who < 0.4:
            rule["roles"] = (self._role(),)
        elif who < 0.6 and self._live():
            rule["device"] = self.dice.choice(self._live())
        elif who < 0.8 and rule.get("area") not in ("editor", "editor-read"):
            rule["anyone"] = True
        if self.dice.random() < 0.6 or rule.get("anyone"):
            rule["network"] = self.dice.choice(("localhost", "private", *self.model.networks))
        if self.dice.random() < 0.3 and rule.get("area") != "editor-read":
            rule["methods"] = (self.dice.choice(METHODS),)
        if any(self._same(rule, one) for one in self.model.rules.values()):
            return None  # it is there already, and would not be added twice
        wanted = rules.Wanted(
            area=rule.get("area"), path=rule.get("path"), methods=rule.get("methods", ()),
            roles=rule.get("roles", ()), devices=(rule["device"],) if "device" in rule else (),
            anyone=rule.get("anyone", False), networks=(rule["network"],) if "network" in rule else (),
        )  # fmt: skip
        return Step("add_rule", {"rule": rule}, lambda at: rules.add(at, wanted, force=True), "rule")

    def _same(self, rule: dict[str, Any], other: Any) -> bool:
        device = self.model.device(rule["device"]) if "device" in rule else None
        usual = {"area": None, "path": None, "methods": (), "roles": (), "anyone": False, "network": None}
        fits = all(getattr(other, name) == rule.get(name, default) for name, default in usual.items())
        return fits and other.device is device

    def _remove_rule(self) -> Step | None:
        own = [number for number in self.model.rules if number > 4]
        if not own:
            return None
        number = self.dice.choice(own)
        return Step("remove_rule", {"number": number}, lambda at: rules.remove(at, number))

    def _add_network(self) -> Step | None:
        name = self.dice.choice([*self.model.networks, self._name("net")])
        there = self.model.networks.get(name, [])
        entry = self.dice.choice(ENTRIES)
        if entry in there or (len(self.model.networks) > 6 and name not in self.model.networks):
            return None
        return Step(
            "add_network",
            {"name": name, "entries": (entry,)},
            lambda at: networks.add(at, name, [entry], resolver=lambda _: {}, force=True),
        )

    def _remove_network(self) -> Step | None:
        used = {one.network for one in self.model.rules.values()}
        free = [name for name in self.model.networks if name not in used]
        if not free:
            return None
        name = self.dice.choice(free)
        return Step("remove_network", {"name": name}, lambda at: networks.remove(at, name))

    def _add_role(self) -> Step | None:
        if len(self.model.roles) > 4:
            return None
        name, base = self._name("role"), self.dice.choice(BUILT_IN_ROLES)
        return Step("add_role", {"name": name, "base": base}, lambda at: roles.add(at, name, like=base))

    def _remove_role(self) -> Step | None:
        used = {one.role for one in self.model.devices if not one.revoked}
        used |= {role for one in self.model.rules.values() for role in one.roles}
        used |= {one.role for one in self.model.links.values() if one.state == "open"}
        free = [name for name in self.model.roles if name not in used]
        if not free:
            return None
        name = self.dice.choice(free)
        return Step("remove_role", {"name": name}, lambda at: roles.remove(at, name))

    def _invite(self) -> Step | None:
        name, role = self._name("device"), self.dice.choice(("viewer", "user", "thing"))
        return Step(
            "invite",
            {"name": name, "role": role},
            lambda at: links.invite(at, [links.Wanted(name, role)], trust_lan=True),
            "link",
        )

    def _open_links(self) -> list[int]:
        return [
            number for number, one in self.model.links.items() if one.state == "open" and number in self.tokens
        ]

    def _withdraw(self) -> Step | None:
        if not self._open_links():
            return None
        number = self.dice.choice(self._open_links())
        return Step("withdraw", {"number": number}, lambda at: links.withdraw(at, number))

    def _redeem(self) -> Step | None:
        if not self._open_links():
            return None
        number, (key, csr) = self.dice.choice(self._open_links()), self._key()
        token = self.tokens[number]
        return self._with_key(
            Step(
                "redeem",
                {"number": number},
                lambda at: links.redeem(at, token, peer="192.168.1.9", by_page=False, csr=csr),
            ),
            key,
        )

    # --- doing them

    def step(self) -> None:
        step = self.choose()
        killed = self.dice.random() < self.kills
        at_write = self.dice.randrange(1, 11) if killed and self.dice.random() < 0.5 else 0
        after = self.dice.random() * 0.05 if killed and not at_write else None
        said = self._run(step.do, at_write, after)
        now = self.store()
        new = self._new(step, now)
        happened = self.model.copy()
        if new is not None or not step.new:
            arguments = dict(step.arguments) if new is None else {**step.arguments, **self._named(step, new)}
            getattr(happened, step.name)(**arguments)
        if said is None:
            self.done["killed"] += 1
            if now == happened.summary():
                self.done["killed, and it had happened"] += now != self.model.summary()
                self.model = happened
            elif now != self.model.summary():
                raise Wrong(f"killed in {step.name} {step.arguments}: {self._difference(now, happened)}")
        elif said.get("refused"):
            raise Wrong(f"{step.name} {step.arguments} was refused: {said['refused']}")
        else:
            self.done["acknowledged"] += 1
            self.done[step.name] += 1
            if now != happened.summary():
                raise Wrong(f"{step.name} {step.arguments} was acknowledged: {self._difference(now, happened)}")
            self.model = happened
        if said and said.get("token"):
            self.tokens[int(said["number"])] = said["token"]
        if step.new == "fingerprint" and new is not None and self.model is happened:
            self._keep(new)
        expected = self.kinds + self.model.events
        if self._kinds() != expected:
            raise Wrong(f"after {step.name} the audit trail has {self._kinds() - expected} too much, "
                        f"{expected - self._kinds()} too few")  # fmt: skip

    def _keep(self, print_: str) -> None:
        """The certificate for the key that was made here: also when nobody was told of it."""
        ((der,),) = self._query(f"SELECT der FROM certificates WHERE fingerprint = '{print_}'")
        from cryptography import x509

        path = self.root / f"{print_[:20]}.pem"
        path.write_bytes(certificate_pem(x509.load_der_x509_certificate(der)) + self.pending)
        self.keys[print_] = Pem(path)

    def _new(self, step: Step, now: dict[str, Any]) -> Any:
        """What came that the model does not know: a fingerprint, or a number."""
        before = self.model.summary()
        if step.new == "fingerprint":
            known = {key for one in before["devices"] for key in (*one[3], *one[4])}
            found = {key for one in now["devices"] for key in (*one[3], *one[4])} - known
        elif step.new:
            found = set(now[f"{step.new}s"]) - set(before[f"{step.new}s"])
        else:
            return None
        if len(found) > 1:
            raise Wrong(f"{step.name} made several: {found}")
        return next(iter(found), None)

    def _named(self, step: Step, new: Any) -> dict[str, Any]:
        return {"fingerprint" if step.new == "fingerprint" else "number": new}

    def _run(self, do: Callable[[Site], Any], at_write: int, after: float | None) -> dict[str, Any] | None:
        """What the operation said when it ended; None when it was killed before it said anything."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._child(do, at_write, writing)
        os.close(writing)
        data = b""
        deadline = None if after is None else time.monotonic() + after
        with os.fdopen(reading, "rb", buffering=0) as stream:
            while True:
                left = 60.0 if deadline is None else max(0.0, deadline - time.monotonic())
                if not select.select([stream], [], [], left)[0]:
                    os.kill(child, signal.SIGKILL)
                    deadline = None
                    continue
                chunk = stream.read(65536)
                if not chunk:
                    break
                data += chunk
        os.waitpid(child, 0)
        return json.loads(data) if data.endswith(b"\n") else None

    def _child(self, do: Callable[[Site], Any], at_write: int, writing: int) -> None:
        """The operation as a command would do it. It kills itself at its so-manieth write."""
        try:
            count = 0

            def audit(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal count
                if event in ("os.rename", "os.remove", "os.link", "fcntl.flock") or (
                    event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                ):
                    count += 1
                    if count == at_write:
                        os.kill(os.getpid(), signal.SIGKILL)

            if at_write:
                sys.addaudithook(audit)
            said: dict[str, Any] = {}
            try:
                site = bootstrap.open_site(self.at.settings, actor="random")
                found = do(replace(site, insist=True))  # the model has no notion of locking oneself out
                if isinstance(found, list) and found and isinstance(found[0], links.Invited):
                    said = {"token": found[0].token, "number": found[0].link.id}
            except RedlatchError as error:
                said = {"refused": error.message}
            os.write(writing, json.dumps(said).encode() + b"\n")
        except BaseException:  # noqa: BLE001 - a forked child must never return
            os.write(writing, json.dumps({"refused": traceback.format_exc()[-2000:]}).encode() + b"\n")
        finally:
            os._exit(0)

    def _difference(self, now: dict[str, Any], model: Model) -> str:
        wanted = model.summary()
        return "; ".join(f"{name}: the store has {now[name]}, the model {wanted[name]}" for name in now
                         if now[name] != wanted[name])[:3000]  # fmt: skip

    # --- looking at everything

    def look(self, probes: int) -> None:
        """Store, chain, published files, and what both engines answer to so many probes each."""
        try:
            site = self.at.open()  # the next command, which publishes what a killed one left
            with site.store.read() as view:
                if not view.verify_audit().ok:
                    raise Wrong("the audit chain is broken")
                config, revision = site.config(), view.site().revision
                wanted = admits(build(view, config, spool=Path("/")))
            for engine in engines.engines(site.settings, config):
                if admits(published(engine.settings.published)) != wanted:
                    raise Wrong(f"what is published for {engine.name} is not what the store says")
                good = {key for one in self.model.devices for key in one.good}
                if set(published(engine.settings.published).devices) != good:
                    raise Wrong(f"what is published for {engine.name} is not what the model says")
                until(
                    lambda e=engine: (claim := running(e)) is not None and claim.version >= revision,
                    seconds=20, what=f"version {revision} in force at {engine.name}",
                )  # fmt: skip
        finally:
            self._closed()
        for name, port in (("node-red", self.at.node_red_port), ("gateway", self.at.port)):
            for _ in range(probes):
                self._ask(name, port)

    def _ask(self, name: str, port: int) -> None:
        who = self.dice.choice([None, *self.keys]) if self.dice.random() < 0.9 else None
        probe = Probe(who, self.dice.choice(ADDRESSES), self.dice.choice(list(PATHS)), self.dice.choice(METHODS))
        body = b"" if probe.method == "POST" else None
        try:
            key = self.keys[who] if who is not None else None
            status = request(port, probe.method, probe.path, key, source=probe.address, body=body).status
        except Refused:
            status = 403
        self.done[f"probes of {name}, {'admitted' if status != 403 else 'refused'}"] += 1
        if (status != 403) != self.model.admits(probe):
            device = next((one for one in self.model.devices if who in one.good | one.bad), None)
            raise Wrong(f"{name} answers {status} to {probe} by {device}; rules {self.model.rules}, "
                        f"networks {self.model.networks}, roles {self.model.roles}")  # fmt: skip


def _entries(stored: str) -> list[str]:
    """The entries of a network, as they were given."""
    return [line.split("#")[0].strip() for line in stored.splitlines() if line.strip()]


def live(root: Path, *, operations: int, seed: int, kills: float, every: int, probes: int) -> Counter[str]:
    """So many operations; what was done. Wrong when anything is not as it should be."""
    life = Life(root, seed, kills)
    with life.engines():
        for number in range(operations):
            try:
                life.step()
                if (number + 1) % every == 0 or number + 1 == operations:
                    life.look(probes)
                    life.done["looks"] += 1
            except Wrong as error:
                raise Wrong(f"seed {seed}, operation {number + 1}: {error}") from error
            if (number + 1) % 50 == 0:
                print(number + 1, dict(life.done), flush=True)
    life.done["events"] = sum(life.model.events.values())
    return life.done


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--kills", type=float, default=0.3, help="the share of operations that is killed")
    parser.add_argument("--every", type=int, default=50, help="look at everything after so many operations")
    parser.add_argument("--probes", type=int, default=60, help="requests to each engine at each look")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        done = live(
            Path(folder), operations=options.operations, seed=options.seed, kills=options.kills,
            every=options.every, probes=options.probes,
        )  # fmt: skip
    print(f"{options.operations} operations in {time.monotonic() - begin:.0f} s: {dict(done)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
