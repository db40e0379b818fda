"""What can be wrong with a site: checks, each with a code, and what they find.

A check is declared once, with all that a person needs to act on it; looking is a function of a `Scene`. What it
depends on are the codes of its causes: while one of these is found, its effects stay hidden (tailscale's `health`
does likewise), so that a person reads the one thing to mend and not the ten that follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redlatch.operations.site import Config, Site


class Severity(IntEnum):
    """How bad it is.

    OPEN: somebody may get in, or get at the keys. BROKEN: somebody who should get in does not, or will not soon.
    WEAK: it holds, and less than it could. NOTE: good to know, nothing to do.
    """

    NOTE = 0
    WEAK = 1
    BROKEN = 2
    OPEN = 3


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that is wrong: what exactly, in a line (lower case, no full stop), about which file, port, device
    or name (`subject`, empty: the site), and the remedy for this very case (empty: the check's own).

    `fix` mends it, where that is safe: it takes nothing away from anybody and opens nothing. It may raise
    RedlatchError.
    """

    text: str
    subject: str = ""
    remedy: str = ""
    fix: Callable[[], object] | None = field(default=None, compare=False)


class Unknown(Exception):
    """Raised by a check that cannot look from here; the reason, in words. Never counted as well."""


@dataclass(frozen=True)
class Scene:
    """What checks look at. `environ` is the environment in which programs are sought; `devices` whether devices
    may be made to knock at the door with, which audit trail and list of revoked devices keep for ever.
    """

    site: Site
    environ: Mapping[str, str]
    devices: bool = True

    @cached_property
    def config(self) -> Config:
        """The configuration, read once for all checks."""
        return self.site.config()


@dataclass(frozen=True, slots=True)
class Check:
    """`code` is stable, lower case with hyphens. `meaning` says in a sentence or two why it matters, `remedy` what
    to type. `depends_on` are codes. `look` yields what it finds; raises Unknown or RedlatchError if it cannot.
    """

    code: str
    title: str
    severity: Severity
    meaning: str
    remedy: str
    look: Callable[[Scene], Iterable[Found]]
    depends_on: tuple[str, ...] = ()
