"""`redlatch backup`: everything that cannot be made anew, in one encrypted file."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.framework import PATH, command
from redlatch.cli.output import minute
from redlatch.cli.session import Session, sudo_owner
from redlatch.errors import FileProblem, UsageError

if TYPE_CHECKING:
    from redlatch.operations.backup import Proved

_STDIO = Path("-")


@command(
    "backup",
    "sudo redlatch backup /media/stick/redlatch.backup",
    "sudo redlatch backup redlatch-$(date +%F).backup --to age1...",
    'sudo redlatch backup - --to "$(cat backup-key.pub)" | ssh nas "cat >redlatch.backup"',
    "redlatch backup --verify redlatch.backup",
)
@click.argument("file", type=PATH)
@click.option(
    "--to", "recipients", multiple=True, metavar="KEY", help="Encrypt to this public key; repeat for more."
)
@click.option("--plain", is_flag=True, help="Do not encrypt: to another program only (FILE is -).")
@click.option("--verify", is_flag=True, help="Open FILE and prove that it is whole; changes nothing.")
@click.option(
    "--identity", type=PATH, metavar="SECRET", help="With --verify: the file with a recipient's secret key."
)
def backup(
    session: Session, file: Path, recipients: tuple[str, ...], plain: bool, verify: bool, identity: Path | None
) -> None:
    """Write the store and the CA keys into FILE (- for stdout), encrypted in the age format.

    Under a passphrase, typed twice; or to public keys (age1..., ssh-ed25519 ..., ssh-rsa ...), which lets it run
    unattended. Redlatch may be at work meanwhile. FILE is 0600, and never overwritten.
    """
    gc.enable()
    if verify:
        if recipients or plain:
            raise UsageError("--verify goes with --identity only", hint="redlatch backup --verify FILE")
        _verify(session, file, identity)
        return
    if identity is not None:
        raise UsageError("--identity goes with --verify", hint="see: redlatch backup --help")
    if plain and recipients:
        raise UsageError("--plain and --to exclude each other", hint="see: redlatch backup --help")
    if plain:
        _check_plain(session, file)
    _make(session, file, recipients, plain=plain)


def _make(session: Session, file: Path, recipients: tuple[str, ...], *, plain: bool) -> None:
    from redlatch.operations import backup as backups
    from redlatch.operations import sealing

    writing = _Writing(file)
    writing.check()
    passphrase = b""
    if plain:
        how: dict[str, Any] = {"encryption": "none"}
    elif recipients:
        how = {"encryption": "recipients", "recipients": sealing.check_recipients(recipients)}
    else:
        how = {"encryption": "passphrase"}
    site = session.site()
    if not plain and not recipients:
        sealing.check_passphrase(passphrase := session.backup_passphrase(new=True))

    def seal(data: bytes) -> bytes:
        if plain:
            return data
        return (
            sealing.for_recipients(data, recipients) if recipients else sealing.with_passphrase(data, passphrase)
        )

    with writing:
        made = backups.make(site, seal=seal, how=how, deliver=writing.write)
        writing.finish()
    said = made.manifest
    if file == _STDIO:
        return  # what stands on stdout is the backup
    session.out.document(
        {
            "file": str(file),
            "sha256": made.sha256,
            "site": said.site,
            "at": said.at,
            "head": {"seq": said.head.seq, "hash": said.head.hash.hex()},
            "encryption": how["encryption"],
        }
    )
    session.out.line(f"the backup is in {file}", style="good")
    session.out.line(f"it holds the site up to event {said.head.seq}, and the keys of its CAs")
    session.out.line("Take it to another machine. Whoever opens it can make keys for your Node-RED.")


def _verify(session: Session, file: Path, identity: Path | None) -> None:
    proved = open_backup(session, file, identity)
    try:
        session.out.document({"ok": True, **described(proved)})
        show(session, proved)
        session.out.line("the backup is whole: a site can be made of it", style="good")
    finally:
        proved.close()


def open_backup(session: Session, file: Path, identity: Path | None) -> Proved:
    """Reads, decrypts and proves a backup: age, or the plain tar inside. FileProblem, BadBackup and the rest."""
    from redlatch.files import read_plain
    from redlatch.operations import archive, backup, sealing

    most = archive.MOST_BYTES + (1 << 24)
    if file == _STDIO:
        data = sys.stdin.buffer.read(most + 1)
        if len(data) > most:
            raise archive.BadBackup("this is larger than any backup")
    else:
        data = read_plain(file, max_bytes=most)
    secret = read_plain(identity, max_bytes=1 << 16) if identity is not None else None
    if sealing.is_sealed(data):
        data = sealing.opened(data, passphrase=lambda: session.backup_passphrase(new=False), identity=secret)
    return backup.read(data, file)


def described(proved: Proved) -> dict[str, Any]:
    """A proved backup as JSON."""
    said = proved.manifest
    return {
        "site": said.site,
        "machine": said.machine,
        "at": said.at,
        "redlatch": said.redlatch,
        "schema": said.schema,
        "events": proved.events,
        "head": {"seq": said.head.seq, "hash": said.head.hash.hex()},
        "devices": proved.devices,
        "authorities": [{"kind": kind, "fingerprint": fingerprint} for kind, fingerprint in proved.authorities],
        "keys_not_opened": list(proved.locked),
    }


def show(session: Session, proved: Proved) -> None:
    """A proved backup for a person."""
    said = proved.manifest
    session.out.fields(
        [
            ("made", f"{minute(said.at)} on {said.machine}, by redlatch {said.redlatch}"),
            ("site", said.site),
            ("devices", f"{proved.devices} in use"),
            ("audit trail", f"{proved.events} events, unbroken"),
            *((f"{kind} CA", fingerprint) for kind, fingerprint in proved.authorities),
        ]
    )
    if proved.locked:
        session.out.line(
            "the CA keys are under a passphrase of their own; whether they open with it was not tried"
        )


def _check_plain(session: Session, file: Path) -> None:
    """Unencrypted CA keys go to another program: not to a screen, and into no file that others may read."""
    if file != _STDIO or session.out.as_json:
        raise UsageError(
            "--plain writes to another program only",
            hint="redlatch backup --plain - | age --passphrase >FILE",
        )
    mode = os.fstat(sys.stdout.fileno()).st_mode
    if sys.stdout.isatty() or (stat.S_ISREG(mode) and mode & 0o077):
        raise UsageError(
            "the CA keys would stand on the screen, or in a file that others may read",
            hint="redlatch backup --plain - | age --passphrase >FILE",
        )


class _Writing:
    """FILE, made under a hidden name in its folder; `finish` gives it its own, and overwrites nothing. What is
    left of one that was killed is replaced by the next.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._partial = file.with_name(f".{file.name}.partial")

    def check(self) -> None:
        """Before anybody is asked for a passphrase."""
        if self._file == _STDIO:
            if sys.stdout.isatty():
                raise UsageError("a backup is no text", hint="name a file, or send it to another program")
            return
        if os.path.lexists(self._file):
            raise FileProblem(f"{self._file} exists already", hint="name another file, or move that one away")

    def write(self, data: bytes) -> None:
        from redlatch.files import explained, sync_dir, write_new

        if self._file == _STDIO:
            with explained("write", Path("stdout")):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            return
        with explained("write", self._file):
            self._partial.unlink(missing_ok=True)
        try:
            write_new(self._partial, data, mode=0o600, owner=sudo_owner())
        except FileProblem as error:
            raise FileProblem(
                error.message.replace(str(self._partial), str(self._file)), hint=error.hint
            ) from error
        with explained("write", self._file):
            sync_dir(self._file.absolute().parent)

    def finish(self) -> None:
        from redlatch.files import explained, sync_dir

        if self._file == _STDIO:
            return
        with explained("write", self._file):
            try:
                self._file.hardlink_to(self._partial)
            except FileExistsError:
                raise FileProblem(f"{self._file} exists already", hint="name another file") from None
            except OSError:  # a file system without hard links, such as a USB stick's
                if os.path.lexists(self._file):
                    raise FileProblem(f"{self._file} exists already", hint="name another file") from None
                self._partial.rename(self._file)
            sync_dir(self._file.absolute().parent)

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        if self._file != _STDIO:
            with contextlib.suppress(OSError):
                self._partial.unlink(missing_ok=True)
