"""What ends soon is said once for 30, 7 and 1 days before; to a command and a web hook that were chosen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.home import small_site

from redlatch.errors import EngineError, InvalidInput
from redlatch.operations import devices, notices
from redlatch.operations.site import Notify, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = small_site(tmp_path)
    with closing(site.store):
        yield site


def later(site: Site, days: float) -> Site:
    return replace(site, clock=lambda: datetime.now(UTC) + timedelta(days=days))


def test_it_is_said_once_for_each_number_of_days(site: Site) -> None:
    devices.add(site, "Lamp", days=100)
    said = []
    for day in range(69, 102):
        said += [(day, one["days"], one["name"]) for one in notices.send(later(site, day + 0.5))]
    assert said == [(70, 30, "Lamp"), (93, 7, "Lamp"), (99, 1, "Lamp")]


def test_who_renewed_or_is_shut_out_is_not_spoken_of(site: Site) -> None:
    for name in ("Renewed", "Revoked", "Ending"):
        devices.add(site, name, days=10)
    devices.renew(site, "Renewed")
    devices.revoke(site, "Revoked")
    assert [one["name"] for one in notices.due(site)] == ["Ending"]


def test_what_could_not_be_delivered_is_tried_again(site: Site, tmp_path: Path) -> None:
    devices.add(site, "Lamp", days=5)
    program = tmp_path / "tell"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/said; exit $(cat {tmp_path}/code)\n")
    program.chmod(0o755)
    notices.configure(site, command=str(program), webhook=None)
    (tmp_path / "code").write_text("3")
    with pytest.raises(EngineError, match="ended with 3"):
        notices.send(site)
    (tmp_path / "code").write_text("0")
    assert [one["days"] for one in notices.send(site)] == [7]
    assert notices.send(site) == []
    said = json.loads((tmp_path / "said").read_text())
    assert (said["event"], said["certificates"][0]["name"]) == ("certificates-ending", "Lamp")


def test_the_command_gets_neither_arguments_nor_this_environment(site: Site, tmp_path: Path) -> None:
    """A device's name may be anything: it reaches the command as JSON on its input only."""
    devices.add(site, "$(touch x); `id`", days=5)
    program = tmp_path / "tell"
    program.write_text(f'#!/bin/sh\necho "$# $HOME $REDLATCH_HOME" > {tmp_path}/said\n')
    program.chmod(0o755)
    notices.configure(site, command=str(program), webhook=None)
    notices.send(site)
    assert (tmp_path / "said").read_text().split() == ["0"]


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any], dict[str, Any]]]:
    """(URL, what it was told, how it answers) of a web hook on loopback."""
    told: list[Any] = []
    answer: dict[str, Any] = {"status": 204}

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(answer["status"])
            if "location" in answer:
                self.send_header("location", answer["location"])
            self.end_headers()

        def do_GET(self) -> None:
            told.append("followed")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/secret-topic", told, answer
        server.shutdown()
        thread.join()


def test_a_web_hook_is_told(site: Site, hook: tuple[str, list[Any], dict[str, Any]]) -> None:
    url, told, _ = hook
    notices.configure(site, command=None, webhook=url)
    devices.add(site, "Lamp", days=1)
    notices.send(site)
    assert told[0]["certificates"][0]["days"] == 1
    with site.store.read() as view:
        trail = [str(entry.event.data) for entry in view.audit_events()]
    assert not any("secret-topic" in text for text in trail)
    assert any("127.0.0.1" in text for text in trail)


@pytest.mark.parametrize("answer", [{"status": 500}, {"status": 302, "location": "/elsewhere"}])
def test_a_web_hook_that_fails_is_said_without_its_path(
    site: Site, hook: tuple[str, list[Any], dict[str, Any]], answer: dict[str, Any]
) -> None:
    """A redirect counts as a failure: it is not the hook that was chosen."""
    url, told, answers = hook
    answers |= answer
    notices.configure(site, command=None, webhook=url)
    devices.add(site, "Lamp", days=1)
    with pytest.raises(EngineError, match=r"the web hook at 127\.0\.0\.1 failed") as error:
        notices.send(site)
    assert "secret-topic" not in error.value.message
    assert "followed" not in told


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "ftp://example.org",
        "https://",
        "https://example.org:0",
        "https://a b\n",
        "javascript:1",
        "//x",
    ],
)
def test_what_is_no_web_hook_is_refused(site: Site, url: str) -> None:
    with pytest.raises(InvalidInput):
        notices.configure(site, command=None, webhook=url)
    assert site.config().notify == Notify()
    assert notices.is_webhook("https://ntfy.example.org/topic")


@pytest.mark.parametrize("command", ["tell", "/nowhere/tell", "/etc/passwd"])
def test_what_cannot_be_run_is_refused(site: Site, command: str) -> None:
    with pytest.raises(InvalidInput):
        notices.configure(site, command=command, webhook=None)


def test_a_web_hook_that_was_not_judged_opens_nothing(tmp_path: Path) -> None:
    """What a file names is not believed: with file: root would read, or wait for, any path."""
    with pytest.raises(EngineError, match="no https address"):
        notices.deliver(Notify(None, (tmp_path / "x").as_uri()), {})


def test_a_head_for_nobody_is_refused(site: Site) -> None:
    """It would be said to go out each day, and go nowhere."""
    with pytest.raises(InvalidInput, match="nobody to whom"):
        notices.configure(site, command=None, webhook=None, audit_head=True)
    assert not site.config().notify.audit_head
