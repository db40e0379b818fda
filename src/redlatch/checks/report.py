"""The last report, kept: for the console, which may not look at everything, and to tell of a thing only once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from redlatch.checks.model import Severity
from redlatch.checks.run import Finding, Report
from redlatch.engines.nodered.claims import printable
from redlatch.files import own_user, read_own, write_atomic
from redlatch.operations.site import Notify
from redlatch.settings import Settings

_FORMAT = 1
_MOST = 4 << 20  # bytes; a report is a few thousand
#: Of one check: who may name files among the claims could otherwise make the report too long to be read again.
_OF_ONE = 50
_LONGEST = 1000  # characters of a text
Key = tuple[str, str]

WORDS: Mapping[Severity, str] = {
    Severity.OPEN: "open",
    Severity.BROKEN: "broken",
    Severity.WEAK: "weak",
    Severity.NOTE: "note",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One finding as it is kept; `since` is when it was first found without a gap."""

    code: str
    severity: str
    title: str
    text: str
    subject: str
    meaning: str
    remedy: str
    since: datetime

    @property
    def key(self) -> Key:
        return self.code, self.subject


@dataclass(frozen=True, slots=True)
class Kept:
    """A report as it is kept: findings, the worst first; (title, why) of what could not be looked at; how many
    findings are hidden by their cause. `told` is what the operator was told of and not yet told is over, `notify`
    who that was: a store that cannot be read does not say.
    """

    at: datetime
    findings: tuple[Line, ...]
    unknown: tuple[tuple[str, str], ...] = ()
    hidden: int = 0
    told: frozenset[Key] = field(default_factory=frozenset)
    notify: Notify = field(default_factory=Notify)


@dataclass(frozen=True, slots=True)
class News:
    """What is new and what is over since the operator was told last. Empty: nothing to tell."""

    new: tuple[Line, ...]
    over: tuple[Key, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.over)


def kept(report: Report, before: Kept | None, at: datetime) -> Kept:
    """The report to keep, with the ages and what was told of the one before it, and what that one found where this
    one did not look or could not.
    """
    earlier = {one.key: one for one in before.findings} if before is not None else {}
    found = {one.key: one for one in (_kept(finding, earlier, at) for finding in _not_too_many(report))}
    seen = set(report.looked) - {one.check.code for one in report.unknown}
    others = [one for key, one in earlier.items() if one.code not in seen and key not in found]
    order = list(WORDS.values())
    return Kept(
        at=at,
        findings=tuple(sorted([*found.values(), *others], key=lambda one: order.index(one.severity))),
        unknown=tuple((one.check.title, printable(one.why, _LONGEST)) for one in report.unknown),
        hidden=sum(one.count for one in report.hidden),
        told=before.told if before is not None else frozenset(),
    )


def _not_too_many(report: Report) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    for one in report.findings:
        counts[one.check.code] += 1
        if counts[one.check.code] <= _OF_ONE:
            yield one


def _kept(one: Finding, earlier: Mapping[Key, Line], at: datetime) -> Line:
    """Names of files and flows are whatever their maker likes: what cannot be shown or written is replaced."""
    line = Line(
        code=one.check.code,
        severity=WORDS[one.check.severity],
        title=one.check.title,
        text=printable(one.found.text, _LONGEST),
        subject=printable(one.found.subject, _LONGEST),
        meaning=one.check.meaning,
        remedy=printable(one.remedy, _LONGEST),
        since=at,
    )
    before = earlier.get(line.key)
    return line if before is None else replace(line, since=before.since)


def news(report: Report, now: Kept) -> News:
    """What to tell of a report and its kept form. What is only good to know is not told. A thing that was told of
    is over when its check looked and found neither it nor a cause that hides it.
    """
    counts = [one for one in now.findings if one.severity != WORDS[Severity.NOTE]]
    present = {one.key for one in counts}
    looked = set(report.looked) - {one.check.code for one in report.unknown} - set(report.covered)
    return News(
        new=tuple(one for one in counts if one.key not in now.told and one.code in report.looked),
        over=tuple(sorted(key for key in now.told - present if key[0] in looked)),
    )


def told(now: Kept, heard: News) -> Kept:
    """The report once the operator has heard this."""
    known = (now.told - frozenset(heard.over)) | frozenset(one.key for one in heard.new)
    return replace(now, told=known)


def telling(now: Kept, notify: Notify) -> Kept:
    """The report with who is told."""
    return replace(now, notify=notify)


def save(settings: Settings, one: Kept) -> None:
    """Keeps it where redlatch's own user alone reads it. FileProblem."""
    document = {
        "format": _FORMAT,
        "at": int(one.at.timestamp()),
        "findings": [
            {name: getattr(line, name) for name in Line.__slots__ if name != "since"}
            | {"since": int(line.since.timestamp())}
            for line in one.findings
        ],
        "unknown": one.unknown,
        "hidden": one.hidden,
        "told": sorted(one.told),
        "notify": asdict(one.notify),
    }
    data = json.dumps(document, ensure_ascii=True).encode("ascii") + b"\n"
    write_atomic(settings.last_check, data, mode=0o600, owner=own_user(settings))


def load(settings: Settings) -> Kept | None:
    """The report that was kept last; None where there is none that can be understood."""
    try:
        raw = json.loads(read_own(settings.last_check, most=_MOST))
        if raw["format"] != _FORMAT:
            return None
        return Kept(
            at=_when(raw["at"]),
            findings=tuple(_line(one) for one in raw["findings"]),
            unknown=tuple(_pair(one) for one in raw["unknown"]),
            hidden=int(raw["hidden"]),
            told=frozenset(_pair(one) for one in raw["told"]),
            notify=_notify(**raw["notify"]),
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _when(value: Any) -> datetime:
    return datetime.fromtimestamp(int(value), UTC)


def _line(raw: Mapping[str, Any]) -> Line:
    texts = {name: str(raw[name]) for name in Line.__slots__ if name != "since"}
    if texts["severity"] not in WORDS.values():
        raise ValueError("there is no such severity")
    return Line(**texts, since=_when(raw["since"]))


def _notify(command: Any, webhook: Any, audit_head: Any) -> Notify:
    if not all(one is None or isinstance(one, str) for one in (command, webhook)):
        raise TypeError("a command and a web hook are texts")
    return Notify(command, webhook, bool(audit_head))


def _pair(raw: Sequence[Any]) -> Key:
    first, second = raw
    return str(first), str(second)
