"""Networks: addresses under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redlatch import bootstrap
from redlatch.errors import UsageError
from redlatch.operations import networks, traffic
from redlatch.service.console import weighing
from redlatch.service.console.asking import Ask, Begin, Outcome, Page, Way

if TYPE_CHECKING:
    from redlatch.operations.site import Site

_SHOWN = 1000


def show_all(ask: Ask) -> Page:
    found = networks.list_networks(ask.site)
    return Page("networks.html", {"networks": found, "traffic": traffic.sentence(traffic.seen(ask.site))})


def show(ask: Ask) -> Page:
    """One network with its entries; of a very long one the first thousand."""
    (one,) = networks.list_networks(ask.site, ask.values["network"])
    return Page("network.html", {"network": one, "entries": one.entries[:_SHOWN]})


def add_form(ask: Ask) -> Page:
    return Page("network_add.html", {"name": ask.query.get("name"), "weighed": None, **weighing.choices()})


def add(ask: Ask) -> Begin:
    """Makes a network, or adds to it: all entries or none."""
    name = ask.form.get("name")
    entries = [line.strip() for line in ask.form.get("entries").splitlines() if line.strip()]
    force = ask.form.has("force")
    if not entries:
        raise UsageError("name at least one address", hint="as in 192.168.1.0/24, one a line")

    def operation(site: Site) -> Outcome:
        changed = networks.add(site, name, entries, resolver=bootstrap.look_up, force=force)
        many = "1 entry" if changed.added == 1 else f"{changed.added:,} entries"
        sentence = f"{many} added: {name} has {changed.network.count:,}"
        return Outcome(sentence, changed.force, (*changed.notes, *changed.network.cautions))

    return weighing.begin(ask, f"Add to the network {name[:40]}", operation, ("/networks", "all networks"))


def remove_form(ask: Ask) -> Page:
    """Removes one entry (entry=...), or the whole network."""
    name, entry = ask.values["network"], ask.query.get("entry")
    (one,) = networks.list_networks(ask.site, name)
    would: dict[str, Any] = {"weighed": None, **weighing.choices()}
    if one.own and (entry or not one.rules):
        would = weighing.look(ask, lambda site: networks.remove(site, name, [entry] if entry else ()))
    return Page("network_remove.html", {"network": one, "entry": entry, **would})


def remove(ask: Ask) -> Page | Begin:
    name, entry = ask.values["network"], ask.form.get("entry")
    would = weighing.refused(ask, lambda site: networks.remove(site, name, [entry] if entry else ()))
    if would is not None:
        (one,) = networks.list_networks(ask.site, name)
        return Page("network_remove.html", {"network": one, "entry": entry, **would}, 409)

    def operation(site: Site) -> Outcome:
        changed = networks.remove(site, name, [entry] if entry else ())
        if entry:
            sentence = f"{entry} removed: {name} has {changed.network.count:,}"
        else:
            sentence = f"the network {name} is gone"
        return Outcome(sentence, changed.force, changed.notes)

    title = f"Remove {entry[:60]} from {name}" if entry else f"Remove the network {name}"
    return weighing.begin(ask, title, operation, ("/networks", "all networks"))


WAYS = (
    Way("/networks", show_all),
    Way("/networks/new", add_form, add, form=True),
    Way("/networks/of/{network}", show),
    Way("/networks/of/{network}/remove", remove_form, remove, form=True),
)
