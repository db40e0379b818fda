"""A console that has been in use for a while, and browsers that look at it."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Playwright
from tests.browser import pictures
from tests.browser.chromium import Chromium
from tests.support.consoling import Consoling, Key, consoling

from redlatch.operations import devices, links, networks, roles, rules
from redlatch.operations.site import authority, changing, set_config
from redlatch.pki.bundles import generate_password, pkcs12
from redlatch.pki.certificates import certificate_pem
from redlatch.policy.model import Areas

HOSTILE: Final = (
    '<script>document.title="taken"</script>',
    "\"><img src=x onerror=document.title='taken'>",
    "{{ 7 * 7 }} ${7*7} <%= 7 %>",
    "' onfocus='document.title=1' autofocus x='",
)


@contextlib.contextmanager
def lived_in(folder: Path) -> Iterator[Consoling]:
    """A site as it looks after a while."""
    with consoling(folder) as served:
        _live_in(served)
        yield served


def _live_in(at: Consoling) -> None:
    site, dice = at.site, random.Random(4)
    roles.add(site, "kiosk", like="user")
    networks.add(site, "home", ["192.168.1.0/24 # the house", "2001:db8:1::/48"], resolver=lambda _: {})
    networks.add(site, "tablets", ["192.168.1.20 # wall tablet"], resolver=lambda _: {})
    with changing(site) as tx:
        served = Areas(
            dashboards=("/dashboard",),
            http_in=("/light/:who", "/webhook/github"),
            static=("/pictures",),
            websockets=("/ws",),
        )
        set_config(tx, areas=served)
        tx.record("site.changed", changes=["areas: dashboard /dashboard"])
    rules.add(site, rules.Wanted(area="dashboards", networks=("home",)))
    rules.add(
        site, rules.Wanted(path="/webhook/github", methods=("POST",), anyone=True, open_port=1880), force=True
    )
    named = [
        at.key(name, role, owner=owner).id
        for name, role, owner in (
            ("Ada's laptop", "owner", "Ada"), ("Ada's phone", "admin", "Ada"), ("Bart's phone", "user", "Bart"),
            ("Wall tablet in the kitchen", "kiosk", None), ("backup-script", "viewer", None),
            ("Gewächshaus-Sensor", "thing", "Ümit"), ("מחשב נייד", "user", "רות"),
        )
    ]  # fmt: skip
    named += [at.key(name, owner=HOSTILE[0][:60]).id for name in HOSTILE]
    at.key("sensor-short", "thing", days=12)
    lost = at.key("Bart's old phone")
    devices.revoke(site, lost.issued.device.name, reason="lost on the train <b>again</b>")
    links.invite(site, [links.Wanted("Guest tablet"), links.Wanted(HOSTILE[1])], trust_lan=True)
    for hour in range(48):
        at_ = (datetime.now(UTC) - timedelta(hours=47 - hour)).timestamp()
        for _ in range(dice.randrange(3)):
            at.say(at=at_, device=dice.choice(named), path="/dashboard/page1", count=dice.randrange(1, 40))
        if hour % 5 == 0:
            at.say(at=at_, allow=False, reason="no-certificate", from_="203.0.113.9", count=dice.randrange(1, 9))
    at.say(device=named[2], path="/flows", allow=False, reason="no-rule", method="GET")
    at.say(
        device=None, path=None, method=None, allow=False, reason="bad-handshake", from_="198.51.100.7", count=12
    )
    at.say(device=named[0], path="/comms", upgrade=True)
    at.say(device=named[7], path="/<script>alert(1)</script>", from_="192.168.1.23")
    at.publish()
    at.connected(named[0], named[0], named[3])
    at.watch.look()
    at.watch.note()


def browser(at: Consoling, playwright: Playwright, folder: Path, who: Key) -> Chromium:
    password = generate_password()
    issued = who.issued
    p12 = pkcs12(issued.key, issued.certificate, [], issued.device.name, password)
    root = certificate_pem(authority(at.site, "server", signing=False).certificate)
    return Chromium(playwright, folder, p12=(p12, password), root=root)


@contextlib.contextmanager
def quiet_page(context: BrowserContext) -> Iterator[Page]:
    """A page on which nothing may go wrong: no error in its console, which includes the CSP's."""
    found = context.new_page()
    said: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not re.search(r"status of (409|410)", message.text):
            said.append(f"{message.text} at {message.location}")

    found.on("console", heard)
    found.on("pageerror", lambda error: said.append(str(error)))
    yield found
    found.close()
    assert said == [], said


def url(at: Consoling, path: str) -> str:
    return f"https://attic.local:{at.port}{path}"


def picture(page: Page, name: str) -> None:
    """Keeps a picture of the page, light and dark, where pictures are wanted."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        pictures.keep(page, f"console-{name}-{scheme}")
    page.emulate_media(color_scheme=None)
