"""Enrolment links: made here, shown once, watched until their device is in."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from redlatch.errors import Conflict, InvalidInput, NotFound, RedlatchError
from redlatch.operations import devices, handing, links
from redlatch.operations.site import LOOPBACK
from redlatch.pki import names as pki_names
from redlatch.service.console import words
from redlatch.service.console.asking import Ask, Begin, Outcome, Page, Way
from redlatch.service.console.devices import role_choices

if TYPE_CHECKING:
    from redlatch.operations.site import Site
    from redlatch.store import LinkRow

#: What a form offers: minutes, words. The operation knows the limits.
VALID = ((15, "15 minutes"), (60, "1 hour"), (24 * 60, "24 hours"), (7 * 24 * 60, "7 days"))


def show_all(ask: Ask) -> Page:
    """The links of the last days, the newest first."""
    found = links.list_links(ask.site)
    return Page("links.html", {"links": [(one, words.link_state(one, ask.now)) for one in found]})


def new_form(ask: Ask) -> Page:
    """Who is invited. A device that there is can be named in the address (name=...): it gets a further key."""
    said = {
        "name": ask.query.get("name"),
        "role": ask.query.get("role") or "user",
        "owner": ask.query.get("owner"),
        "valid": 15,
        "days": devices.DEFAULT_DAYS,
        "remote": False,
        "pinned": False,
        "trust": False,
    }
    return _form(ask, said)


def _form(ask: Ask, said: dict[str, Any], error: RedlatchError | None = None, *, trust: bool = False) -> Page:
    known = None
    if said["name"]:
        with ask.site.store.read() as view:
            known = view.device_by_name(pki_names.name_key(said["name"]))
    return Page(
        "link_new.html",
        {
            "said": said,
            "roles": role_choices(ask),
            "valid": VALID,
            "error": error,
            "ask_trust": trust or said["trust"],
            "public": links.public(ask.site),
            "known": known,
            "mark": ask.memory.new_form(),
        },
        200 if error is None else 409 if isinstance(error, Conflict) else 400,
    )


def new(ask: Ask) -> Page:
    """Makes a link and shows it, this once. What could become of it is said before there is one."""
    form = ask.form
    said: dict[str, Any] = {
        "name": form.get("name"),
        "role": form.get("role") or "user",
        "owner": form.get("owner"),
        "remote": form.has("remote"),
        "pinned": form.has("pinned"),
        "trust": form.has("trust"),
        "valid": 15,
        "days": devices.DEFAULT_DAYS,
    }
    try:
        said["valid"] = form.number("valid", 15, least=1, most=7 * 24 * 60)
        said["days"] = form.number("days", devices.DEFAULT_DAYS)
        name = pki_names.device_name(said["name"])
        links.check(
            ask.site,
            name,
            said["role"],
            remote=said["remote"],
            trust_lan=said["trust"],
            pinned=said["pinned"],
        )
        if not ask.memory.first_time(form.get("mark")):
            return Page("gone.html", {"what": "This link was shown once, and its token is kept nowhere."}, 410)
        (made,) = links.invite(
            ask.site,
            [links.Wanted(name, said["role"], said["owner"] or None)],
            days=said["days"],
            valid=timedelta(minutes=said["valid"]),
            remote=said["remote"],
            trust_lan=said["trust"],
            pinned=said["pinned"],
        )
    except links.TrustNeeded as error:
        return _form(ask, said, error, trust=True)
    except (InvalidInput, Conflict) as error:
        return _form(ask, said, error)
    base = ask.context.enrolment_url(ask.host)
    url = f"{base}/#{made.token}"
    data = _data(ask, made.link) | {"url": url, "commands": _commands(base, made.token, ask.context.pin())}
    if not made.link.pinned:
        data["code"] = _code(url)
    return Page("link.html", data, place=f"/links/{made.link.id}")


def _commands(base: str, token: str, pin: str) -> list[tuple[str, str]]:
    """(words, command) for devices without a browser: both check the server's key before they say anything."""
    return [
        ("With redlatch on the device (it asks for the link above)", f"redlatch enroll - --pin {pin}"),
        ("With openssl and curl", "\n".join(handing.without_redlatch(base, token, pin))),
    ]


def _code(url: str) -> dict[str, Any]:
    """The QR code as a path of squares, in an SVG of this page's: no image to fetch, no style of its own."""
    import segno

    matrix = [list(row) for row in segno.make(url, error="m", micro=False).matrix_iter(border=4)]
    path = io.StringIO()
    for y, row in enumerate(matrix):
        for x, dark in enumerate(row):
            if dark:
                path.write(f"M{x} {y}h1v1h-1z")
    return {"size": len(matrix), "path": path.getvalue()}


def show(ask: Ask) -> Page:
    """A link without its token; for htmx only how far it has got."""
    with ask.site.store.read() as view:
        link = view.link(ask.number("link"))
    if link is None:
        raise NotFound("there is no such link any more", hint="what came of it stands in the audit trail")
    data = _data(ask, link)
    if ask.part != "link":
        return Page("link.html", data)
    return Page("link_state.html", data, 204 if ask.query.get("seen") == data["seen"] else 200)


def _data(ask: Ask, link: LinkRow) -> dict[str, Any]:
    first = None
    if link.fingerprint is not None and link.used_at is not None:
        first = ask.context.watch.let_in(link.fingerprint, link.used_at)
    state = words.link_state(link, ask.now)
    return {
        "link": link,
        "state": state,
        "first_in": first,
        "seen": "in" if first is not None else state.word,
        "near": ask.site.config().service.enrolment == (LOOPBACK,),
        "over": first is not None or state.word in ("withdrawn", "expired"),
        "url": "",
        "code": None,
        "over_now": ask.part == "link" and ask.query.get("seen") == "open" and state.word != "open",
        "commands": [],
    }


def withdraw_form(ask: Ask) -> Page:
    with ask.site.store.read() as view:
        link = view.link(ask.number("link"))
    if link is None:
        raise NotFound("there is no such link any more", hint="what came of it stands in the audit trail")
    return Page("link_withdraw.html", {"link": link, "state": words.link_state(link, ask.now)})


def withdraw(ask: Ask) -> Begin:
    number = ask.number("link")

    def operation(site: Site) -> Outcome:
        link = links.withdraw(site, number)
        return Outcome(f"the link for {link.name} is withdrawn", None)

    return Begin(f"Withdraw link {number}", operation, ("/links", "all links"))


WAYS = (
    Way("/links", show_all),
    Way("/links/new", new_form, new, form=True),
    Way("/links/{link}", show),
    Way("/links/{link}/withdraw", withdraw_form, withdraw, form=True),
)
