"""Who may do what in the console: one place, and it fails closed.

An owner sees and changes everything, an admin sees everything and changes nothing, every other device in use may
renew its own key. Who has no certificate in use gets a page that says so, and the connection ends.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redlatch.service.console.asking import Way
    from redlatch.service.visitor import Visitor

_READS = ("GET", "HEAD")
#: What every device in use may ask for: the look of the pages, and a further key of its own.
_EVERYBODYS = ("/static", "/renew")


class Need(Enum):
    """What a request takes."""

    DEVICE = "a device in use"
    SEE = "to see"
    CHANGE = "to change"


def need(method: str, path: str, way: Way | None) -> Need:
    """What a request takes. What is not known to be harmless takes the most that there is."""
    if any(path == prefix or path.startswith(f"{prefix}/") for prefix in _EVERYBODYS):
        return Need.DEVICE
    if method not in _READS or (way is not None and way.form):
        return Need.CHANGE
    return Need.SEE


def may(visitor: Visitor, what: Need) -> bool:
    """Whether this visitor may."""
    if what is Need.DEVICE:
        return True
    return visitor.may_see if what is Need.SEE else visitor.may_see and visitor.may_change
