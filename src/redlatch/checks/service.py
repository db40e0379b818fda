"""What has to run: the console's service, the gateway, the timers."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import Final

from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.engines.nodered import dropin
from redlatch.errors import RedlatchError
from redlatch.operations import engines, gateway_unit, lookups, service
from redlatch.operations.publishing import running
from redlatch.settings import SYSTEM_HOME

_TIMERS: Final = {
    "redlatch-refresh.timer": "the server certificate is not renewed by itself",
    "redlatch-resolve.timer": "DNS names of networks are not looked up again",
}


def _says(scene: Scene, unit: str, what: str) -> str:
    """One property of a unit, by systemctl. Unknown where that does not answer."""
    program = shutil.which("systemctl", path=scene.environ.get("PATH", "")) or "systemctl"
    try:
        done = subprocess.run(
            [program, "show", unit, f"--property={what}", "--value"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unknown(f"systemctl does not answer: {error}") from error
    return done.stdout.strip()


def _is_installed(scene: Scene, unit: str) -> bool:
    """Whether systemd has this unit of ours, for this home."""
    return scene.site.settings.home == SYSTEM_HOME and dropin.systemd_runs() and (dropin.ETC / unit).exists()


def _stopped(scene: Scene) -> Iterator[Found]:
    if _is_installed(scene, service.UNIT):
        state = _says(scene, service.UNIT, "ActiveState")
        if state not in ("active", "activating", "reloading"):
            yield Found(f"{service.UNIT} is {state or 'not known to systemd'}", service.UNIT)


def _deaf(scene: Scene) -> Iterator[Found]:
    """The console has to be there while the service runs; enrolment opens with a link."""
    if not _is_installed(scene, service.UNIT) or _says(scene, service.UNIT, "ActiveState") != "active":
        return
    chosen = scene.config.service
    for address in service.addresses(chosen.console):
        if not _answers(address, chosen.console_port):
            yield Found(
                f"nothing answers at {address}, port {chosen.console_port}, where the console should be",
                f"{address} {chosen.console_port}",
            )


def _answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=3):
        return True
    return False


def _haproxy(scene: Scene) -> Iterator[Found]:
    from redlatch.engines.haproxy import program

    if scene.config.gateway is None:
        return
    try:
        program.find(environ=scene.environ)
    except RedlatchError as error:
        yield Found(error.message, "haproxy", error.hint.removeprefix("install it from your distribution: "))


def _gateway_stopped(scene: Scene) -> Iterator[Found]:
    engine = engines.gateway(scene.site.settings, scene.config)
    if engine is not None and running(engine) is None:
        yield Found("the gateway does not run", "gateway", f"run: {_start(scene)}")


def _start(scene: Scene) -> str:
    if gateway_unit.is_installed(scene.site.settings):
        return f"systemctl start {gateway_unit.UNIT}; journalctl -u {gateway_unit.UNIT} -n 50"
    return gateway_unit.start_command(scene.site.settings)


def _timers(scene: Scene) -> Iterator[Found]:
    if scene.site.settings.home != SYSTEM_HOME or not dropin.systemd_runs():
        return
    for unit, words in _TIMERS.items():
        if not (dropin.ETC / unit).exists():
            yield Found(f"{unit} is not installed: {words}", unit, "sudo ./install.sh")
        elif (state := _says(scene, unit, "ActiveState")) != "active":
            yield Found(
                f"{unit} is {state or 'not known to systemd'}: {words}", unit, f"systemctl enable --now {unit}"
            )


def _by_hand(scene: Scene) -> Iterator[Found]:
    if scene.site.settings.home != SYSTEM_HOME or not dropin.systemd_runs():
        yield Found("no timer of systemd's runs redlatch refresh for this site")


def _names(scene: Scene) -> Iterator[Found]:
    with scene.site.store.read() as view:
        for words in lookups.warnings(scene.site, view):
            yield Found(words, words.partition(" ")[0])


CHECKS: tuple[Check, ...] = (
    Check(
        "service-stopped",
        "the service does not run",
        Severity.BROKEN,
        "There is no console, and no link by which a device gets its key. Whoever has a key still gets in.",
        f"systemctl restart {service.UNIT}; journalctl -u {service.UNIT} -n 50",
        _stopped,
        ("store-unusable", "program-open"),
    ),
    Check(
        "service-deaf",
        "the console does not answer where it should",
        Severity.BROKEN,
        "The service runs, and nobody reaches it there: it was told another address since it started, or that "
        "address is gone.",
        f"systemctl restart {service.UNIT}; redlatch console",
        _deaf,
        ("store-unusable", "service-stopped"),
    ),
    Check(
        "haproxy-missing",
        "there is no HAProxy that the gateway can use",
        Severity.BROKEN,
        "The gateway cannot start.",
        "sudo apt-get install haproxy",
        _haproxy,
        ("store-unusable",),
    ),
    Check(
        "gateway-stopped",
        "the gateway does not run",
        Severity.BROKEN,
        "Nobody gets in through it.",
        "redlatch gateway status",
        _gateway_stopped,
        ("store-unusable", "haproxy-missing"),
    ),
    Check(
        "timer-missing",
        "a timer is missing",
        Severity.WEAK,
        "What it does by itself you would have to do by hand.",
        "sudo ./install.sh",
        _timers,
    ),
    Check(
        "refresh-by-hand",
        "nothing renews the server certificate by itself",
        Severity.NOTE,
        "It is good for 397 days here instead of 90. Renewing it, and following new addresses, is up to you.",
        "0 4 * * * redlatch refresh   (a line for: crontab -e)",
        _by_hand,
    ),
    Check(
        "names-unresolved",
        "DNS names in networks have no answer",
        Severity.WEAK,
        "The last answer of a name counts for 24 hours; after that it holds nobody.",
        "redlatch network resolve",
        _names,
        ("store-unusable",),
    ),
)
