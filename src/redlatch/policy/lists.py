"""Lists of addresses as people write and keep them: one entry a line, `#` or `;` begins a comment.

An entry is an address, a range, a subnet or a DNS name. Each has one canonical form, in which it is stored, shown
and looked for: `192.168.1.0-192.168.1.255` is `192.168.1.0/24`, however it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from redlatch.errors import InvalidInput
from redlatch.policy.networks import Network, compiled, is_host_name, parse, peer_number, shown

MOST_ENTRIES: Final = 2_000_000
MOST_NAMES: Final = 32
MOST_ANSWERS: Final = 16
MOST_COMMENT: Final = 200
SHOWN_PROBLEMS: Final = 5
STEP: Final = 1 << 15  # lines between two reports of progress

Triple = tuple[int, int, int]  # IP version, first and last address

_OCTETS: Final = {str(number): number for number in range(256)}
_RESTS: Final = {"": 0} | {f"/{length}": (1 << 32 - length) - 1 for length in range(32)}


@dataclass(slots=True)
class Listed:
    """What a list says. `entries` maps each entry's canonical form to its comment; `intervals` are the addresses
    of those that are no names, and `names` those that are.
    """

    entries: dict[str, str] = field(default_factory=dict)
    intervals: list[Triple] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def take(self, other: Listed) -> list[str]:
        """Takes over what `other` has more, and its comments; returns the entries that are new."""
        if not self.entries:  # without a second million of everything
            self.entries, self.intervals, self.names = (
                dict(other.entries),
                list(other.intervals),
                list(other.names),
            )
            return list(self.entries)
        new = [entry for entry in other.entries if entry not in self.entries]
        for entry, comment in other.entries.items():
            if comment or entry not in self.entries:
                self.entries[entry] = comment
        self.intervals += other.intervals
        self.names += [name for name in other.names if name not in self.names]
        return new

    def text(self) -> str:
        """The list as it is kept."""
        return "\n".join(f"{entry} # {comment}" if comment else entry for entry, comment in self.entries.items())

    def network(self, answers: Mapping[str, Iterable[str]]) -> Network:
        """All its addresses, with those that its names stand for now."""
        resolved = [(*number, number[1]) for name in self.names for number in _numbers(answers.get(name, ()))]
        return compiled(chain(self.intervals, resolved))


def canonical(text: str) -> tuple[str, Triple | None]:
    """(canonical form, addresses) of one entry, without addresses for a DNS name; InvalidInput with what would be
    right.
    """
    plain = _plain(text)
    if plain is not None:
        return text, plain
    name = text.strip().removesuffix(".").lower()
    if is_host_name(name):
        return name, None
    triple = parse(text)
    return shown(*triple), triple


def parts(line: str) -> tuple[str, str]:
    """(entry, comment) of a line, both perhaps empty."""
    begin = min((at for at in (line.find("#"), line.find(";")) if at >= 0), default=-1)
    if begin < 0:
        return line.strip(), ""
    comment = " ".join("".join(c if c.isprintable() else " " for c in line[begin + 1 :]).split())
    return line[:begin].strip(), comment[:MOST_COMMENT]


def read(text: str, *, source: str, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Listed:
    """The whole list, or InvalidInput that names the first few lines that are wrong, and what would be right.

    `source` is what the message calls it; `progress` is told (lines done, lines in all) now and then.
    """
    if text.count("\n") > 2 * MOST_ENTRIES:
        raise _too_many(source, text.count("\n"))
    lines = text.split("\n")  # as editors count them; not at a form feed, as splitlines() would
    found = Listed()
    problems: list[str] = []
    wrong = 0
    for number, line in enumerate(lines):
        if not number % STEP:
            progress(number, len(lines))
        entry = line.strip()
        triple = _plain(entry)
        if triple is not None:
            if entry not in found.entries:
                found.entries[entry] = ""
                found.intervals.append(triple)
            continue
        problem = _slow(line, found)
        if problem:
            wrong += 1
            if len(problems) < SHOWN_PROBLEMS:
                problems.append(f"line {number + 1:,}: {problem}")
    if wrong:
        raise _bad_lines(source, problems, wrong)
    check_size(found, source)
    return found


def given(entries: Iterable[str]) -> Listed:
    """The list of single entries, each perhaps with a comment; InvalidInput for the first that is wrong."""
    found = Listed()
    for text in entries:
        entry, comment = parts(text)
        if not entry:
            raise InvalidInput(
                f"{text!r} names no address", hint="as in 192.168.1.20, or '192.168.1.20 # wall tablet'"
            )
        _put(found, entry, comment)
    check_size(found, "what you named")
    return found


def check_size(found: Listed, source: str) -> None:
    """InvalidInput when a network cannot hold this many entries or DNS names."""
    if len(found.entries) > MOST_ENTRIES:
        raise _too_many(source, len(found.entries))
    if len(found.names) > MOST_NAMES:
        raise InvalidInput(
            f"{source} has {len(found.names):,} DNS names, and a network holds at most {MOST_NAMES}",
            hint="each is looked up every five minutes; write the addresses of those that do not change",
        )


def kept(text: str) -> Listed:
    """Reads what `Listed.text` made."""
    return read(text, source="the stored list") if text else Listed()


def kept_line(line: str) -> tuple[str, str]:
    """(entry, comment) of one line of what `Listed.text` made."""
    entry, _, comment = line.partition(" # ")
    return entry, comment


def within(entry: Triple, others: Iterable[Triple]) -> str | None:
    """The first of `others` that holds all of `entry` and more, as people write it."""
    version, first, last = entry
    found = (one for one in others if one[0] == version and one[1] <= first and last <= one[2] and one != entry)
    return next((shown(*one) for one in found), None)


def usable_answers(addresses: Iterable[str]) -> tuple[str, ...]:
    """What of a name server's answer a list takes: whole addresses of somebody's, in order, at most 16.

    Not what nobody can have (unspecified, multicast, 240.0.0.0/4), not IPv4 in IPv6 dress, and not this machine
    itself: whoever answers for a name must not be able to say that it is everybody behind a local proxy.
    """
    found = set()
    for text in addresses:
        number = peer_number(text)
        if number is None or "%" in text or (":" in text and number[0] == 4):
            continue
        version, value = number
        refused = _REFUSED_V4 if version == 4 else _REFUSED_V6
        if not any(first <= value <= last for first, last in refused):
            found.add(number)
    return tuple(shown(version, value, value) for version, value in sorted(found)[:MOST_ANSWERS])


_REFUSED_V4: Final = tuple(parse(net)[1:] for net in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"))
_REFUSED_V6: Final = tuple(parse(net)[1:] for net in ("::/127", "ff00::/8"))


def _plain(entry: str) -> Triple | None:
    """What nearly every line of a long list is, an IPv4 address or subnet in its canonical form; told by look-ups
    alone, in a quarter of the time that `parse` takes.
    """
    base, slash, length = entry.partition("/")
    try:
        a, b, c, d = base.split(".")
        first = _OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]
        rest = _RESTS[slash + length]
    except (ValueError, KeyError):
        return None
    return None if first & rest else (4, first, first + rest)


def _slow(line: str, found: Listed) -> str:
    """Takes any other line; what is wrong with it, or ""."""
    entry, comment = parts(line)
    if not entry:
        return ""
    try:
        _put(found, entry, comment)
    except InvalidInput as error:
        return f"{error.message}: {error.hint}" if error.hint else error.message
    return ""


def _put(found: Listed, entry: str, comment: str) -> None:
    text, triple = canonical(entry)
    new = text not in found.entries
    if new or comment:
        found.entries[text] = comment
    if new and triple is not None:
        found.intervals.append(triple)
    elif new:
        found.names.append(text)


def _too_many(source: str, number: int) -> InvalidInput:
    return InvalidInput(
        f"{source} has {number:,} entries, and a network holds at most {MOST_ENTRIES:,}",
        hint="make two networks of it, or larger subnets of its entries",
    )


def _bad_lines(source: str, problems: list[str], wrong: int) -> InvalidInput:
    rest = f"; and {wrong - len(problems):,} more" if wrong > len(problems) else ""
    return InvalidInput(
        f"{source}, {'; '.join(problems)}{rest}",
        hint="nothing was stored; put that right and run the command again",
    )


def _numbers(addresses: Iterable[str]) -> Iterable[tuple[int, int]]:
    return (number for number in map(peer_number, addresses) if number is not None)
