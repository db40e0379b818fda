"""What flows and their pages can do to the console, whose owner's browser opens them: nothing.

Whoever makes flows runs code as Node-RED's user, and serves pages on another port of the console's host to
browsers that hold the owner's certificate.
"""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, Request
from tests.browser.chromium import Chromium
from tests.support.clients import Connection, Refused, request
from tests.support.nodered import free_port
from tests.support.serving import Key, Served, is_open
from tests.support.wait import until

from redlatch.audit import Head
from redlatch.operations import devices, hosts

LISTEN: Final = """
const { port, host, pem } = msg.req.query;
const server = pem ? https.createServer({ key: fs.readFileSync(pem), cert: fs.readFileSync(pem) },
  (req, res) => res.end("a console, believe me")) : net.createServer();
const say = (payload) => { msg.payload = payload; node.send(msg); };
server.on("error", (error) => say(error.code));
server.listen(Number(port), host, () => {
  if (pem) return say(`listening ${server.address().port}`);
  server.close(() => say("listening"));
});
"""
#: A page on Node-RED's port, and a flow that listens elsewhere.
FLOWS: Final[list[dict[str, Any]]] = [
    {"id": "home", "type": "tab", "label": "Home"},
    {"id": "in", "type": "http in", "z": "home", "url": "/page", "method": "get", "wires": [["page"]]},
    {"id": "page", "type": "template", "z": "home", "template": "<!doctype html>", "wires": [["out"]]},
    {"id": "asked", "type": "http in", "z": "home", "url": "/listen", "method": "get", "wires": [["listen"]]},
    {
        "id": "listen", "type": "function", "z": "home", "func": LISTEN, "outputs": 1, "wires": [["out"]],
        "libs": [{"var": name, "module": name} for name in ("net", "https", "fs")],
    },
    {"id": "out", "type": "http response", "z": "home"},
]  # fmt: skip
FORM: Final = "'reason=a+flow+did+it'"
TYPE: Final = "'application/x-www-form-urlencoded'"
#: Each asks the console at `url`, by POST where a page of another origin can.
ATTACKS: Final = {
    "form": """(url) => {
        const form = Object.assign(document.createElement('form'), {method: 'POST', action: url});
        form.append(Object.assign(document.createElement('input'), {name: 'reason', value: 'a flow did it'}));
        document.body.append(form);
        form.submit();
    }""",
    "form-in-frame": """(url) => {
        document.body.append(Object.assign(document.createElement('iframe'), {name: 'hidden'}));
        const form = document.createElement('form');
        Object.assign(form, {method: 'POST', action: url, target: 'hidden'});
        document.body.append(form);
        form.submit();
    }""",
    "fetch": f"""(url) => {{ fetch(url, {{method: 'POST', mode: 'no-cors', credentials: 'include',
        headers: {{'Content-Type': {TYPE}}}, body: {FORM}}}).catch(() => 0); }}""",
    "beacon": f"(url) => {{ navigator.sendBeacon(url, new Blob([{FORM}], {{type: {TYPE}}})); }}",
    "get": "(url) => { fetch(url, {mode: 'no-cors', credentials: 'include'}).catch(() => 0); }",
    "image": "(url) => { new Image().src = url; }",
    "script": "(url) => { document.body.append(Object.assign(document.createElement('script'), {src: url})); }",
    "style": """(url) => {
        document.head.append(Object.assign(document.createElement('link'), {rel: 'stylesheet', href: url}));
    }""",
    "frame": "(url) => { document.body.append(Object.assign(document.createElement('iframe'), {src: url})); }",
    "object": """(url) => {
        document.body.append(Object.assign(document.createElement('object'), {data: url, type: 'text/html'}));
    }""",
}
READ: Final = """(url) => fetch(url, {credentials: 'include'})
    .then((answer) => answer.text()).catch((error) => `refused: ${error.name}`)"""
AS_HTMX: Final = """(url) => fetch(url, {method: 'POST', credentials: 'include', headers: {'HX-Request': 'true'}})
    .then((answer) => `${answer.status}`).catch((error) => `refused: ${error.name}`)"""
WEBSOCKET: Final = """(url) => new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onopen = () => done('open');
    socket.onerror = () => done('refused');
})"""
OPENED: Final = """(url) => {
    const link = Object.assign(document.createElement('a'), {href: url, target: '_blank', rel: 'opener'});
    document.body.append(link);
    link.click();
}"""


@dataclass(frozen=True)
class State:
    """What must stay as it is: the audit trail's head, and who is in use."""

    head: Head
    in_use: int

    @classmethod
    def of(cls, served: Served) -> State:
        with served.site.store.read() as view:
            return cls(view.audit_head(), view.devices_in_use())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), flows=FLOWS) as found:
        yield found


@pytest.fixture(scope="module")
def owner(served: Served) -> Key:
    return served.key("Ann's laptop")


@pytest.fixture
def victim(served: Served) -> str:
    """The address at which the console revokes a device: another one for each test."""
    issued = devices.add(served.site, f"victim {secrets.token_hex(4)}", role="user")
    return f"https://127.0.0.1:{served.console_port}/devices/{issued.device.id}/revoke"


@pytest.fixture(scope="module")
def browser(
    playwright: Playwright, served: Served, owner: Key, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    folder = tmp_path_factory.mktemp("browser")
    with Chromium(playwright, folder, p12=owner.p12, root=served.root_pem) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext, served: Served) -> Iterator[Page]:
    """The flow's page in the owner's browser."""
    page = browser.new_page()
    page.goto(f"https://127.0.0.1:{served.port}/page")
    yield page
    page.close()


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_page_of_a_flow_makes_the_console_do_nothing(
    served: Served, page: Page, victim: str, attack: str
) -> None:
    """The request comes with the owner's certificate; it is refused, and store and audit trail are as before."""
    before = State.of(served)
    ended: list[Request] = []
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda one: ended.append(one) if one.url == victim else None)  # type: ignore[call-overload]
    page.evaluate(ATTACKS[attack], victim)
    until(lambda: page.wait_for_timeout(10) or ended, what="the console's answer")
    for one in ended:
        answer = one.response()
        # What a page embeds, the browser itself holds back when the answer is there
        assert (one.failure or "").startswith("net::ERR_BLOCKED_BY_") or (answer and answer.status == 403)
    assert State.of(served) == before


@pytest.mark.parametrize("path", ["/", "/devices", "/audit", "/static/console.css", "/renew"])
def test_a_page_of_a_flow_reads_nothing(served: Served, page: Page, path: str) -> None:
    """Not even whether this browser would be let in."""
    url = f"https://127.0.0.1:{served.console_port}{path}"
    assert page.evaluate(READ, url) == "refused: TypeError"


def test_a_page_of_a_flow_cannot_pass_for_the_consoles(served: Served, page: Page, victim: str) -> None:
    """Headers of the console's own script cost a question in advance, which is refused; so is a websocket."""
    before = State.of(served)
    assert page.evaluate(AS_HTMX, victim) == "refused: TypeError"
    assert page.evaluate(WEBSOCKET, f"wss://127.0.0.1:{served.console_port}/log") == "refused"
    assert State.of(served) == before


def test_what_it_opens_it_does_not_hold(served: Served, page: Page, victim: str) -> None:
    """A link into the console opens it for the owner, as any link does; the page has no hold on that window."""
    with page.context.expect_page() as opened:
        page.evaluate(OPENED, victim)
    console = opened.value
    console.get_by_role("heading", name="Revoke victim").wait_for()
    assert console.evaluate("window.opener") is None
    console.close()


def test_the_console_itself_may(served: Served, page: Page, victim: str) -> None:
    """The same form in the console's own page does it: the refusals above are not for want of a right request."""
    before = State.of(served)
    page.goto(victim)
    page.get_by_role("button", name="Revoke").click()
    page.locator("#outcome").wait_for()
    assert State.of(served).in_use == before.in_use - 1


# --- as Node-RED's process


def keys_in(folder: Path) -> list[Path]:
    """Files that hold a private key."""
    key = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----$", re.MULTILINE)
    return [path for path in folder.rglob("*") if path.is_file() and key.search(path.read_bytes())]


def test_what_node_red_reads_opens_no_console(served: Served, owner: Key) -> None:
    """With each key that Node-RED is given, and without one, the handshake fails; the owner's is no such key."""
    found = [*keys_in(served.house.settings.published), *keys_in(served.house.user_dir)]
    assert [path.name for path in found] == ["server.pem"]
    for key in (*map(_Pem, found), None):
        with pytest.raises(Refused), Connection(served.console_port, key, tls="1.3") as connection:
            connection.request("GET", "/")
    with Connection(served.console_port, owner, tls="1.3") as connection:
        assert connection.request("GET", "/").status == 200


@dataclass(frozen=True)
class _Pem:
    cert_file: Path


def listens(served: Served, owner: Key, **query: object) -> str:
    """What becomes of a flow that listens."""
    words = "&".join(f"{name}={value}" for name, value in query.items())
    return request(served.port, "GET", f"/listen?{words}", owner).body.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_flow_does_not_get_the_consoles_port(served: Served, owner: Key, host: str) -> None:
    """While the service runs there is no second console on its address, nor on all of them."""
    if ":" in host and not is_open(served.console_port, "::1"):
        pytest.skip("this machine has no IPv6")
    assert listens(served, owner, port=served.console_port, host=host) == "EADDRINUSE"
    assert listens(served, owner, port=free_port(), host=host) == "listening"


def test_a_pin_tells_the_console_from_a_flow(served: Served, owner: Key, tmp_path: Path) -> None:
    """A flow's server with Node-RED's key, under the same root and names: by the pin of the console's key, no."""
    pem = served.house.settings.published / "server.pem"
    told = listens(served, owner, port=0, host="127.0.0.1", pem=pem)
    port = int(told.removeprefix("listening "))
    own = hosts.pin(served.house.settings.service_pem)
    assert own != hosts.pin(pem)

    def curl(port: int, pin: str) -> int:
        line = ["curl", "-sS", "--cacert", str(served.root_file), "--pinnedpubkey", pin, "--max-time", "10"]
        line += ["--cert", str(owner.cert_file), "-o", str(tmp_path / "answer"), f"https://localhost:{port}/"]
        return subprocess.run(line, check=False, capture_output=True, timeout=20).returncode

    assert curl(served.console_port, own) == 0
    assert curl(port, own) == 90  # the key is another one's
    assert curl(port, hosts.pin(pem)) == 0
    with pytest.raises(ssl.SSLCertVerificationError):
        _only_the_console(served).wrap_socket(_connected(port), server_hostname="localhost")


def _only_the_console(served: Served) -> ssl.SSLContext:
    """A client that trusts this one certificate and no root."""
    context = ssl.create_default_context(cafile=served.house.settings.service_pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)
