"""The passphrase of the CA keys as a credential that systemd decrypts for redlatch's units, and for nothing else.

`systemd-creds encrypt` binds it to this machine (its TPM, or a key that only root reads): keys and passphrase
copied from the disk are of no use elsewhere. systemd.exec(5), LoadCredentialEncrypted=; systemd 250 and later.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from redlatch.engines.nodered import dropin
from redlatch.errors import EngineError, FileProblem, NotPermitted
from redlatch.files import Owner, explained, make_dir, sync_dir, write_atomic

NAME = "redlatch-ca"
STORE = Path("/etc/credstore.encrypted")
UNITS = ("redlatch.service", "redlatch-refresh.service")
DROPIN = f"{NAME}.conf"
_TEXT = """\
# Written by `redlatch ca lock --credential`, removed by `redlatch ca unlock`.
[Service]
LoadCredentialEncrypted={name}:{path}
"""


def path(store: Path = STORE) -> Path:
    """The encrypted file."""
    return store / NAME


def is_handed_over(*, etc: Path = dropin.ETC) -> bool:
    """Whether the daily timer's unit is given the passphrase."""
    return all((etc / f"{unit}.d" / DROPIN).is_file() for unit in UNITS)


def handed_over(*, store: Path = STORE, etc: Path = dropin.ETC) -> tuple[Path, ...]:
    """What `put` wrote and is still there, the drop-ins first."""
    return tuple(one for one in _places(store, etc) if os.path.lexists(one))


def _places(store: Path, etc: Path) -> tuple[Path, ...]:
    return (*(etc / f"{unit}.d" / DROPIN for unit in UNITS), path(store))


def check(*, system: bool) -> str:
    """The program that encrypts. NotPermitted without root, FileProblem where there is none."""
    if not system or os.geteuid() != 0:
        raise NotPermitted(
            "only root can hand a passphrase to services", hint="run it with sudo, or leave --credential out"
        )
    program = shutil.which("systemd-creds")
    if program is None:
        raise FileProblem(
            "there is no systemd-creds here (systemd 250 and later have it)",
            hint="leave --credential out, and name a file that holds the passphrase in REDLATCH_PASSPHRASE_FILE",
        )
    return program


def put(
    passphrase: bytes, program: str, *, store: Path = STORE, etc: Path = dropin.ETC, options: tuple[str, ...] = ()
) -> tuple[Path, ...]:
    """Encrypts the passphrase for this machine and has redlatch's units get it; the files that were written.

    It goes through a pipe, never onto a command line or, unencrypted, onto a disk. Errors: EngineError,
    FileProblem.
    """
    done = _run([program, "encrypt", f"--name={NAME}", *options, "-", "-"], passphrase)
    make_dir(store, mode=0o700, owner=_root())
    written = [path(store)]
    write_atomic(path(store), done, mode=0o600, owner=_root())
    for unit in UNITS:
        folder = etc / f"{unit}.d"
        make_dir(folder, mode=0o755, owner=_root())
        text = _TEXT.format(name=NAME, path=path(store)).encode()
        write_atomic(folder / DROPIN, text, mode=0o644, owner=_root())
        written.append(folder / DROPIN)
    dropin.reload_systemd()
    return tuple(written)


def take_away(*, store: Path = STORE, etc: Path = dropin.ETC) -> tuple[Path, ...]:
    """Removes what `put` wrote, the drop-ins first: without its file a unit would not start."""
    gone = []
    for one in _places(store, etc):
        with explained("remove", one), contextlib.suppress(FileNotFoundError):
            one.unlink()
            sync_dir(one.parent)
            gone.append(one)
            if one.name == DROPIN:
                with contextlib.suppress(OSError):
                    one.parent.rmdir()
    if gone:
        dropin.reload_systemd()
    return tuple(gone)


def _run(command: list[str], stdin: bytes) -> bytes:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"systemd-creds failed: {error}") from error
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise EngineError(
            f"systemd-creds did not encrypt the passphrase: {said[-1] if said else done.returncode}",
            hint="nothing was changed; without --credential the keys are locked, and you are asked for it",
        )
    return done.stdout


def _root() -> Owner | None:
    return Owner(0, 0) if os.geteuid() == 0 else None
