"""What every command is handed: where things are, how to print, how to ask."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.cli.output import Output, safe
from redlatch.errors import FileProblem, InvalidInput, PassphraseNeeded, RedlatchError, UsageError
from redlatch.files import Owner
from redlatch.settings import Settings, from_environment

if TYPE_CHECKING:
    from redlatch.operations.site import Site

PASSPHRASE_FILE = "REDLATCH_PASSPHRASE_FILE"  # noqa: S105 - the variable that names the file
BACKUP_PASSPHRASE_FILE = "REDLATCH_BACKUP_PASSPHRASE_FILE"  # noqa: S105 - likewise
#: As operations.credentials.NAME, without loading that for every command.
CREDENTIAL = "redlatch-ca"
_MAX_PASSPHRASE = 1024


class Declined(RedlatchError):
    """The person said no."""

    code = "declined"


class Session:
    """One call of one command."""

    def __init__(self, home: Path | None, *, as_json: bool) -> None:
        self.out = Output(as_json=as_json)
        self._home = home
        self._passphrase: bytes | None = None

    @cached_property
    def settings(self) -> Settings:
        return from_environment(self._home, os.environ)

    @property
    def interactive(self) -> bool:
        """Whether somebody sits there who can answer and who reads."""
        return not self.out.as_json and sys.stdin.isatty() and sys.stderr.isatty()

    @cached_property
    def actor(self) -> str:
        """Who the audit trail names: the person behind sudo, where there is one."""
        sudo = sudo_owner()
        uid = os.getuid() if sudo is None else sudo.uid
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"

    def site(self) -> Site:
        """The site in this home, opened. Errors: NotSetUp, NotPermitted, StoreError."""
        from redlatch import bootstrap

        site = bootstrap.open_site(self.settings, actor=self.actor, passphrase=self.passphrase)
        if site.store.kept is not None and not self.out.as_json:
            print(
                f"the store was brought to this redlatch's form; as it was before: {safe(str(site.store.kept))}",
                file=sys.stderr,
            )
        return site

    def confirm(self, question: str, *, yes: bool) -> None:
        """Returns when the answer is yes; Declined when it is no, UsageError where nobody can be asked."""
        if yes:
            return
        if not self.interactive:
            raise UsageError(
                "this needs an answer, and nobody can be asked here", hint="add --yes to go on unasked"
            )
        import click

        if not click.confirm(safe(question), default=False, err=True):
            raise Declined("nothing was changed")

    def passphrase(self) -> bytes:
        """The passphrase of the CA keys: REDLATCH_PASSPHRASE_FILE's, else systemd's, else asked for, once."""
        if self._passphrase is None:
            found = passphrase_from_file() or passphrase_from_systemd()
            self._passphrase = found or self._ask("Passphrase of the CA keys")
        return self._passphrase

    def other_passphrase(self, source: Path | None) -> bytes:
        """A passphrase that keys are to be under from now on: the first line of a file, else typed twice."""
        if source is not None:
            return _first_line(source, "--new-passphrase names a file")
        found = self._ask("The new passphrase of the CA keys", "name a file that holds it with --new-passphrase")
        if self._ask("The same passphrase again") != found:
            raise InvalidInput("the two passphrases differ", hint="run the command again")
        return found

    def password_of(self, file: Path, source: Path | None) -> bytes:
        """The password of a file that is read in: the first line of `source`, else asked for."""
        if source is not None:
            return _first_line(source, "--password names a file")
        return self._ask(
            f"Password of {safe(str(file))}",
            "run it on a terminal, or name a file that holds it with --password",
            "it is under a password of its own, and nobody can be asked for that here",
        )

    def new_passphrase(self) -> bytes:
        """A passphrase for CA keys about to be made: typed twice."""
        if self._passphrase is None:
            found = passphrase_from_file()
            if found is None:
                way_out = (
                    f"name a file that holds it in {PASSPHRASE_FILE}, or say --no-passphrase to leave the CA keys "
                    "unencrypted"
                )
                found = self._ask("A passphrase for the CA keys (you need it to add devices)", way_out)
                if self._ask("The same passphrase again", way_out) != found:
                    raise InvalidInput("the two passphrases differ", hint="run the command again")
            self._passphrase = found
        return self._passphrase

    def backup_passphrase(self, *, new: bool) -> bytes:
        """The passphrase of a backup, another one than the CA keys': from REDLATCH_BACKUP_PASSPHRASE_FILE, else
        asked for; a new one twice.
        """
        found = passphrase_from_file(BACKUP_PASSPHRASE_FILE)
        if found is not None:
            return found
        way_out = f"name a file that holds it in {BACKUP_PASSPHRASE_FILE}" + (
            ", or encrypt to a public key: --to age1..." if new else ""
        )
        what = "the backup needs a passphrase, and nobody can be asked for it here"
        if not new:
            return self._ask("Passphrase of the backup", way_out, what)
        typed = self._ask("A passphrase for the backup (without it, the backup is worth nothing)", way_out, what)
        if self._ask("The same passphrase again", way_out, what) != typed:
            raise InvalidInput("the two passphrases differ", hint="run the command again")
        return typed

    def _ask(self, question: str, way_out: str = "", what: str = "") -> bytes:
        if not self.interactive:
            raise PassphraseNeeded(
                what or "the CA keys need a passphrase, and nobody can be asked for it here",
                hint=way_out or f"run it on a terminal, or name a file that holds it in {PASSPHRASE_FILE}",
            )
        import click

        answer: str = click.prompt(question, hide_input=True, err=True)
        return answer.encode()


def passphrase_from_file(variable: str = PASSPHRASE_FILE) -> bytes | None:
    """The first line of the file that the environment `variable` names; None when it names none.

    Refuses a file that others may read: a passphrase everybody can read protects nothing.
    """
    name = os.environ.get(variable)
    return _first_line(Path(name), f"{variable} names a file") if name else None


def passphrase_from_systemd() -> bytes | None:
    """What systemd decrypted for this unit (LoadCredentialEncrypted=, see operations.credentials); None elsewhere.

    Its modes are systemd's business: the folder is the unit's own, in memory, and closed to everybody else.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / CREDENTIAL
    try:
        path.stat()
    except FileNotFoundError:  # credentials of other things
        return None
    except OSError:
        pass  # told below
    return _first_line(path, "systemd gives it to the unit, in a file", own=False)


def _first_line(path: Path, hint: str, *, own: bool = True) -> bytes:
    """The first line of a file with a secret in it; `own`: which nobody else may read. FileProblem."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise FileProblem(f"{path} is not a plain file", hint=hint)
            if own and state.st_mode & 0o077:
                raise FileProblem(
                    f"{path} may be read or written by others (mode {stat.S_IMODE(state.st_mode):04o})",
                    hint=f"chmod 600 {path}",
                )
            line = stream.readline(_MAX_PASSPHRASE + 2).rstrip(b"\r\n")
    except OSError as error:
        raise FileProblem(
            f"the passphrase cannot be read from {path}: {(error.strerror or str(error)).lower()}",
            hint=f"{hint} that holds the passphrase in its first line",
        ) from error
    if not line or len(line) > _MAX_PASSPHRASE:
        raise FileProblem(f"{path} holds no usable passphrase", hint="it is the first line of the file")
    return line


def sudo_owner() -> Owner | None:
    """Who called sudo, when this process is root because of it: what is handed out shall be theirs."""
    if os.geteuid() != 0:
        return None
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if not (uid.isascii() and uid.isdigit() and gid.isascii() and gid.isdigit()):
        return None
    return Owner(int(uid), int(gid))
