"""Names and addresses against how the site is really reached: certificate, DNS, access log, proxies between."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from redlatch.checks.model import Check, Found, Scene, Severity
from redlatch.errors import RedlatchError
from redlatch.operations import engines, gateway_standing, machine, server, traffic

_SECONDS: Final = 3.0
_LOOKED_AT: Final = 500


def _missing(scene: Scene) -> Iterator[Found]:
    """Addresses and names of now that the certificate of the site's own CA lacks; for one of the operator's
    own, the names that were given to redlatch.
    """
    config = scene.config
    for engine in engines.engines(scene.site.settings, config):
        leaf = server.leaf_of(engine)
        if leaf is None:
            continue  # another check's
        own_ca = config.server_files is None
        lacks = server.missing(leaf, config.hosts if own_ca else config.names, addresses=own_ca)
        if lacks:
            yield Found(f"the certificate of {engine.by} does not name {', '.join(lacks)}", engine.name)


def _renamed(scene: Scene) -> Iterator[Found]:
    now = machine.machine_name()
    if now != scene.config.machine:
        yield Found(f"this machine was called {scene.config.machine} and is {now} now", now)


def _answers(name: str) -> set[machine.Address] | None:
    """What a name stands for; None where there is no answer within some seconds."""
    found: list[set[machine.Address]] = []

    def ask() -> None:
        try:
            told = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            found.append({ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in told})
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)  # the resolver cannot be told how long it may take
    thread.start()
    thread.join(_SECONDS)
    return found[0] if found else None


def _unresolved(scene: Scene, answers: Callable[[str], set[machine.Address] | None] = _answers) -> Iterator[Found]:
    for name in scene.config.names:
        if not answers(name):
            yield Found(f"{name} stands for no address", name)


def _elsewhere(scene: Scene, answers: Callable[[str], set[machine.Address] | None] = _answers) -> Iterator[Found]:
    ours = {*machine.own_addresses(), *machine.LOOPBACK}
    for name in scene.config.names:
        told = answers(name) or set()
        if told and not told & ours:
            shown = ", ".join(sorted(map(str, told)))
            router = all(not machine.is_private(one) for one in told)
            maybe = "; right if that is your router, which leads here" if router else ", which is another machine"
            yield Found(f"{name} leads to {shown}{maybe}", name)


def _asked_for(scene: Scene) -> Iterator[Found]:
    """Requests of devices that were refused for the name they asked for. Which name is not in the log."""
    try:
        entries = traffic.accesses(scene.site, _LOOKED_AT)
    except RedlatchError:  # a planted file; another check's
        return
    ours = machine.CHECKS_FROM
    refused = [one for one in entries if one.reason == "foreign-host" and one.device_id and one.address != ours]
    if refused:
        counted = Counter(one.address for one in refused)
        (address, _), *_ = counted.most_common(1)
        yield Found(
            f"{sum(one.count for one in refused)} requests of devices asked for a name that is not this site's, "
            f"the most from {address}"
        )


def _everybody(scene: Scene) -> Iterator[Found]:
    with scene.site.store.read() as view:
        matters = any(rule.networks for rule in view.rules())
    words = traffic.sentence(traffic.seen(scene.site)) if matters else None
    if words:
        yield Found(words)


def _ends_tls(scene: Scene) -> Iterator[Found]:
    if scene.config.gateway is None:
        return
    words = gateway_standing.standing(scene.site, scene.environ).ends_tls
    if words:
        yield Found(words, remedy="; or: ".join(gateway_standing.WAYS_OUT))


CHECKS: Final = (
    Check(
        "certificate-lacks-name",
        "the server certificate does not name how this machine is reached",
        Severity.BROKEN,
        "Browsers warn, and a person who is used to warnings clicks through the real one too.",
        "redlatch refresh (with a certificate of your own: get one for all names)",
        _missing,
        ("store-unusable", "server-pair", "server-ending"),
    ),
    Check(
        "machine-renamed",
        "this machine has another name now",
        Severity.WEAK,
        "Devices that call it by the new name are refused, and the certificate does not name it.",
        "redlatch name add NAME, for the new name",
        _renamed,
        ("store-unusable",),
    ),
    Check(
        "name-unanswered",
        "a name of this site leads nowhere",
        Severity.WEAK,
        "Nobody reaches the site by it, from here at least.",
        "correct the DNS record, or: redlatch name remove NAME",
        _unresolved,
        ("store-unusable",),
    ),
    Check(
        "name-elsewhere",
        "a name of this site leads elsewhere",
        Severity.WEAK,
        "Who calls it reaches another machine, or a router that has to lead here.",
        "correct the DNS record, or: redlatch name remove NAME",
        _elsewhere,
        ("store-unusable",),
    ),
    Check(
        "name-not-ours",
        "devices ask for a name that is none of this site's",
        Severity.WEAK,
        "They are refused: a page of somebody else's may not stand in for this one. It may be a name of yours.",
        "redlatch name add NAME, for the name that they type",
        _asked_for,
        ("store-unusable", "machine-renamed"),
    ),
    Check(
        "everybody-from-one-address",
        "everybody seems to come from one address",
        Severity.WEAK,
        "Rules with networks then let in all or nobody.",
        "let devices reach this machine by themselves, or use rules that ask for a certificate",
        _everybody,
        ("store-unusable",),
    ),
    Check(
        "proxy-ends-tls",
        "a proxy in front seems to end TLS",
        Severity.BROKEN,
        "No device's certificate arrives, so nobody is recognised.",
        "redlatch gateway status",
        _ends_tls,
        ("store-unusable", "gateway-stopped"),
    ),
)
