"""What stands in an export, and what is never let into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.engines.export import caddy, nginx
from redlatch.engines.export.model import Export
from redlatch.errors import InvalidInput
from redlatch.policy.model import DEFAULT_RULES, Areas, Entry, Rule, Snapshot
from redlatch.policy.networks import compiled, parse

Render = Callable[[Export], str]
RENDER = pytest.mark.parametrize("render", [nginx.render, caddy.render], ids=["nginx", "caddy"])
ONE, OTHER = "a" * 64, "b" * 64


def export(**fields: object) -> Export:
    snapshot = Snapshot(
        site="s", version=7, time=2_000_000, mode="strict", port=None, keep_auth=False, names=("pi.local",),
        admin_root="/", spool="/spool", rules=DEFAULT_RULES,
        devices={ONE: Entry("id-1", "admin", "bart", 1_000_000, 3_000_000)},
    )  # fmt: skip
    made = Export(
        snapshot=snapshot, listen=":443", upstream="http://127.0.0.1:1880", server_cert="/etc/x/server.pem",
        server_key="/etc/x/server.pem", device_ca="/etc/x/ca.pem", authorities=(b"der",),
        sha1={ONE: "c" * 40, OTHER: "d" * 40}, labels={"id-1": "Bart's phone"},
    )  # fmt: skip
    own = {key: value for key, value in fields.items() if key in Export.__slots__}
    rest = {key: value for key, value in fields.items() if key not in own}
    return replace(made, **own, snapshot=replace(snapshot, **rest))  # type: ignore[arg-type]


@RENDER
@given(
    text=st.text(max_size=40)
    | st.sampled_from(["x\n acl", "`", '"; }', "${HOME}", "{$HOME}", "# {", "\\", "a b", "'"])
)
def test_nothing_named_adds_a_line_or_a_word(render: Render, text: str) -> None:
    """Names of devices, people, roles, networks, paths of rules and flows: each stands where a plain one would."""

    def made(word: str) -> str:
        return render(
            export(
                labels={"id-1": word},
                devices={ONE: Entry(word, word, word, 0, 9_000_000)},
                roles={word: "admin"},
                networks={word: compiled([parse("10.0.0.0/8")])},
                rules=(
                    Rule(1, roles=(word,), networks=(word,), path="/" + word),
                    Rule(2, any_device=True, area="all"),
                ),
                areas=Areas(
                    dashboards=("/d" + word,),
                    http_in=("/h" + word,),
                    static=("/s" + word,),
                    websockets=("/w" + word,),
                ),
                admin_root="/r" + word,
                site=word,
                mode=word,
            )
        )

    plain, odd = made("plain"), made(text)
    assert odd.isascii()
    assert "\r" not in odd
    assert len(code(odd).split("\n")) <= len(code(plain).split("\n"))  # an odd endpoint is left out
    for mark in '"`{}$;#':
        assert code(odd).count(mark) <= code(plain).count(mark), mark


def code(text: str) -> str:
    """The lines that are no comment."""
    return "\n".join(line for line in text.split("\n") if not line.strip().startswith("#"))


@RENDER
@pytest.mark.parametrize(
    "fields",
    [
        {"names": ("pi.local; }",)},
        {"names": ("pi\nserver",)},
        {"names": ("{$HOME}",)},
        {"names": ("Pi.local",)},
        {"origins": ("https://x.example/`",)},
        {"origins": ('https://x"',)},
        {"server_cert": "/etc/x/$host.pem"},
        {"server_cert": 'relative.pem'},
        {"server_key": '/etc/x/a";}.pem'},
        {"server_key": "/etc/{$HOME}/a.pem"},
        {"device_ca": "/etc/a\n.pem"},
        {"upstream": "https://127.0.0.1:1880"},
        {"upstream": "http://127.0.0.1:1880/x;"},
        {"upstream": "http://user@127.0.0.1:1880"},
        {"upstream": "http://$host:1880"},
        {"listen": "443; }"},
        {"listen": "unix:/run/x"},
        {"devices": {"x; }": Entry("i", "admin", "u", 0, 9)}},
        {"sha1": {ONE: 'x" y'}},
    ],
)  # fmt: skip
def test_what_cannot_stand_in_a_configuration_is_refused(render: Render, fields: dict[str, object]) -> None:
    """Hosts, origins, files and addresses are written as they are, so what is odd in them is an error."""
    assert render(export())
    with pytest.raises(InvalidInput):
        render(export(**fields))


@RENDER
def test_the_header_says_what_it_cannot(render: Render) -> None:
    """Plainly, and first: no live revocation, open connections, resumption, reasons, log."""
    head = render(export()).partition("\n\n")[0]
    assert all(line.startswith("#") for line in head.split("\n"))
    for words in (
        "LIVE REVOCATION",
        "websocket outlives",
        "resumption",
        "reload",
        "Reasons",
        "access log",
        "clock",
    ):
        assert words in head, words
    more = render(export(open_port=1890, origins=("https://p.example",), mode="auto")).partition("\n\n")[0]
    for words in ("port that asks nobody", "other origins may call", "mode auto"):
        assert words in more, words


def test_only_listed_certificates_stand_in_it() -> None:
    """By SHA-1 in nginx's, by SHA-256 in Caddy's; without a known SHA-1 it is left out; its name is above."""
    text = nginx.render(export())
    assert '"SUCCESS:' + "c" * 40 + '" "c1 0001000000 0003000000 id-1 bart admin";' in text
    assert "    # Bart's phone\n" in text
    assert "d" * 40 not in text
    assert "SUCCESS:" not in nginx.render(export(sha1={}))
    assert f'{ONE} "c1 0001000000 0003000000 id-1 bart admin"' in caddy.render(export())
    assert ONE not in caddy.render(export(devices={}))


def test_the_certificate_is_asked_for_unless_a_rule_needs_none() -> None:
    """`anyone` makes it optional; an open port of redlatch's does not."""
    anyone = (*DEFAULT_RULES, Rule(9, anyone=True, path="/hook"))
    assert "ssl_verify_client on;" in nginx.render(export())
    assert "ssl_verify_client optional;" in nginx.render(export(rules=anyone))
    assert "ssl_verify_client on;" in nginx.render(export(rules=anyone, open_port=1890))
    assert "require_and_verify" in caddy.render(export())
    assert "verify_if_given" in caddy.render(export(rules=anyone))
    assert "verify_if_given" not in caddy.render(export(rules=anyone, open_port=1890))


def test_no_device_ca_is_no_export() -> None:
    """Caddy is handed the CA itself; without one it would ask for none."""
    with pytest.raises(InvalidInput):
        caddy.render(export(authorities=()))
