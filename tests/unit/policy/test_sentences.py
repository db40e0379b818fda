"""Rules in words, and what is refused before it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redlatch.errors import Conflict, InvalidInput, NotFound, RedlatchError
from redlatch.policy import rules
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import ROLES, Rule
from redlatch.policy.networks import Network, compiled, parse

NAMES = {"1": "Bart's phone", "2": "Ada's tablet (revoked)"}


def network(*texts: str) -> Network:
    return compiled(parse(text) for text in texts)


NETWORKS = {
    **BUILTIN,
    "home": network("192.168.1.0/24"),
    "docker": network("172.17.0.1"),
    "world": network("0.0.0.0/0"),
    "low": network("0.0.0.0/1"),
    "high": network("128.0.0.0/1"),
    "edge": network("104.16.0.1"),
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(1, any_device=True, networks=("home",), area="dashboards"),
         "any device, from home, may reach the dashboards"),
        (Rule(1, anyone=True, path="/webhook/github", methods=("POST",)),
         "anyone, with or without a certificate, from anywhere, may POST to /webhook/github"),
        (Rule(1, roles=("admin",), area="all"),
         "devices with the role admin, from anywhere, may reach everything"),
        (Rule(1, roles=("a", "b", "c"), networks=("home", "office"), area="editor-read"),
         "devices with the role a, b or c, from home or office, may reach the editor, reading only"),
        (Rule(1, devices=("1", "2", "3"), roles=("user",), area="http-in", methods=("GET", "PUT")),
         "Bart's phone, Ada's tablet (revoked), an unknown device (3) and devices with the role user, "  # noqa: ISC004
         "from anywhere, may use GET and PUT on the http-in endpoints"),
        (Rule(1, any_device=True, area="static", methods=("GET",)),
         "any device, from anywhere, may GET the static files"),
        (Rule(1, any_device=True, area="new"), "any device, from anywhere, may reach the unknown area new"),
        (Rule(1, area="editor"), "nobody, from anywhere, may reach the editor"),
    ],
)  # fmt: skip
def test_a_rule_is_one_sentence(rule: Rule, expected: str) -> None:
    """As it would be said."""
    assert rules.sentence(rule, NAMES) == expected


def checked(rule: Rule, admin_root: str | None = "/") -> Rule:
    return rules.checked(rule, roles=(*ROLES, "garden"), networks=NETWORKS, admin_root=admin_root)


def test_a_checked_rule_has_one_form() -> None:
    """However it was written; two that mean the same are the same."""
    one = checked(
        Rule(0, roles=("user", "garden", "user"), networks=("home", "docker"), path="/x", methods=("post", "GET"))
    )
    assert one == Rule(
        0, roles=("garden", "user"), networks=("docker", "home"), path="/x", methods=("GET", "POST")
    )
    assert rules.same(one, replace(one, id=7))
    assert not rules.same(one, replace(one, methods=()))


@pytest.mark.parametrize(
    ("rule", "error", "message", "hint"),
    [
        (Rule(0, roles=("amdin",), area="all"), NotFound, "no role 'amdin'", "did you mean 'admin'"),
        (Rule(0, roles=("xyzzy",), area="all"), NotFound, "no role 'xyzzy'", "redlatch role list"),
        (Rule(0, any_device=True, networks=("hoem",), area="all"), NotFound, "network 'hoem'", "mean 'home'"),
        (Rule(0, any_device=True, area="dashboard"), InvalidInput, "no area 'dashboard'", "mean 'dashboards'"),
        (Rule(0, any_device=True, area="all", path="/x"), InvalidInput, "one area or one path", "areas are"),
        (Rule(0, any_device=True), InvalidInput, "one area or one path", "areas are"),
        (Rule(0, area="all"), InvalidInput, "names nobody", "any device"),
        (Rule(0, anyone=True, roles=("user",), path="/x"), InvalidInput, "anyone includes", "add up"),
        (Rule(0, anyone=True, any_device=True, path="/x"), InvalidInput, "anyone includes", "add up"),
        (Rule(0, any_device=True, devices=("1",), path="/x"), InvalidInput, "any device includes", "add up"),
        (Rule(0, any_device=True, path="/x", methods=("FETCH",)), InvalidInput, "method 'FETCH'", "methods are"),
        (Rule(0, any_device=True, area="editor-read", methods=("POST",)), InvalidInput, "reading", "area editor"),
        (Rule(0, any_device=True, area="websockets", methods=("POST",)), InvalidInput, "websocket", "leave"),
    ],
)  # fmt: skip
def test_what_a_rule_cannot_be(rule: Rule, error: type[RedlatchError], message: str, hint: str) -> None:
    """Each is named, with what would be right."""
    with pytest.raises(error) as caught:
        checked(rule)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "path", ["/webhook/github", "/a", "/a/", "/caf%C3%A9", "/a%20b", "/flowsx", "/~u/x.y", "/a:b,c=d"]
)
def test_paths_that_rules_may_name(path: str) -> None:
    """Literal ones, below nothing of the editor's."""
    assert checked(Rule(0, anyone=True, path=path)).path == path


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("webhook", "does not begin with a slash", "write /webhook"),
        ("", "does not begin with a slash", "write /"),
        ("https://pi/hook", "whole address", "write its path: /hook"),
        ("/a/../flows", "dots", ""), ("/a/.", "dots", ""), ("/a/%2e%2e/b", "encoded dot", ""),
        ("/a%2fb", "kind of slash", ""), ("/a%5Cb", "kind of slash", ""), ("/%41", "encoded letters", ""),
        ("/%7Ea", "encoded letters", ""), ("//a", "two slashes", ""), ("/a b", "space", ""), ("/a?b", "query", ""),
        ("/a#b", "fragment", ""), ("/café", "encoded", ""), ("/a*", "wildcard", ""), ("/a;b", "character", ""),
        ("/a%", "character", ""), ("/a%00", "character", ""), ("/a\x1b", "character", ""),
        ("/a\n", "character", ""),
        ("/" + "a" * 8192, "8193 characters", ""),
        ("/", "every path", "--area"), ("/flows", "belongs to the editor", "--area editor"),
        ("/Flows/x", "belongs to the editor", "--area editor"), ("/flows/", "belongs to the editor", "--area"),
        ("/dashboard/chart/1/clear", "belongs to the editor", "--area editor"),
    ],
)  # fmt: skip
def test_paths_that_rules_may_not_name(path: str, message: str, hint: str) -> None:
    """What servers read in more than one way, and what is the editor's."""
    with pytest.raises(InvalidInput) as caught:
        checked(Rule(0, anyone=True, path=path))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 300


def test_the_editor_owns_its_own_root() -> None:
    """Where it lives elsewhere, /flows is anybody's; where it is off, nothing is the editor's."""
    assert checked(Rule(0, anyone=True, path="/flows"), "/admin").path == "/flows"
    assert checked(Rule(0, anyone=True, path="/flows"), None).path == "/flows"
    with pytest.raises(InvalidInput, match="belongs to the editor"):
        checked(Rule(0, anyone=True, path="/ADMIN/x"), "/admin")


@pytest.mark.parametrize("area", ["all", "editor", "editor-read"])
@pytest.mark.parametrize("networks", [(), ("world",), ("high", "low"), ("home", "world")])
def test_everybody_from_everywhere_is_refused(area: str, networks: tuple[str, ...]) -> None:
    """Also when two networks together are everywhere, and whatever the methods."""
    rule = Rule(0, anyone=True, networks=networks, area=area)
    for methods in ((), ("GET",), ("DELETE",)):
        with pytest.raises(Conflict) as caught:
            rules.refuse_openness(replace(rule, methods=methods), NETWORKS)
        assert "redlatch down" in caught.value.hint


@pytest.mark.parametrize(
    "rule",
    [
        Rule(0, anyone=True, networks=("home",), area="all"),
        Rule(0, anyone=True, area="dashboards"),
        Rule(0, anyone=True, path="/hook"),
        Rule(0, any_device=True, area="all"),
        Rule(0, any_device=True, area="all", networks=("world",)),
    ],
)
def test_everybody_from_somewhere_is_not(rule: Rule) -> None:
    """One of certificate, address and place is left."""
    rules.refuse_openness(rule, NETWORKS)


@pytest.mark.parametrize(
    ("networks", "seen", "stands"),
    [
        (("cloudflare",), None, True),
        (("home", "edge"), None, True),
        (("home",), None, False),
        (("home",), rules.Seen("192.168.1.20", 500, shared=False), False),
        (("home",), rules.Seen("192.168.1.1", 500, shared=True), True),
        (("docker",), rules.Seen("172.17.0.1", 500, shared=False), True),
        (("localhost",), rules.Seen("127.0.0.1", 40, shared=True), True),
        (("localhost",), None, False),
        (("home",), rules.Seen("172.17.0.1", 500, shared=True), False),
        (("world",), None, False),
        ((), None, False),
        (("gone",), None, False),
    ],
)
def test_networks_that_stand_for_everybody(
    networks: tuple[str, ...], seen: rules.Seen | None, stands: bool
) -> None:
    """Without a certificate, the address of somebody's proxy proves nothing; with one, the certificate does."""
    rule = Rule(0, anyone=True, networks=networks, path="/x")
    assert bool(rules.stands_for_everybody(rule, NETWORKS, seen)) is stands
    assert rules.stands_for_everybody(replace(rule, anyone=False, any_device=True), NETWORKS, seen) == ""


def test_the_first_rule_without_a_certificate_changes_the_handshake() -> None:
    """Not the second one, and not with a port of its own."""
    rule = Rule(0, anyone=True, path="/x")
    device = Rule(1, any_device=True, area="all")
    assert rules.makes_optional(rule, [device], None)
    assert not rules.makes_optional(rule, [device, rule], None)
    assert not rules.makes_optional(rule, [device], 1890)
    assert not rules.makes_optional(device, [], None)


def test_whether_somebody_still_reaches_the_editor() -> None:
    """With all that changing flows needs."""
    assert rules.reaches_editor([Rule(1, roles=("admin",), area="all")])
    assert rules.reaches_editor([Rule(1, roles=("admin",), area="editor", methods=("GET", "POST"))])
    assert not rules.reaches_editor([Rule(1, roles=("admin",), area="editor", methods=("GET",))])
    assert not rules.reaches_editor(
        [Rule(1, roles=("admin",), area="editor-read"), Rule(2, anyone=True, path="/x")]
    )
    assert not rules.reaches_editor([])


def test_the_nearest_word() -> None:
    """In any case; nothing when nothing is near."""
    assert rules.nearest("Bart's fone", ["Bart's phone", "laptop"]) == "Bart's phone"
    assert rules.nearest("bart's PHONE", ["Bart's phone"]) == "Bart's phone"
    assert rules.nearest("zzz", ["Bart's phone"]) == ""
