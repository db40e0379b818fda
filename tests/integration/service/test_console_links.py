"""Links made in the console: what could become of one is said before it is there; its token is shown once."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
import segno
from tests.support.clients import Response
from tests.support.consoling import Consoling, consoling, heading, text_of

from redlatch.operations import links

TRUST = "somebody in your network who can stand in between could take the link"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoling]:
    with consoling(tmp_path_factory.mktemp("console")) as served:
        yield served


def token_of(answer: Response) -> str:
    found = re.search(r"https://localhost:1882/#([a-z2-7]{26})", answer.body.decode())
    assert found is not None, text_of(answer)
    return found[1]


def count(at: Consoling) -> int:
    return len(links.list_links(at.site))


def test_the_question_comes_before_the_link(at: Consoling) -> None:
    """Without a yes there is none; what was filled in stays."""
    before = count(at)
    answer = at.post("/links/new", {"name": 'Guest "1" <i>', "role": "viewer", "owner": "Zoë", "mark": "q"})
    assert answer.status == 409
    assert TRUST in text_of(answer)
    page = answer.body.decode()
    assert 'value="Guest &#34;1&#34; &lt;i&gt;"' in page
    assert '<option value="viewer" selected>' in page
    assert count(at) == before
    answer = at.post("/links/new", {"name": 'Guest "1" <i>', "role": "viewer", "trust": "1", "mark": "q"})
    assert answer.status == 200
    assert count(at) == before + 1


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"name": "x", "role": "owner", "trust": "1"}, "a link that makes an owner is not safe here"),
        ({"name": "x", "remote": "1", "trust": "1"}, "a link for outside your network needs a certificate"),
        ({"name": "", "trust": "1"}, "name"),
        ({"name": "a\x1b[31m", "trust": "1"}, "control character"),
        ({"name": "x", "role": "king", "trust": "1"}, "there is no role 'king'"),
        ({"name": "x", "valid": "0", "trust": "1"}, "is no number that fits here"),
        ({"name": "x", "days": "999", "trust": "1"}, "a key cannot be good for 999 days"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_made(at: Consoling, form: dict[str, str], says: str) -> None:
    before = count(at)
    answer = at.post("/links/new", form | {"mark": repr(form)})
    assert answer.status in (400, 409)
    assert says in text_of(answer)
    assert count(at) == before


def test_the_token_is_in_one_answer_only(at: Consoling) -> None:
    """Not in an address, not in any later page, not in the store; sent again, the form makes no second link."""
    form = {"name": "Once", "trust": "1", "mark": "once"}
    answer = at.post("/links/new", form)
    token = token_of(answer)
    page = answer.body.decode()
    assert answer.status == 200
    assert "location" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert token not in answer.headers["hx-push-url"]
    assert '<svg class="code"' in page
    assert f"redlatch enroll - --pin {at.context.pin()}" in page
    assert f"--pinnedpubkey {at.context.pin()}" in page
    before = count(at)
    again = at.post("/links/new", form)
    assert (again.status, heading(again)) == (410, "Shown once")
    assert count(at) == before
    number = links.list_links(at.site)[0].id
    for target in ("/links", f"/links/{number}", "/audit", "/"):
        assert token not in at.get(target).body.decode()
    assert "was shown once" in text_of(at.get(f"/links/{number}"))
    for file in at.site.settings.authority.iterdir():
        if file.is_file():
            assert token.encode() not in file.read_bytes()


def test_the_code_is_the_address(at: Consoling) -> None:
    """What a camera reads from the picture is the link."""
    answer = at.post("/links/new", {"name": "Camera", "trust": "1", "mark": "camera"})
    expected = segno.make(f"https://localhost:1882/#{token_of(answer)}", error="m", micro=False)
    rows = [list(row) for row in expected.matrix_iter(border=4)]
    path = re.search(r'<path d="([^"]*)"', answer.body.decode())
    assert path is not None
    dark = {(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path[1])}
    assert dark == {(x, y) for y, row in enumerate(rows) for x, bit in enumerate(row) if bit}


def test_for_a_command_line_only(at: Consoling) -> None:
    """Such a link may make an owner, and has no picture for a browser that would be refused."""
    answer = at.post("/links/new", {"name": "Ops", "role": "owner", "pinned": "1", "mark": "ops"})
    assert answer.status == 200
    assert '<svg class="code"' not in answer.body.decode()
    assert "This link is refused to browsers" in text_of(answer)
    with pytest.raises(links.LinkRefused):
        links.redeem(at.site, token_of(answer), peer="192.168.1.9", by_page=True)
    made = links.redeem(at.site, token_of(answer), peer="192.168.1.9", by_page=False)
    assert made.issued.device.role == "owner"


def test_a_further_key_for_a_device(at: Consoling) -> None:
    """By its name; its role and owner stay, whatever the form says."""
    one = at.key("Twice", "viewer")
    assert "There is a device of that name" in text_of(at.get("/links/new?name=twice"))
    answer = at.post("/links/new", {"name": "TWICE", "role": "user", "trust": "1", "mark": "twice"})
    made = links.redeem(at.site, token_of(answer), peer="192.168.1.9", by_page=True)
    assert (made.issued.device.id, made.issued.device.role) == (one.id, "viewer")


def test_how_far_it_has_got(at: Consoling) -> None:
    """Open, used from where, held by the page, seen in Node-RED: each when it was seen; nothing new is nothing."""
    answer = at.post("/links/new", {"name": "Followed", "trust": "1", "mark": "f"})
    token, number = token_of(answer), links.list_links(at.site)[0].id

    def part(seen: str) -> Response:
        return at.get(f"/links/{number}?seen={seen}", **{"HX-Request": "true", "HX-Target": "link"})

    assert part("open").status == 204
    used = links.redeem(at.site, token, peer="192.168.1.66", by_page=True)
    assert "used from 192.168.1.66" in text_of(part("open"))
    assert part("used").status == 204
    assert "not seen in Node-RED yet" in text_of(part(""))
    links.confirmed(at.site, number)
    assert "● the page holds the key" in text_of(part("used"))
    at.say(device=used.issued.device.id, fp=used.issued.fingerprint[:12], from_="192.168.1.66")
    at.watch.look()
    last = part("confirmed")
    assert "got into Node-RED" in text_of(last)
    assert "hx-trigger" not in last.body.decode()


def test_withdraw(at: Consoling) -> None:
    """Nobody can use it after that; twice is said to be twice."""
    answer = at.post("/links/new", {"name": "Regretted", "trust": "1", "mark": "r"})
    number = links.list_links(at.site)[0].id
    assert at.get(f"/links/{number}/withdraw").status == 200
    assert "the link for Regretted is withdrawn" in at.change(f"/links/{number}/withdraw")
    with pytest.raises(links.LinkRefused):
        links.redeem(at.site, token_of(answer), peer="192.168.1.9", by_page=True)
    assert "done" not in at.change(f"/links/{number}/withdraw").split("Regretted")[-1]
    assert "withdrawn" in text_of(at.get("/links"))
    for wrong in ("999", "x", "-1", "99999999999999999999"):
        assert at.get(f"/links/{wrong}").status == 404


def test_a_link_that_expired(at: Consoling) -> None:
    (made,) = links.invite(at.site, [links.Wanted("Late")], valid=timedelta(seconds=30), trust_lan=True)
    with closing(sqlite3.connect(at.site.settings.database)) as connection:
        connection.execute("UPDATE links SET expires_at = 1 WHERE id = ?", (made.link.id,))
        connection.commit()
    page = text_of(at.get(f"/links/{made.link.id}"))
    assert "○ expired" in page
