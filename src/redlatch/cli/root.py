"""`redlatch`: the table of commands, and what every one of them ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from redlatch import __version__
from redlatch.cli.framework import PATH, LazyGroup
from redlatch.cli.output import Output
from redlatch.errors import RedlatchError, UsageError

COMMANDS = {
    "up": ("redlatch.cli.up:up", "lock a Node-RED: only devices with a key get in"),
    "down": ("redlatch.cli.down:down", "take the lock off again"),
    "status": ("redlatch.cli.status:status", "show whether it is locked, and what needs attention"),
    "check": ("redlatch.cli.check:check", "find what is wrong, what it means and what to do"),
    "gateway": ("redlatch.cli.gateway:gateway", "put HAProxy in front of Node-RED, with the same lock"),
    "device": ("redlatch.cli.device:device", "give devices their keys and take them back"),
    "serve": ("redlatch.cli.serve:serve", "serve the console, and the pages by which devices get keys"),
    "notify": ("redlatch.cli.notify:notify", "who is told what ends soon"),
    "enroll": ("redlatch.cli.enroll:enroll", "get this machine a key of its own, by a link"),
    "rule": ("redlatch.cli.rule:rule", "who may reach what, from where"),
    "rules": ("redlatch.cli.rules:rules", "all rules as one file: export and apply"),
    "trial": ("redlatch.cli.trial:trial", "the change that is taken back by itself unless it is kept"),
    "export": ("redlatch.cli.export:export", "write a configuration for an nginx or Caddy of yours"),
    "map": ("redlatch.cli.map:map_", "show everything that can be reached, and by whom"),
    "explain": ("redlatch.cli.explain:explain", "say what a request would get, and why"),
    "ca": ("redlatch.cli.ca:ca", "the certificate authorities: show, replace, import, lock"),
    "name": ("redlatch.cli.name:name", "host names under which this Node-RED is reached"),
    "role": ("redlatch.cli.role:role", "roles of your own"),
    "network": ("redlatch.cli.network:network", "addresses under a name, for rules"),
    "origin": ("redlatch.cli.origin:origin", "other web origins that may call and embed"),
    "console": ("redlatch.cli.console:console", "where the console and the enrolment pages listen"),
    "where": ("redlatch.cli.where:where", "show every file and folder, and who may read it"),
    "backup": ("redlatch.cli.backup:backup", "write store and CA keys into one encrypted file"),
    "restore": ("redlatch.cli.restore:restore", "make the site of a backup again, here"),
    "audit": ("redlatch.cli.audit:audit", "show who changed what"),
    "log": ("redlatch.cli.log:log", "show who came in and who was refused"),
    "prove": ("redlatch.cli.prove:prove", "knock at the door as a stranger and as a device"),
    "refresh": ("redlatch.cli.refresh:refresh", "renew the server certificates, repair what is published"),
    "completion": ("redlatch.cli.completion:completion", "print the completion script of a shell"),
}

_HELP = """Give each of your devices a key to your Node-RED; nobody else gets in.

\b
Exit codes: 0 done, 1 it failed, 2 the call itself is at fault, 3 `check` found something, 130 interrupted.
"""
_EXAMPLES = (
    "sudo redlatch up",
    'sudo redlatch device send "Bart\'s phone"',
    'sudo redlatch device revoke "Bart\'s phone"',
)


class Interrupted(RedlatchError):
    """Somebody pressed ctrl-c."""

    code = "interrupted"
    exit_code = 130


class Fault(RedlatchError):
    """A mistake in redlatch itself."""

    code = "fault"


@click.group(cls=LazyGroup, lazy=COMMANDS, examples=_EXAMPLES, help=_HELP)
@click.option("--home", type=PATH, metavar="DIR", help="The site's folder (else REDLATCH_HOME).")
@click.version_option(__version__, prog_name="redlatch", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, home: Path | None) -> None:
    ctx.obj = home


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and turns whatever it ends with into words and an exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets it spelled out, not an exception.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    out = Output(as_json="--json" in arguments)
    said: RedlatchError
    try:
        result = cli.main(arguments, prog_name="redlatch", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        said = Interrupted("interrupted")
    except Exception as error:
        if os.environ.get("REDLATCH_DEBUG"):
            raise
        said = _in_words(error)
    else:
        return result if isinstance(result, int) else 0
    out.error(said)
    return said.exit_code


def _in_words(error: Exception) -> RedlatchError:
    """What a person is told about `error`; a traceback is for REDLATCH_DEBUG only."""
    if isinstance(error, RedlatchError):
        return error
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx is not None else "redlatch"
        return UsageError(_lower(error.format_message()), hint=f"see: {path} --help")
    if isinstance(error, click.ClickException):
        return RedlatchError(_lower(error.format_message()))
    if isinstance(error, OSError):
        name = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return RedlatchError(f"{name}{(error.strerror or str(error)).lower()}")
    return Fault(
        f"this is a fault of redlatch's own: {type(error).__name__}: {error}",
        hint="please report it, with what the same command prints with REDLATCH_DEBUG=1 set",
    )


def _lower(message: str) -> str:
    """Click's sentences in the manner of ours: no capital, no full stop."""
    message = " ".join(message.split()).removesuffix(".")
    return message[:1].lower() + message[1:]
