"""Who can still put things right: what must not be lost by a change unless somebody insists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from redlatch.policy.decide import decide
from redlatch.policy.model import Facts, Rule, Snapshot
from redlatch.policy.rules import reaches_editor


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether some device manages keys (`owner`), and whether anybody can still change flows (`editor`)."""

    owner: bool
    editor: bool


@dataclass(frozen=True, slots=True)
class Maker:
    """The device that makes a change in the console: whether it `manages` keys there, and whether Node-RED lets
    it, at the address that it has now, `read` the editor and `deploy`.
    """

    manages: bool
    read: bool
    deploy: bool


NO_OWNER: Final = (
    "no device would be left that manages keys: none with the role owner and a certificate that lasts"
)
NO_EDITOR: Final = "nobody could reach the editor any more to change flows"
_MAKER: Final[Sequence[tuple[str, str]]] = (
    ("manages", "the device that you are using now would manage nothing here any more"),
    ("read", "the device that you are using now would not reach the editor any more, from the address it has"),
    ("deploy", "the device that you are using now could not change flows any more, from the address it has"),
)


def standing(
    rules: Iterable[Rule], roles: Mapping[str, str], empty: Iterable[str], holds: Callable[[Rule], bool]
) -> Standing:
    """How things stand. `roles` are the operator's own with the built-in one each is like, `empty` the networks
    that hold no address, `holds(rule)` whether anybody is there of those whom a rule names.

    A rule for nobody, or from networks without an address, lets nobody in.
    """
    empty = frozenset(empty)
    own = tuple(name for name, base in roles.items() if base == "owner")
    lets_in = (rule for rule in rules if not (rule.networks and empty.issuperset(rule.networks)))
    return Standing(
        owner=holds(Rule(0, roles=("owner", *own))),
        editor=any(reaches_editor([rule]) and holds(rule) for rule in lets_in),
    )


def maker(snapshot: Snapshot, *, certificate: str, address: str, base: str | None, now: int) -> Maker:
    """What the device with that certificate may, from that address; `base` is the built-in role of its role, None
    when the device or the certificate is not in use.
    """
    root = snapshot.admin_root or "/"
    reads, writes = (
        decide(
            Facts(
                method=method,
                target=target,
                host="127.0.0.1",
                certificate=certificate,
                verified=True,
                now=now,
                peer=address,
            ),
            snapshot,
        ).allow
        for method, target in (("GET", root), ("POST", f"{root.rstrip('/')}/flows"))
    )
    return Maker(manages=base == "owner", read=reads, deploy=writes)


def lost(
    before: Sequence[Standing],
    after: Sequence[Standing],
    maker_before: Maker | None = None,
    maker_after: Maker | None = None,
) -> tuple[str, ...]:
    """What a change takes away that was there, in words; () when nothing is lost.

    `before` and `after` are how things stand now and in a while (the same moments in both): who is there for a
    few minutes more does not count as somebody who stays, and what was gone before is not the change's fault.
    """
    pairs = list(zip(before, after, strict=True))
    said = []
    if any(was.owner and not will.owner for was, will in pairs):
        said.append(NO_OWNER)
    if any(was.editor and not will.editor for was, will in pairs):
        said.append(NO_EDITOR)
    if maker_before is not None and maker_after is not None:
        gone = [text for name, text in _MAKER if getattr(maker_before, name) and not getattr(maker_after, name)]
        said += gone[:1]  # who cannot read cannot deploy
    return tuple(said)
