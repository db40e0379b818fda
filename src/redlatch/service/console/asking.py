"""What a page of the console is asked with, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from redlatch.errors import InvalidInput, NotFound, RedlatchError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from redlatch.operations.publishing import Force
    from redlatch.operations.site import Site
    from redlatch.operations.trials import Trial
    from redlatch.service.console.memory import Memory
    from redlatch.service.context import Context
    from redlatch.service.visitor import Visitor

_MOST_FIELDS = 500


class Fields:
    """What a query or a form says. Starlette's own `form()` wants a library for file uploads; there are none."""

    def __init__(self, encoded: bytes = b"") -> None:
        """Raises InvalidInput for more fields than any form here has, or for bytes that are no UTF-8."""
        try:
            text = encoded.decode("ascii")
            self._values = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
        except ValueError:  # UnicodeDecodeError is one
            raise InvalidInput("the form cannot be read", hint="go back and send it again") from None

    def get(self, name: str, default: str = "") -> str:
        """The first value, without blanks around it."""
        return self._values.get(name, [default])[0].strip()

    def all(self, name: str) -> tuple[str, ...]:
        """All values that are not empty."""
        return tuple(value.strip() for value in self._values.get(name, ()) if value.strip())

    def has(self, name: str) -> bool:
        """Whether a checkbox is ticked."""
        return bool(self.get(name))

    def number(self, name: str, default: int, *, least: int = 0, most: int = 2**53) -> int:
        """A whole number; InvalidInput for anything else. An empty field is the default."""
        text = self.get(name)
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 17 and least <= int(text) <= most):
            raise InvalidInput(f"{text[:40]!r} is no number that fits here", hint=f"from {least} to {most}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a visitor who may make it. `part` is the id of the element that htmx will replace ("" for a
    whole page), `host` the name by which the visitor called the console.
    """

    context: Context
    memory: Memory
    visitor: Visitor
    path: str
    values: Mapping[str, str]
    query: Fields
    form: Fields
    host: str | None
    part: str = ""

    @property
    def site(self) -> Site:
        """The site, with the visitor's name for the audit trail."""
        return self.context.as_visitor(self.visitor)

    @property
    def now(self) -> datetime:
        return self.context.site.clock()

    def number(self, name: str) -> int:
        """A number in the path; NotFound for what is none."""
        text = self.values[name]
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise NotFound("there is no such page", hint="the menu leads everywhere")
        return int(text)


@dataclass(frozen=True, slots=True)
class Page:
    """A template with what it shows. `place` is what the browser's address bar shall say when htmx puts it in."""

    template: str
    data: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    place: str = ""
    reload: bool = False  # the page that asks is of another time: it begins anew


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did, in a sentence, what to know about it, how far it got (None: nothing enforces it), and the
    trial that it is on.
    """

    sentence: str
    force: Force | None
    notes: Sequence[str] = ()
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """A change to begin. `title` says what it does; `back` is (address, words) of where to go afterwards.
    `insist`: although it locks somebody out; `trial`: so long, unless it is kept.
    """

    title: str
    operation: Callable[[Site], Outcome]
    back: tuple[str, str]
    insist: bool = False
    trial: timedelta | None = None


Answer = Page | Begin
Handler = Callable[[Ask], Answer]


@dataclass(frozen=True, slots=True)
class Way:
    """One address of the console: who GETs it sees, who POSTs to it changes something.

    What is needed follows from that alone, so that nothing can forget to ask: GET is for those who may see, POST
    for those who may change. `form` marks pages that are of use only to those who may change.
    """

    path: str
    get: Handler | None = None
    post: Handler | None = None
    form: bool = False


def unforeseen() -> RedlatchError:
    """What is said about a fault of redlatch's own."""
    return RedlatchError(
        "something went wrong that redlatch did not foresee",
        hint="the service's log says what: journalctl -u redlatch",
    )
