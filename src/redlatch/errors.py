"""The exception tree: every error a person or the network can cause has a code, a message and a hint.

The message says what failed and why, in lower case and without a full stop; the hint says what to do next.
CLI, console and API render the same three.
"""

from __future__ import annotations

from typing import ClassVar


class RedlatchError(Exception):
    """Base of everything redlatch raises on purpose.

    `code` is stable (scripts read it from `--json`), `exit_code` is what the command line ends with:
    2 when the call itself is at fault, 1 for everything else.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(RedlatchError):
    """A value that an operator, a device or a file handed in cannot be used."""

    code = "invalid-input"
    exit_code = 2


class UsageError(RedlatchError):
    """The call itself makes no sense: options that exclude each other, a missing argument."""

    code = "usage"
    exit_code = 2


class NotFound(RedlatchError):
    """What was named does not exist."""

    code = "not-found"


class Conflict(RedlatchError):
    """What was asked for contradicts what is there."""

    code = "conflict"


class LockOut(Conflict):
    """The change would lock out whoever makes it, or everybody who could put it right again."""

    code = "lock-out"


class NotSetUp(RedlatchError):
    """There is no site in this home yet."""

    code = "not-set-up"


class Busy(RedlatchError):
    """Another redlatch command is changing this site."""

    code = "busy"


class StoreError(RedlatchError):
    """The store cannot be read or written."""

    code = "store"


class StoreTooNew(StoreError):
    """The store was written by a newer redlatch."""

    code = "store-too-new"


class FileProblem(RedlatchError):
    """A file or folder cannot be read, written or trusted."""

    code = "file"


class NotPermitted(RedlatchError):
    """The present user may not do this."""

    code = "not-permitted"


class PassphraseNeeded(RedlatchError):
    """The CA keys are under a passphrase that is missing or wrong."""

    code = "passphrase"


class NodeRedNotFound(RedlatchError):
    """No Node-RED, or none that redlatch can serve, was found."""

    code = "node-red-not-found"


class NotAdoptable(RedlatchError):
    """A settings.js (or a way of running Node-RED) in which the lock cannot be put safely."""

    code = "not-adoptable"


class EngineError(RedlatchError):
    """The engine could not be told, or did not do, what it should."""

    code = "engine"
