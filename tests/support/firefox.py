"""A real Firefox with a profile of its own, driven by Marionette, the protocol that is built into it.

Debian has no geckodriver; of the protocol (a TCP connection, JSON behind its length; Firefox's testing/marionette)
a test needs little. What a person does in the certificate manager is done by the same calls as its buttons make.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.wait import until

PROGRAM: Final = "/usr/bin/firefox-esr"
_FLAGS: Final = ("--headless", "--no-remote", "--marionette", "--remote-allow-system-access")
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver, 12.1
_SECONDS: Final = 30
_PREFERENCES: Final[Mapping[str, bool | int | str]] = {
    # Nobody sits here to answer which certificate to use
    "security.default_personal_cert": "Select Automatically",
    "security.enterprise_roots.enabled": False,
    "marionette.port": 0,  # a free one, told in the profile
    # Nothing of its own: no page, no question, no connection
    "browser.startup.page": 0,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.region.network.url": "",
    "captivedetect.canonicalURL": "",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.trr.mode": 5,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.server": "",
    "services.settings.server": "data:,",
    "extensions.update.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "dom.push.connection.enabled": False,
    # Files go where the test looks, without a question
    "browser.download.folderList": 2,
    "browser.download.useDownloadDir": True,
    "browser.download.alwaysOpenPanel": False,
    "browser.download.start_downloads_in_tmp_dir": False,
}
_IMPORT_P12: Final = """
const [path, password] = arguments;
const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
file.initWithPath(path);
return Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).importPKCS12File(file, password);
"""
_TRUST: Final = """
Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(arguments[0], "C,,");
"""

_PROCEED: Final = """
const [host, port, der] = arguments;
const store = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
const certificate = store.constructX509FromBase64(der);
Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService)
  .rememberValidityOverride(host, port, {}, certificate, true);
"""


class WebDriverError(Exception):
    """What Firefox could not do; `kind` is WebDriver's word for it, as "insecure certificate"."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['message'][:500]}")
        self.kind: str = answer["error"]


class Firefox:
    """Context manager: one headless Firefox with one window. `folder` holds profile, home and downloads."""

    def __init__(self, folder: Path) -> None:
        self.profile = folder / "profile"
        self.downloads = folder / "downloads"
        self._home = folder / "home"
        for made in (self.profile, self.downloads, self._home):
            made.mkdir(parents=True)
        preferences = {**_PREFERENCES, "browser.download.dir": str(self.downloads)}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
        (self.profile / "user.js").write_text("\n".join(lines))
        self._log = folder / "firefox.log"
        self._number = 0

    # --- what a person does

    def open(self, url: str) -> None:
        """Loads a page. WebDriverError "insecure certificate" where Firefox warns, others for no answer."""
        self.command("WebDriver:Navigate", url=url)

    def reload(self) -> None:
        self.command("WebDriver:Refresh")

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs the body of a function in the page; what it returns."""
        return self.command("WebDriver:ExecuteScript", script=script, args=list(arguments))["value"]

    def sees(self, selector: str) -> bool:
        """Whether such an element is shown."""
        return bool(self.run("return document.querySelector(arguments[0])?.checkVisibility() ?? false;", selector))

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? '';", selector))

    def click(self, selector: str) -> None:
        """Clicks what is there to click, as a mouse does: what is hidden or covered is not."""
        found = self.command("WebDriver:FindElement", using="css selector", value=selector)["value"]
        self.command("WebDriver:ElementClick", id=found[_ELEMENT])

    def wait(self, selector: str, seconds: float = 20) -> None:
        until(lambda: self.sees(selector), seconds=seconds, what=f"{selector} in {self.address()}")

    def address(self) -> str:
        return str(self.command("WebDriver:GetCurrentURL")["value"])

    def tabs(self) -> list[str]:
        found: list[str] = self.command("WebDriver:GetWindowHandles")
        return found

    def switch(self, tab: str) -> None:
        self.command("WebDriver:SwitchToWindow", handle=tab, focus=True)

    def tab(self) -> str:
        return str(self.command("WebDriver:GetWindowHandle")["value"])

    def downloaded(self, ending: str) -> Path:
        """The file of that ending, once it is complete."""

        def complete() -> Path | None:
            found = [one for one in self.downloads.iterdir() if one.name.endswith(ending) and one.stat().st_size]
            return found[0] if found and not list(self.downloads.glob("*.part")) else None

        return until(complete, seconds=20, what=f"the download of a {ending}")

    def proceed(self, host: str, port: int, certificate: str) -> None:
        """Goes on behind the warning about this server. `certificate`: the one it shows, DER in base64."""
        self._chrome(_PROCEED, host, port, certificate)

    def import_p12(self, path: Path, password: str) -> None:
        """Certificate manager, Your Certificates, Import."""
        assert self._chrome(_IMPORT_P12, str(path), password) == 0

    def trust(self, certificate: str) -> None:
        """Certificate manager, Authorities, Import, for web sites. `certificate`: DER in base64."""
        self._chrome(_TRUST, certificate)

    # --- the process and its protocol

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", PROGRAM, *_FLAGS, "--profile", str(self.profile)],
                env={**os.environ, "HOME": str(self._home), "MOZ_CRASHREPORTER_DISABLE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        told = self.profile / "MarionetteActivePort"

        def port() -> int:
            assert self._process.poll() is None, self._log.read_text(errors="replace")
            return int(told.read_text() or 0) if told.exists() else 0

        try:
            self._socket = socket.create_connection(
                ("127.0.0.1", until(port, seconds=60, what="Firefox")), _SECONDS
            )
            self._stream = self._socket.makefile("rb")
            assert self._receive()["marionetteProtocol"] == 3
            self.command("WebDriver:NewSession", capabilities={"alwaysMatch": {"acceptInsecureCerts": False}})
            self.command("WebDriver:SetTimeouts", pageLoad=20_000, script=20_000, implicit=0)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        """All of its processes; nothing of them is needed any more."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def command(self, name: str, **parameters: Any) -> Any:
        """Sends a command and returns its result."""
        self._number += 1
        message = json.dumps([0, self._number, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, number, error, result = self._receive()
        assert number == self._number
        if error is not None:
            raise WebDriverError(error)
        return result

    def _receive(self) -> Any:
        digits = b""
        while (byte := self._stream.read(1)) != b":":
            if not byte:
                raise EOFError(f"Firefox ended:\n{self._log.read_text(errors='replace')}")
            digits += byte
        return json.loads(self._stream.read(int(digits)))

    def _chrome(self, script: str, *arguments: Any) -> Any:
        """Runs a script as one of Firefox's own windows does."""
        self.command("Marionette:SetContext", value="chrome")
        try:
            return self.run(script, *arguments)
        finally:
            self.command("Marionette:SetContext", value="content")
