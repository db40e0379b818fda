"""Where the files that a device takes away are written; and nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.cli.session import sudo_owner
from redlatch.errors import FileProblem, UsageError
from redlatch.files import explained, write_new
from redlatch.operations.handing import Bundle, pack

if TYPE_CHECKING:
    from redlatch.operations.devices import Issued


@dataclass(slots=True)
class Delivery:
    """Where the files of one device go.

    `write` is handed to the operation, which calls it before it commits; `finish` gives the files their names
    afterwards. Killed in between, a hidden `.NAME.partial` is left, which the next call replaces: no file of a
    device that does not exist stands in anybody's way.
    """

    name: str
    kind: str
    out: Path | None
    issued: Issued | None = None
    bundle: Bundle | None = None
    written: list[Path] = field(default_factory=list)

    def check(self) -> None:
        """Says that a file is there already before anything is made, or anybody asked for a passphrase."""
        names = ("key.pem", "cert.pem", "server-ca.pem") if self.kind == "pem" else (f"{self._slug()}.p12",)
        for name in names:
            path = self._path(name)
            if path.exists() or path.is_symlink():
                raise FileProblem(f"{path} exists already", hint="name another place with --out, or move it away")

    def write(self, issued: Issued) -> None:
        """Makes the files under their hidden names, 0600, for whoever called sudo. Undoes itself when it fails."""
        self.issued, self.bundle = issued, pack(issued, self.kind)
        owner = sudo_owner()
        try:
            path = self.out or Path(self._slug())
            if self.kind == "pem":
                self._make_folder()
            for name, content in self.bundle.files.items():
                path = self._path(name)
                with explained("write", path):
                    _partial(path).unlink(missing_ok=True)
                self.written.append(path)
                write_new(_partial(path), content, mode=0o600, owner=owner)
        except FileProblem as error:
            self.undo()
            named = error.message.replace(str(_partial(path)), str(path))
            raise FileProblem(named, hint=error.hint) from error
        except BaseException:
            self.undo()
            raise

    def finish(self) -> None:
        """Gives the files their names; a file that came there meanwhile is not overwritten."""
        for path in self.written:
            with explained("write", path):
                try:
                    path.hardlink_to(_partial(path))
                except FileExistsError:
                    raise FileProblem(
                        f"{path} exists already", hint=f"the new key is in {_partial(path)}; move one of them away"
                    ) from None
                except OSError:  # a file system without hard links, such as a USB stick's
                    _partial(path).rename(path)
                else:
                    _partial(path).unlink()

    def undo(self) -> None:
        """Removes what was written: its certificate was never recorded, so it opens nothing."""
        for path in self.written:
            with contextlib.suppress(OSError):
                _partial(path).unlink()
        self.written.clear()

    def _path(self, name: str) -> Path:
        if self.kind == "pem":
            return (self.out or Path(self._slug())) / name
        if self.out is not None:
            return self.out / name if self.out.is_dir() else self.out
        return Path(name)

    def _make_folder(self) -> None:
        folder = self.out or Path(self._slug())
        owner = sudo_owner()
        with explained("make the folder", folder):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                if not folder.is_dir():
                    raise FileProblem(f"{folder} is no folder", hint="name a folder with --out") from None
                return
            if owner is not None:
                os.chown(folder, owner.uid, owner.gid, follow_symlinks=False)

    def _slug(self) -> str:
        from redlatch.pki.names import slug

        return slug(self.name)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def chosen_format(kind: str | None, csr: Path | None) -> str:
    """The format: PEM where the device made its own key, .p12 otherwise. UsageError for a .p12 of a CSR."""
    if csr is None:
        return kind or "p12"
    if kind not in (None, "pem"):
        raise UsageError(
            "a .p12 holds the private key, and with --csr the device keeps it", hint="leave --format out"
        )
    return "pem"


def read_csr(path: Path | None) -> bytes | None:
    """A certificate request from a file, at most 64 KB of it; None where there is none."""
    if path is None:
        return None
    with explained("read", path), path.open("rb") as stream:
        return stream.read(65536)
