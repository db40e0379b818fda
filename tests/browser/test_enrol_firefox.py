"""Firefox, which has a certificate store of its own: invited, enrolled by the page, in the editor; and refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.browser.house import FLOWS
from tests.support.clients import request
from tests.support.firefox import Firefox, WebDriverError
from tests.support.serving import Key, Served
from tests.support.wait import until

from redlatch.pki.certificates import load_certificates

NAME = "Carla's Firefox"
DEBUG_MESSAGES = "return document.querySelector('.red-ui-debug-content')?.innerText ?? '';"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), flows=FLOWS) as found:
        yield found


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Firefox]:
    with Firefox(tmp_path) as browser:
        yield browser


def proceed(firefox: Firefox, served: Served, url: str) -> None:
    """Opens an address whose server the browser does not know, as a person who goes on does."""
    with pytest.raises(WebDriverError) as warned:
        firefox.open(url)
    assert warned.value.kind == "insecure certificate"
    (leaf, *_) = load_certificates(served.house.settings.service_pem.read_bytes())
    shown = base64.b64encode(leaf.public_bytes(Encoding.DER)).decode()
    firefox.proceed("127.0.0.1", served.enrolment_port, shown)
    firefox.reload()


def hears(firefox: Firefox, served: Served, owner: Key) -> bool:
    """Somebody asks a flow until the editor's debug sidebar hears of it, which takes a working /comms."""
    for _ in range(10):
        assert request(served.port, "POST", "/light/by-ann", owner, body=b"").status == 200
        with suppress(AssertionError):
            return until(lambda: "by-ann" in firefox.run(DEBUG_MESSAGES), seconds=1)
    return False


def test_enrolled_by_the_page_it_gets_in(served: Served, firefox: Firefox) -> None:
    """The key is made in the page; its file, imported, opens the editor, and the page shows its tick."""
    owner = served.key("Ann's laptop")
    link = served.invite(NAME)
    served.enrolment_is("open")
    proceed(firefox, served, link.url)
    firefox.wait("#get")
    assert firefox.text("#get") == "Get the key for this Firefox"
    assert firefox.run("return document.querySelector('input[name=way]:checked').value;") == "page"
    firefox.click("#get")
    firefox.wait("#password")
    firefox.click("a[download$='.p12']")
    firefox.click("a[download$='.crt']")
    firefox.import_p12(firefox.downloaded(".p12"), firefox.text("#password"))
    firefox.trust(base64.b64encode(firefox.downloaded(".crt").read_bytes()).decode())

    page = firefox.tab()
    firefox.click("a[data-next]")
    firefox.switch(until(lambda: [one for one in firefox.tabs() if one != page], what="the editor's tab")[0])
    firefox.wait("#red-ui-header-button-deploy")
    until(lambda: firefox.run("return !!(RED.nodes.workspace('home') && RED.workspaces.active());"), what="flows")
    assert firefox.run("return RED.settings.user.permissions;") == "read"
    assert hears(firefox, served, owner)
    until(lambda: served.websockets(NAME), what="Node-RED's word of the websocket")
    firefox.switch(page)
    firefox.wait("#tick .tick")
    assert firefox.text("#tick").endswith(f"{NAME} is in.")


def test_without_a_key_it_gets_nothing(served: Served, firefox: Firefox) -> None:
    """A Firefox that knows the server and holds no key is refused at the handshake; one of the list is not."""
    (root,) = load_certificates(served.root_pem)
    firefox.trust(base64.b64encode(root.public_bytes(Encoding.DER)).decode())
    url = f"https://127.0.0.1:{served.port}/settings"
    with pytest.raises(WebDriverError) as refused:
        firefox.open(url)
    assert refused.value.kind != "insecure certificate"
    key = served.key("Dora's Firefox", "viewer")
    path = firefox.profile / "dora.p12"
    path.write_bytes(key.p12[0])
    firefox.import_p12(path, key.p12[1])
    firefox.open(url)
    assert "httpNodeRoot" in firefox.run("return document.documentElement.innerText;")
