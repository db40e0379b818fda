from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.errors import InvalidInput
from redlatch.pki.names import device_name, hidden_character, host_name, name_key, parse_address, person_name, slug


@pytest.mark.parametrize(
    "name",
    [
        "Bart's phone",
        "Bart’s phone",
        'the "old" tablet',
        "Büro / Küche",
        "../../etc/passwd",
        "📱",
        "👩‍👩‍👧 tablet",
        "❤️",
        "🏳️‍🌈",
        "टैबलेट",
        "می‌خواهم",
        "<script>alert(1)</script>",
        "$(reboot); `id` && x | y",
        "a" * 64,
        "日本語",
        "-",
        "%s %d {0} \\n",
    ],
)
def test_plain_names_are_kept(name: str) -> None:
    """Apostrophes, quotes, umlauts, slashes, emoji, joiners and shell or HTML syntax are a person's right."""
    assert device_name(name) == name
    assert person_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "a" * 65,
        "a" * 300,
        "two\nlines",
        "phone\n",
        "tab\tbed",
        "nul\0",
        "\x1b[31mred",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
        "phone\u202egnp.exe",
        "\u2066x\u2069",
        "\u200e",
        "\u061c",
        "\ufeffphone",
        "soft\u00adhyphen",
        "\ud800",
        "\ue000",
        "\U0010ffff",
        "\u0378",
        "\u200d",
        "\u3164",
        "\u2800",
        "\u0301",
        "x\U000e0041",
    ],
)
def test_hidden_reordered_empty_and_long_names_are_refused(name: str) -> None:
    """Control, bidirectional, unassigned, private, surrogate and invisible characters have no place in a name."""
    with pytest.raises(InvalidInput):
        device_name(name)
    with pytest.raises(InvalidInput):
        person_name(name)


def test_refusal_says_which_character_without_showing_it() -> None:
    """The message names the character by its code point: printing it would do what it was refused for."""
    with pytest.raises(InvalidInput) as refused:
        device_name("phone\u202egnp")
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in refused.value.message
    assert refused.value.message.isascii()
    with pytest.raises(InvalidInput) as refused:
        device_name("\x1b[2J")
    assert "control character U+001B" in refused.value.message


def test_names_are_stored_composed_and_with_single_spaces() -> None:
    """NFC, no space around, one space between, whatever kind of space was typed."""
    assert device_name("  Büro\u00a0  2 ") == "Büro 2"
    assert device_name("u\u0308" * 64) == "ü" * 64


@given(st.text(max_size=400))
def test_device_name_accepts_or_says_why(text: str) -> None:
    """Any text is either a stable, short, visible name or refused with InvalidInput."""
    try:
        name = device_name(text)
    except InvalidInput:
        return
    assert 1 <= len(name) <= 64
    assert device_name(name) == name
    assert hidden_character(name) is None
    assert unicodedata.is_normalized("NFC", name)
    assert not set(name) & set("\n\r\t\0\x1b\u2028\u202e")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bart's phone", "BART’S  Phone"),
        ("Straße", "STRASSE"),
        ("Ｐｉ", "pi"),
        ("café", "cafe\u0301"),
        ("❤️", "❤"),
        ("phone", " phone "),
    ],
)
def test_names_that_a_person_calls_the_same_share_a_key(one: str, other: str) -> None:
    """Case, width, composition, spaces and the phone's apostrophe do not make another device."""
    assert name_key(one) == name_key(other)


def test_different_names_have_different_keys() -> None:
    """Accents and digits do make another device."""
    assert len({name_key(name) for name in ("phone", "phone 2", "phöne", "phone-2", "fone")}) == 5


@given(st.text(max_size=100))
def test_key_of_a_key_is_the_key(text: str) -> None:
    """Any text has a key, and it is stable."""
    assert name_key(name_key(text)) == name_key(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Bart", "bart"),
        ("Bart's phone", "barts-phone"),
        ("Jürgen Strauß", "jurgen-strauss"),
        ("Łukasz Ørsted", "lukasz-orsted"),
        ("../../etc/passwd", "etc-passwd"),
        ("constructor", "user-constructor"),
        ("__proto__", "proto"),
        ("Anonymous", "user-anonymous"),
        ("CON", "user-con"),
        ("com1", "user-com1"),
        ("a" * 70, "a" * 32),
        ("a" * 31 + " b", "a" * 31),
        ("..", None),
        ("Елена", None),
        ("📱", None),
        ("", None),
        ("\ud800", None),
    ],
)
def test_slug(name: str, expected: str | None) -> None:
    """Latin is transliterated; what leaves nothing gets a digest; reserved words get a prefix."""
    if expected is None:
        assert re.fullmatch(r"user-[0-9a-f]{8}", slug(name))
    else:
        assert slug(name) == expected


def test_slugs_of_unwritable_names_differ() -> None:
    """Two people whose names have no Latin letter do not become one user."""
    assert slug("Елена") != slug("Иван")


@given(st.text(max_size=200))
def test_slug_is_always_safe(text: str) -> None:
    """Whatever the name, the slug is a path segment, a JavaScript key and a git name without meaning."""
    made = slug(text)
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", made)
    assert made not in {"constructor", "anonymous", "con", "nul"}
    assert slug(name_key(text)) == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi", "pi"),
        (" Pi.LOCAL. ", "pi.local"),
        ("bücher.lan", "xn--bcher-kva.lan"),
        ("XN--BCHER-KVA.lan", "xn--bcher-kva.lan"),
        ("raspberrypi-4.home.arpa", "raspberrypi-4.home.arpa"),
        ("4pi", "4pi"),
        ("1and1.example", "1and1.example"),
        ("a" * 63 + ".lan", "a" * 63 + ".lan"),
    ],
)
def test_host_names(text: str, expected: str) -> None:
    """A host name comes out lower case, as A-labels, without the trailing dot."""
    assert host_name(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("*.local", "wildcard"),
        ("pi.local:1880", "port"),
        ("https://pi.local", "not a host name"),
        ("pi.local/admin", "not a host name"),
        ("me@pi.local", "not a host name"),
        ("my_pi.local", "underscore"),
        ("192.168.1.4", "address"),
        ("[::1]", "address"),
        ("::1", "address"),
        ("127.1", "address"),
        ("0x7f.1", "address"),
        ("10.0.0.0x1", "address"),
        ("2130706433", "address"),
        ("", "not a host name"),
        (".", "not a host name"),
        ("pi..local", "not a host name"),
        (".local", "not a host name"),
        ("pi.local..", "not a host name"),
        ("-pi.local", "not a host name"),
        ("pi-.local", "not a host name"),
        ("pi local", "not a host name"),
        ("pi\0.local", "not a host name"),
        ("pi\n.local", "not a host name"),
        ('pi".local', "not a host name"),
        ("a" * 64 + ".lan", "not a host name"),
        (".".join(["a" * 60] * 5), "too long"),
        ("straße.lan", "differently"),
        ("pi。local", "not a host name"),
        ("xn--\u00fc.lan", "not a host name"),
        ("xn--zzzzzzzzzzzzzz99999.lan", "not a host name"),
        ("\u202epi.local", "not a host name"),
        ("\ud800.lan", "not a host name"),
    ],
)
def test_what_is_no_host_name_is_refused_and_said(text: str, why: str) -> None:
    """Wildcards, ports, URLs, underscores, addresses in any spelling and garbage each get their reason."""
    with pytest.raises(InvalidInput, match=why) as refused:
        host_name(text)
    assert refused.value.message.isascii()
    assert "\n" not in refused.value.message


@given(
    st.one_of(st.text(max_size=300), st.from_regex(r"[a-z0-9._ü-]{1,40}(\.[a-z0-9-]{1,8}){0,3}", fullmatch=True))
)
def test_host_name_accepts_or_says_why(text: str) -> None:
    """Any text is either a stable LDH name or refused with InvalidInput."""
    try:
        host = host_name(text)
    except InvalidInput:
        return
    assert len(host) <= 253
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label) for label in host.split("."))
    assert host_name(host) == host
    assert parse_address(host) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("FD00::0001", "fd00::1"),
    ],
)
def test_addresses_have_one_form(text: str, expected: str) -> None:
    """Zones and the IPv4-mapped form are dropped, as certificates and clients have no room for them."""
    assert str(parse_address(text)) == expected


@pytest.mark.parametrize("text", ["010.0.0.1", "10.1", "0x7f000001", "10.0.0.1/8", "pi", ""])
def test_ambiguous_addresses_are_none(text: str) -> None:
    """Octal, short and hexadecimal IPv4 forms mean different hosts to different software."""
    assert parse_address(text) is None
