"""Names that people give: of devices, of people, of hosts.

A device's name is free text that ends up in terminals, pages, logs, file names and certificates. Apostrophes,
quotes, umlauts, slashes and emoji are a person's right; what hides or reorders text is not.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from encodings import idna
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from redlatch.errors import InvalidInput

MAX_NAME: Final = 64
"""Longest name of a device or person, in characters after NFC."""

MAX_REASON: Final = 200

Address = IPv4Address | IPv6Address

# Cc control, Cf format (bidirectional marks among them), Cs surrogate, Co private use, Cn unassigned,
# Zl and Zp line and paragraph separators.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Of the format characters these two are needed: emoji sequences, Persian and Indic spelling.
_JOINERS: Final = "\u200c\u200d"
# Blank on screen although they count as letters, marks or symbols (Unicode, Default_Ignorable_Code_Point).
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")

_SLUG_LENGTH: Final = 32
# What NFKD leaves whole although everybody knows its ASCII spelling.
_TRANSLITERATION: Final = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ı": "i",
        "ħ": "h",
        "ŋ": "n",
    }
)
# Keys that JavaScript objects have without being asked, Node-RED's own users, device names of Windows
# (a user's name becomes a file name there when the folder is copied).
_RESERVED_SLUGS: Final = frozenset(
    {"anonymous", "anyone", "constructor", "global", "con", "prn", "aux", "nul"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)}
)

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# The URL standard takes a name whose last label is a number for an IPv4 address ("1.2", "0x7f.1").
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
# Valid in IDNA 2008 but mapped to something else by IDNA 2003, which is what Python has.
_DEVIATIONS: Final = frozenset("ßςẞ\u200c\u200d")


def device_name(text: str) -> str:
    """Return a device's name in its stored form: NFC, stripped, runs of spaces made one; 1 to 64 characters.

    Raises InvalidInput for control and bidirectional characters, line separators, what is unassigned or
    invisible, and for names that are empty or too long.
    """
    return _label(text, "device")


def person_name(text: str) -> str:
    """Return the name of a device's owner in its stored form. Same rule and errors as `device_name`."""
    return _label(text, "person")


def hidden_character(text: str) -> str | None:
    """Return the first character that hides or reorders text ("U+202E RIGHT-TO-LEFT OVERRIDE"), or None."""
    for character in text:
        refused = unicodedata.category(character) in _REFUSED_CATEGORIES and character not in _JOINERS
        if refused or character in _INVISIBLE:
            described = f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
            return described if unicodedata.category(character) != "Cc" else f"control character {described}"
    return None


def name_key(text: str) -> str:
    """Return what two names share when a person would call them the same; any text is accepted.

    NFKC_Casefold (Unicode, 3.13, D147), single spaces, the typographic apostrophe of phone keyboards as the
    plain one, and no variation selectors: "BART’S  Phone" and "Bart's phone" are one name.
    """
    folded = unicodedata.normalize("NFD", text).casefold()
    folded = unicodedata.normalize("NFKC", folded).casefold()
    folded = unicodedata.normalize("NFKC", folded)
    plain = folded.replace("’", "'").replace("\ufe0e", "").replace("\ufe0f", "")
    return " ".join(plain.split())


def slug(text: str) -> str:
    """Return a user name that is safe in paths, as a key and in a git identity: [a-z0-9-], 1 to 32 characters.

    Latin letters are transliterated. What leaves nothing (other scripts, emoji) becomes "user-" and eight hex
    digits of the name's digest; a reserved word gets the prefix "user-". Not unique: two names may share one.
    """
    folded = name_key(text).translate(_TRANSLITERATION)
    letters = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    # An apostrophe joins: "bart's phone" is barts-phone, not bart-s-phone.
    words = re.findall(r"[a-z0-9]+", letters.translate(_TRANSLITERATION).replace("'", ""))
    joined = "-".join(words)[:_SLUG_LENGTH].strip("-")
    if not joined:
        return "user-" + hashlib.sha256(name_key(text).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"user-{joined}" if joined in _RESERVED_SLUGS else joined


@lru_cache(maxsize=256)  # the site's own few names, for every certificate issued
def host_name(text: str) -> str:
    """Return a host name as it stands in a certificate: lower case, A-labels, no trailing dot.

    Letters, digits and hyphens only (RFC 1123, 2.1; RFC 5890, 2.3.1), labels to 63 and names to 253 octets.
    Raises InvalidInput for addresses, URLs, ports, wildcards, underscores and all else.
    """
    name = text.strip().lower()
    _refuse_what_is_no_host(text, name)
    labels = [_ascii_label(label, text) for label in name.removesuffix(".").split(".")]
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise InvalidInput(
                f"{_quoted(text)} is not a host name",
                hint="use letters, digits and hyphens between dots, as in nodered.local",
            )
    if _NUMBER.fullmatch(labels[-1]):
        raise InvalidInput(f"{_quoted(text)} would be read as an address", hint="end the name with a word")
    host = ".".join(labels)
    if len(host) > 253:
        raise InvalidInput(f"a host name of {len(host)} characters is too long", hint="253 are allowed")
    return host


def parse_address(value: str | Address) -> Address | None:
    """Return an IP address in its plain form (no zone, IPv4 instead of IPv4-mapped IPv6), or None."""
    try:
        address = ip_address(value)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def reason_text(text: str) -> str:
    """Return the reason somebody gives for a revocation: one line of up to 200 characters, none of them hidden."""
    hidden = hidden_character(text)
    if hidden is not None:
        raise InvalidInput(f"the reason contains {hidden}", hint="give it in one line of plain text")
    reason = " ".join(unicodedata.normalize("NFC", text).split())
    if len(reason) > MAX_REASON:
        raise InvalidInput(f"the reason has {len(reason)} characters", hint=f"use at most {MAX_REASON}")
    return reason


def _label(text: str, what: str) -> str:
    hidden = hidden_character(text)
    if hidden is not None:
        raise InvalidInput(
            f"the {what}'s name contains the {hidden}"
            if hidden.startswith("control")
            else f"the {what}'s name contains {hidden}",
            hint="leave out characters that cannot be seen or that turn the direction of text",
        )
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if len(name) > MAX_NAME:
        raise InvalidInput(
            f"the {what}'s name has {len(name)} characters", hint=f"use at most {MAX_NAME}: Bart's phone"
        )
    if not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        raise InvalidInput(f"the {what}'s name is empty", hint="give it one, as in: Bart's phone")
    return name


def _refuse_what_is_no_host(text: str, name: str) -> None:
    """Say what it is instead of a host name, for what people give by mistake."""
    if parse_address(name.strip("[]")) is not None:
        raise InvalidInput(f"{_quoted(text)} is an address, not a host name")
    if "/" in name or "@" in name:
        raise InvalidInput(f"{_quoted(text)} is not a host name", hint="leave out https:// and the path")
    if ":" in name:
        raise InvalidInput(f"{_quoted(text)} has a port", hint="leave out the colon and the port")
    if "*" in name:
        raise InvalidInput(f"{_quoted(text)} is a wildcard", hint="name each host by itself")
    if "_" in name:
        raise InvalidInput(
            f"{_quoted(text)} has an underscore, which host names may not have", hint="use a hyphen instead"
        )


def _ascii_label(label: str, text: str) -> str:
    """Return one label as ASCII. Refused: symbols, other dots, and what IDNA 2003 maps otherwise than browsers."""
    try:
        if label.isascii():
            if label.startswith("xn--"):
                label[4:].encode("ascii").decode("punycode")
            return label
        if not all(c == "-" or unicodedata.category(c)[0] in "LMN" for c in label if c not in _DEVIATIONS):
            raise InvalidInput(f"{_quoted(text)} is not a host name", hint="use letters, digits and hyphens")
        if not _DEVIATIONS.isdisjoint(label):
            raise InvalidInput(
                f"{_quoted(text)} is spelled differently by different software",
                hint="give the form that begins with xn--",
            )
        return idna.ToASCII(unicodedata.normalize("NFC", label)).decode("ascii").lower()
    except UnicodeError as error:
        raise InvalidInput(f"{_quoted(text)} is not a host name") from error


def _quoted(text: str) -> str:
    """Show what was given: escaped, so that it cannot act on a terminal, and not at length."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
