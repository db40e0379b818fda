"""Web origins: the one form in which a browser writes them."""

from __future__ import annotations

import pytest

from redlatch.errors import InvalidInput
from redlatch.operations.origins import canonical, warnings


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://homeassistant.local:8123", "https://homeassistant.local:8123"),
        ("HTTPS://HomeAssistant.LOCAL:443/", "https://homeassistant.local"),
        ("http://homeassistant.local:80", "http://homeassistant.local"),
        ("https://homeassistant.local:80", "https://homeassistant.local:80"),
        (" https://panel.example.org. ", "https://panel.example.org"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example"),
        ("https://192.168.1.7:8123", "https://192.168.1.7:8123"),
        ("https://[2001:DB8:0::7]:8123", "https://[2001:db8::7]:8123"),
    ],
)
def test_an_origin_has_one_form(url: str, origin: str) -> None:
    """Lower case, A-labels, addresses written short, no default port."""
    assert canonical(url) == origin


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is no web origin"),
        ("null", "is no web origin"),
        ("homeassistant.local", "is no web origin"),
        ("ftp://homeassistant.local", "is no web origin"),
        ("https://", "is no web origin"),
        ("https://homeassistant.local/lovelace", "has no path"),
        ("https://homeassistant.local?x", "has no path"),
        ("https://homeassistant.local#x", "has no path"),
        ("https://ada:secret@homeassistant.local", "has a user's name"),
        ("https://*.example.org", "wildcard"),
        ("*", "wildcard"),
        ("https://homeassistant.local:0", "is no port"),
        ("https://homeassistant.local:99999", "is no port"),
        ("https://homeassistant.local:", "names no host"),
        ("https://homeassistant.local:80:80", "names no host"),
        ("https://010.0.0.1", "is no address"),
        ("https://1.2.3", "is no address"),
        ("https://[::1", "names no host"),
        ("https://[1:2]", "is no address"),
        ("https://a b", "is not a host name"),
        ("https://a\\b", "is not a host name"),
        ("https://a\nb", ""),
        ("https://xn--.example", ""),
    ],
)
def test_anything_else_is_refused(url: str, said: str) -> None:
    """With what would be right; a secret in it is not repeated."""
    with pytest.raises(InvalidInput) as caught:
        canonical(url)
    assert said in caught.value.message
    assert caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint


def test_http_is_allowed_with_a_warning() -> None:
    """Whoever is in between can act as that page."""
    assert warnings("https://a.example") == ()
    assert "not encrypted" in warnings("http://a.example")[0]
