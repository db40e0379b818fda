"""The page of a link in a real Chromium, as each kind of device shows it; pictures go to REDLATCH_ARTEFACTS."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from playwright.sync_api import Browser, BrowserContext, Playwright, Request, Route, expect
from tests.browser.chromium import PATIENCE_MS, PROGRAM
from tests.browser.enrolment_kinds import DESK, IPHONE, KINDS, NO_CRYPTO, PHONE, Kind, Opened, content, picture
from tests.support.enrolling import Enrolling, enrolling, file_of

from redlatch.operations import devices, links


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolling]:
    with enrolling(tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture
def problems() -> Iterator[list[str]]:
    """What scripts and the content security policy complained about: nothing."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def opening(chromium: Browser, problems: list[str]) -> Iterator[Any]:
    contexts: list[BrowserContext] = []

    def opened(url: str, kind: Kind | None = None, **more: Any) -> Opened:
        script = more.pop("script", "")
        context = chromium.new_context(
            ignore_https_errors=True,
            **{"viewport": kind.view if kind else DESK} | ({"user_agent": kind.agent} if kind else {}) | more,
        )
        context.set_default_timeout(PATIENCE_MS)
        for each in (kind.script if kind else "", script):
            if each:
                context.add_init_script(each)
        contexts.append(context)
        page = context.new_page()
        posted: list[Request] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda sent: posted.append(sent) if sent.method == "POST" else None)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(url)
        return Opened(page, posted)

    yield opened
    for context in contexts:
        context.close()


# --- each device


@pytest.mark.parametrize("name", KINDS)
def test_one_tap_for_the_device_at_hand(at: Enrolling, opening: Any, name: str) -> None:
    """The page knows what it runs on, its button hands the key over, and the steps are those of that device."""
    kind = KINDS[name]
    opened = opening(at.url(at.invite(f"Ada's {name}")), kind)
    page = opened.page
    expect(page.get_by_role("radio", name=kind.platform, exact=True)).to_be_checked()
    expect(page.get_by_role("button", name=kind.button)).to_be_visible()
    picture(page, name)
    opened.get(kind.button)
    assert opened.steps() == kind.steps
    expect(page.get_by_role("link", name=re.compile(re.escape(kind.ends_with)))).to_be_visible()
    picture(page, f"{name}-key")
    assert page.url == f"https://localhost:{at.port}/"
    next_url = page.get_by_role("link", name="Open Node‑RED").get_attribute("href")
    assert next_url is not None
    assert next_url.startswith("https://localhost:")


def test_apple_gets_a_navigation_to_the_profile(at: Enrolling, opening: Any) -> None:
    """Safari hands Settings what it navigated to: the page fetches it once, from the server, unasked."""
    opened = opening(at.url(at.invite("navigated")), KINDS["iphone"])
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name=re.compile("Get the key")).click()
    assert download.value.suggested_filename == "navigated.mobileconfig"
    assert re.search(r"/profile/[\w-]{22}$", download.value.url)
    assert content(download.value) == opened.save("navigated.mobileconfig")


@pytest.mark.parametrize("name", ["windows", "linux-chrome", "firefox"])
def test_the_key_is_made_in_the_page_and_stays_there(
    at: Enrolling, opening: Any, tmp_path: Path, name: str
) -> None:
    """Only a request leaves: the file opens in OpenSSL and NSS, and no part of its key was in anything posted."""
    opened = opening(at.url(at.invite(f"Own {name}")), KINDS[name])
    opened.get()
    password = opened.page.locator("#password").text_content() or ""
    file = tmp_path / "x.p12"
    file.write_bytes(opened.save(f"own-{name}.p12"))
    made = load_pkcs12(file.read_bytes(), password.encode())
    assert isinstance(made.key, ec.EllipticCurvePrivateKey)
    assert made.cert is not None
    assert x509.load_der_x509_certificate(opened.save("server-ca.crt")) == made.additional_certs[0].certificate
    number = made.key.private_numbers().private_value.to_bytes(32, "big")
    assert opened.posted
    for sent in opened.posted:
        body = sent.post_data_buffer or b""
        csr = base64.b64decode(json.loads(body).get("csr", ""))
        for part in (number[at_ : at_ + 8] for at_ in range(25)):
            assert part not in csr
            assert part not in body
            assert part.hex().encode() not in body
        assert base64.b64encode(number)[:40] not in body
        assert password.encode() not in body
    assert "format" not in json.loads(opened.posted[1].post_data or "{}")
    opens = ["openssl", "pkcs12", "-in", str(file), "-noout", "-passin", f"pass:{password}"]
    assert subprocess.run(opens, capture_output=True, check=False).returncode == 0
    store = ["-d", f"sql:{tmp_path}"]
    subprocess.run(["certutil", *store, "-N", "--empty-password"], check=True)
    subprocess.run(["pk12util", *store, "-i", str(file), "-W", password], check=True, capture_output=True)


def test_without_web_crypto_the_server_makes_the_file(at: Enrolling, opening: Any) -> None:
    """Nothing on the page promises what it cannot do; the file opens."""
    opened = opening(at.url(at.invite("old browser")), KINDS["windows"], script=NO_CRYPTO)
    expect(opened.page.get_by_text("no server ever sees it")).to_be_hidden()
    expect(opened.page.locator("#ways")).not_to_contain_text("in this page")
    opened.get()
    password = opened.page.locator("#password").text_content() or ""
    assert load_pkcs12(opened.save("old-browser.p12"), password.encode()).key is not None


def test_script(at: Enrolling, opening: Any, tmp_path: Path) -> None:
    """The command is shown, works as it stands, and checks the server's key; it is no less single use."""
    token = at.invite("sensor", "thing")
    opened = opening(at.url(token))
    page = opened.page
    page.get_by_role("radio", name="Script, ESP32").check()
    expect(page.get_by_role("button", name=re.compile("Get the key"))).to_be_hidden()
    picture(page, "script")
    command = page.locator("#curl").text_content() or ""
    assert at.context.pin() in command
    wrong = command.replace(at.context.pin(), "sha256//" + "A" * 43 + "=")
    for line, code in ((wrong, 90), (command, 0)):
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert done.returncode == code, done.stderr
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    assert x509.load_pem_x509_certificate((tmp_path / "cert.pem").read_bytes()).public_key() == key.public_key()
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    assert devices.show(at.site, "sensor").device.role == "thing"


def test_files_for_a_microcontroller(at: Enrolling, opening: Any) -> None:
    """PEM and a C header, from a key made in the page; `redlatch_key.h` holds the same key."""
    opened = opening(at.url(at.invite("esp32", "thing")))
    opened.page.get_by_role("radio", name="Script, ESP32").check()
    opened.page.get_by_role("radio", name=re.compile("C header")).check()
    opened.get("Get the key for Script, ESP32")
    picture(opened.page, "script-files")
    key, header = opened.save("key.pem").decode(), opened.save("redlatch_key.h").decode()
    for name in ("client_cert", "client_key", "server_ca"):
        assert f"const char {name}[] PROGMEM =" in header
    for line in key.strip().splitlines():
        assert f'"{line}\\n"' in header
    certificate = x509.load_pem_x509_certificate(opened.save("cert.pem"))
    assert load_pem_private_key(key.encode(), None).public_key() == certificate.public_key()


# --- other ways, and what goes wrong


def test_every_other_way_is_a_key_press_away(at: Enrolling, opening: Any) -> None:
    """By keyboard alone: the platform, the kind of file, the button."""
    opened = opening(at.url(at.invite("keyboard")), KINDS["linux-chrome"])
    page = opened.page
    expect(page.get_by_role("button", name=re.compile("Get the key"))).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Get the key for this computer")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="Linux: Chrome")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name="Android", exact=True)).to_be_checked()
    expect(page.get_by_role("button", name="Get the key for Android")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name=re.compile("RSA"))).to_be_checked()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your key is here")).to_be_focused()


@pytest.mark.parametrize(
    ("agent", "trouble"),
    [
        (IPHONE.replace("Version/18.5", "CriOS/140.0.0.0"), "Open this page in Safari"),
        (IPHONE.partition("Version")[0] + "Mobile/15E148 Instagram 390", "Open this page in Safari"),
        (IPHONE, None),
        ("Mozilla/5.0 (Android 14; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0", "Open this page in Chrome"),
        (KINDS["android"].agent, None),
    ],
)  # fmt: skip
def test_the_wrong_browser_is_told(at: Enrolling, opening: Any, agent: str, trouble: str | None) -> None:
    """Where an installed key would be of no use, the page says which browser to take."""
    opened = opening(at.url(at.invite()), Kind(agent, "", "", "", (), PHONE))
    expect(opened.page.get_by_role("button", name=re.compile("Get the key"))).to_be_visible()
    headings = opened.page.get_by_role("heading", name=re.compile("Open this page in"))
    expect(headings).to_have_count(0 if trouble is None else 1)
    if trouble is not None:
        expect(headings).to_have_text(trouble)
        if "CriOS" in agent:
            picture(opened.page, "iphone-chrome")


@pytest.mark.parametrize(
    ("fragment", "says"),
    [
        ("", "Open the link that you were given"),
        ("#" + "a" * 25, "The link is not complete"),
        ("#" + "1" * 26, "The link is not complete"),
    ],
)  # fmt: skip
def test_a_cut_link_needs_no_server(at: Enrolling, opening: Any, fragment: str, says: str) -> None:
    """What cannot be a link is said at once, and nothing is asked."""
    opened = opening(f"https://localhost:{at.port}/{fragment}", KINDS["iphone"])
    expect(opened.page.get_by_role("alert")).to_contain_text(says)
    assert opened.posted == []
    expect(opened.page.get_by_role("button", name=re.compile("Get the key"))).to_be_hidden()
    if fragment.endswith("a"):
        picture(opened.page, "error-cut")


def test_dead_links_say_so(at: Enrolling, opening: Any) -> None:
    """Unknown, used, withdrawn: each in words and without a button; markup in a name is text."""
    used, gone = at.invite("<img src=x onerror=alert(1)>"), at.invite("gone")
    opened = opening(at.url(used), KINDS["android"])
    expect(opened.page.locator("[data-text=device]").first).to_have_text("<img src=x onerror=alert(1)>")
    assert at.redeem(used).status == 200
    opened.page.get_by_role("button", name=re.compile("Get the key")).click()
    expect(opened.page.get_by_role("alert")).to_contain_text("This link was used already.")
    picture(opened.page, "error-used")
    links.withdraw(at.site, next(one for one in links.list_links(at.site) if one.name == "gone").id)
    for token, says in ((gone, "This link was withdrawn."), ("a" * 26, "This link is not valid.")):
        opened = opening(at.url(token), KINDS["android"])
        expect(opened.page.get_by_role("alert")).to_contain_text(says)
        expect(opened.page.get_by_role("button", name=re.compile("Get the key"))).to_be_hidden()


def test_too_many_wrong_links(at: Enrolling, opening: Any) -> None:
    """429 is said, with a way to try again."""
    opened = opening(at.url("d" * 26), KINDS["android"])
    expect(opened.page.get_by_role("alert")).to_contain_text("This link is not valid.")

    def after_many(route: Route) -> None:
        for _ in range(14):
            at.redeem("c" * 26)
        route.continue_()

    opened.page.route("**/offer", after_many)
    opened.page.reload()
    expect(opened.page.get_by_role("alert")).to_contain_text("Too many wrong links")
    expect(opened.page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_broken_connection_loses_nothing(at: Enrolling, opening: Any) -> None:
    """Broken before the server was reached, the link is still good: "Try again" leads back to the button."""
    opened = opening(at.url(at.invite("broken")), KINDS["windows"])
    page = opened.page
    page.route("**/redeem", lambda route: route.abort())
    page.get_by_role("button", name=re.compile("Get the key")).click()
    expect(page.get_by_role("alert")).to_contain_text("The connection broke.")
    picture(page, "error-broken")
    page.unroute("**/redeem")
    page.get_by_role("button", name="Try again").click()
    opened.get()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_answer_that_got_lost_is_told_apart(at: Enrolling, opening: Any) -> None:
    """Broken after the server had made the key: the page asks, and does not say that somebody else was at it."""
    token = at.invite("lost answer")
    opened = opening(at.url(token), KINDS["windows"])
    page = opened.page

    def redeemed_and_gone(route: Route) -> None:
        assert at.redeem(token).status == 200
        route.abort()

    page.route("**/redeem", redeemed_and_gone)
    page.get_by_role("button", name=re.compile("Get the key")).click()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text("Its key got lost on the way, or somebody else has it.")


def test_offline(at: Enrolling, opening: Any) -> None:
    """Is said as what it is."""
    opened = opening(at.url(at.invite("offline")), KINDS["android"])
    expect(opened.page.get_by_role("button", name=re.compile("Get the key"))).to_be_visible()
    opened.page.context.set_offline(True)
    opened.page.get_by_role("button", name=re.compile("Get the key")).click()
    expect(opened.page.get_by_role("alert")).to_contain_text("This device is offline.")
    opened.page.context.set_offline(False)
    opened.page.get_by_role("button", name="Try again").click()
    opened.get()


def test_the_tick(at: Enrolling, opening: Any) -> None:
    """It comes when Node-RED says that the device came in, also after a reload, as phones do it by themselves."""
    opened = opening(at.url(at.invite("tick")), KINDS["android"])
    opened.get()
    (certificate,) = devices.show(at.site, "tick").certificates
    opened.page.reload()
    expect(opened.page.get_by_role("link", name="Open Node‑RED")).to_be_visible()
    at.let_in(certificate.fingerprint)
    expect(opened.page.get_by_role("status").filter(has_text="tick is in.")).to_be_visible()
    picture(opened.page, "tick")
    (link,) = [one for one in links.list_links(at.site) if one.name == "tick"]
    assert link.confirmed_at is not None


def test_renewal_over_the_present_key(at: Enrolling, opening: Any, tmp_path: Path) -> None:
    """The same page on the console's origin: no link, one click, a further certificate for the same device."""
    first = at.redeem(at.invite("renewed"), "pem")
    for ending in ("cert.pem", "key.pem"):
        (tmp_path / ending).write_bytes(file_of(first, ending))
    origin = f"https://localhost:{at.console_port}"
    mine = {"origin": origin, "certPath": tmp_path / "cert.pem", "keyPath": tmp_path / "key.pem"}
    opened = opening(f"{origin}/renew", KINDS["linux-chrome"], client_certificates=[mine])
    expect(opened.page.get_by_role("heading", name="A new key for this device")).to_be_visible()
    picture(opened.page, "renew")
    opened.get()
    password = opened.page.locator("#password").text_content() or ""
    assert load_pkcs12(opened.save("renewed.p12"), password.encode()).key is not None
    assert len(devices.show(at.site, "renewed").certificates) == 2


# --- looks


def test_untrusted_tls_is_said(at: Enrolling, opening: Any) -> None:
    """The site has a root of its own: the page says what that means."""
    opened = opening(at.url(at.invite()), KINDS["android"])
    expect(opened.page.get_by_text("could take this link")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_small_phone(at: Enrolling, opening: Any, scheme: str) -> None:
    """320 pixels: nothing is cut off before and after, buttons are as large as a thumb needs (44 px)."""
    for name in ("android", "windows"):
        opened = opening(
            at.url(at.invite(f"Ein langer Gerätename {name} {'x' * 20}")),
            KINDS[name],
            viewport={"width": 320, "height": 568},
            color_scheme=scheme,
        )
        page = opened.page
        expect(page.get_by_role("button", name=re.compile("Get the key"))).to_be_visible()
        for step in ("before", "after"):
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            for box in page.evaluate(
                "[...document.querySelectorAll('button, a.file, .chips label')]"
                ".map((one) => one.getBoundingClientRect())"
                ".filter((box) => box.width > 0).map((box) => box.height)"
            ):
                assert box >= 44
            picture(page, f"small-{scheme}-{name}-{step}")
            if step == "before":
                opened.get()


def test_in_dark(at: Enrolling, opening: Any) -> None:
    """A picture of each side."""
    opened = opening(at.url(at.invite("Ada's phone")), KINDS["iphone"], color_scheme="dark")
    expect(opened.page.get_by_role("button", name=re.compile("Get the key"))).to_be_visible()
    picture(opened.page, "iphone-dark")
    opened.get()
    picture(opened.page, "iphone-dark-key")
