"""A real Chromium with a certificate store of its own, as a person's computer has one.

What a person does by clicking, import a .p12 and trust the server's root, is done here with NSS's own tools in the
HOME of this one browser. No check is switched off: names, chains and name constraints count.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final

from playwright.sync_api import BrowserContext, Playwright

PROGRAM: Final = "/usr/bin/chromium"
# Every wait has this bound: a browser whose person would be asked which certificate to use waits for ever.
PATIENCE_MS: Final = 20_000
_ZONES: Final = ("local", "lan", "example")
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _names(address: str) -> str:
    """Names of the LAN without a resolver on the machine; all others fail at once instead of asking outside."""
    rules = [*(f"MAP *.{zone} {address}" for zone in _ZONES), "MAP * ~NOTFOUND", f"EXCLUDE {address}"]
    return "--host-resolver-rules=" + ", ".join([*rules, "EXCLUDE 127.0.0.1"])


class Chromium:
    """Context manager; inside it a Playwright browser context with one page.

    `p12` and `password` are what the person imports, or None for a browser without a certificate; `root` is the
    PEM of the server CA that the person trusts for web sites, or None. All names are those of `address`; `program`
    starts the browser.
    """

    def __init__(
        self,
        playwright: Playwright,
        folder: Path,
        *,
        p12: tuple[bytes, str] | None,
        root: bytes | None,
        address: str = "127.0.0.1",
        program: str | Path = PROGRAM,
    ) -> None:
        self._arguments = [*_FLAGS, _names(address)]
        self._program = program
        self._playwright = playwright
        self._folder = folder
        self._home = folder / "home"
        self._profile = folder / "profile"
        self._database = self._home / ".pki" / "nssdb"
        self._database.mkdir(parents=True)
        self._nss("certutil", "-N", "--empty-password")
        if root is not None:
            self.trust(root)
        if p12 is not None:
            self.install(*p12)
        self._answer_the_certificate_prompt()

    def install(self, p12: bytes, password: str) -> None:
        """Imports a .p12, also while the browser runs; the next choice of a certificate finds it."""
        given, secret = self._folder / "device.p12", self._folder / "password"
        given.write_bytes(p12)
        secret.write_text(password)
        self._nss("pk12util", "-i", str(given), "-w", str(secret))

    def trust(self, root: bytes) -> None:
        """Trusts a certificate (PEM or DER) for web sites, also while the browser runs."""
        given = self._folder / "root.crt"
        given.write_bytes(root)
        self._nss("certutil", "-A", "-n", "server root", "-t", "C,,", "-i", str(given))

    def store(self) -> str:
        """What certutil lists as the store's content."""
        return self._nss("certutil", "-L")

    def __enter__(self) -> BrowserContext:
        self._context = self._playwright.chromium.launch_persistent_context(
            self._profile,
            executable_path=self._program,
            args=self._arguments,
            env={**os.environ, "HOME": str(self._home)},
            timeout=PATIENCE_MS,
        )
        self._context.set_default_timeout(PATIENCE_MS)
        return self._context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()

    def _answer_the_certificate_prompt(self) -> None:
        """ "Use whichever fits" for every site: nobody sits here to answer the prompt."""
        answer = {"*,*": {"setting": {"filters": [{}]}}}
        preferences = self._profile / "Default" / "Preferences"
        preferences.parent.mkdir(parents=True)
        preferences.write_text(
            json.dumps({"profile": {"content_settings": {"exceptions": {"auto_select_certificate": answer}}}})
        )

    def _nss(self, tool: str, *arguments: str) -> str:
        return subprocess.run(
            [tool, "-d", f"sql:{self._database}", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
