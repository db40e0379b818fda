"""Encryption of backups in the age format (https://age-encryption.org/v1), by pyrage; loaded when it is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from redlatch.errors import InvalidInput, PassphraseNeeded, RedlatchError
from redlatch.operations.archive import BadBackup

#: A passphrase for a file that holds CA keys is guessed at without anybody noticing.
SHORTEST_PASSPHRASE: Final = 12
_AGE = b"age-encryption.org/v1\n"
_BY_PASSPHRASE = b"-> scrypt "
_ARMOUR = b"-----BEGIN AGE ENCRYPTED FILE-----"


class NoEncryption(RedlatchError):
    """This redlatch cannot encrypt."""

    code = "no-encryption"


def is_sealed(data: bytes) -> bool:
    """Whether these are the first bytes of an age file."""
    return data.startswith((_AGE, _ARMOUR))


def needs_passphrase(data: bytes) -> bool:
    """Whether an age file opens with a passphrase; otherwise with a recipient's secret key."""
    return data.startswith(_AGE + _BY_PASSPHRASE)


def check_passphrase(passphrase: bytes) -> None:
    """InvalidInput for one that is guessed too soon; NoEncryption."""
    _age()
    _text(passphrase)
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise InvalidInput(
            f"the passphrase is too short: a backup holds the CA keys, so take {SHORTEST_PASSPHRASE} characters",
            hint="four or five words that do not belong together are easy to keep",
        )


def with_passphrase(data: bytes, passphrase: bytes) -> bytes:
    """Encrypts under a passphrase (scrypt, about a second's work on this machine). InvalidInput, NoEncryption."""
    check_passphrase(passphrase)
    return bytes(_age().passphrase.encrypt(data, _text(passphrase)))


def for_recipients(data: bytes, recipients: Sequence[str]) -> bytes:
    """Encrypts to the public keys `age1...` and `ssh-...`. InvalidInput, NoEncryption."""
    return bytes(_age().encrypt(data, [_recipient(one) for one in recipients]))


def check_recipients(recipients: Sequence[str]) -> dict[str, int]:
    """How many there are of each kind. InvalidInput for what is no public key that age knows."""
    for one in recipients:
        _recipient(one)
    return dict(Counter(one.split()[0] if one.startswith("ssh-") else "age" for one in recipients))


def opened(data: bytes, *, passphrase: Callable[[], bytes], identity: bytes | None) -> bytes:
    """Decrypts an age file: with the passphrase that `passphrase` asks for, or the secret keys in `identity` (the
    content of an age key file, or of an OpenSSH private key). PassphraseNeeded, InvalidInput, BadBackup.
    """
    age = _age()
    if data.startswith(_ARMOUR):
        raise BadBackup("this age file is in its text form", hint="age --decrypt FILE | redlatch restore -")
    try:
        if needs_passphrase(data):
            return bytes(age.passphrase.decrypt(data, _text(passphrase())))
        if identity is None:
            raise InvalidInput(
                "this backup is encrypted to a key", hint="name the file with the secret key: --identity FILE"
            )
        return bytes(age.decrypt(data, _identities(identity)))
    except age.DecryptError as error:
        raise _in_words(str(error), needs_passphrase(data)) from error


def _in_words(said: str, by_passphrase: bool) -> RedlatchError:
    if "xcessive work" in said:
        return PassphraseNeeded(
            "the passphrase was made hard to guess by a much faster machine: this one would take too long",
            hint="decrypt it there: age --decrypt FILE > backup.tar; then here: redlatch restore - <backup.tar",
        )
    if by_passphrase:
        return PassphraseNeeded(
            "the backup does not open with this passphrase",
            hint="check the passphrase; if it is right, the file is damaged",
        )
    return BadBackup(
        "the backup does not open with this key: it was made for others, or the file is damaged",
        hint="name the secret key of a recipient: --identity FILE",
    )


def _text(passphrase: bytes) -> str:
    try:
        return passphrase.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the passphrase is no UTF-8 text") from None


def _recipient(one: str) -> Any:
    age = _age()
    if "SECRET" in one.upper() or "PRIVATE" in one.upper():
        raise InvalidInput(
            "this is a secret key, and it now stands in the list of processes and in your shell's history",
            hint="make another one; --to takes its public half: age1... or ssh-ed25519 ...",
        )
    try:
        if one.startswith("ssh-"):
            return age.ssh.Recipient.from_str(one)
        return age.x25519.Recipient.from_str(one)
    except (age.RecipientError, ValueError) as error:
        raise InvalidInput(
            f"{one[:24]!r} is no public key that a backup can be encrypted to",
            hint="it is age1... (from age-keygen), or a whole line ssh-ed25519 ... or ssh-rsa ...",
        ) from error


def _identities(content: bytes) -> list[Any]:
    age = _age()
    try:
        if b"-----BEGIN" in content:
            return [age.ssh.Identity.from_buffer(content)]
        lines = [line.strip() for line in content.decode("ascii").splitlines()]
        return [age.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (age.IdentityError, ValueError) as error:
        raise InvalidInput(
            "this file holds no secret key that opens a backup",
            hint="it is the file that age-keygen made, or an OpenSSH private key without a passphrase",
        ) from error


def _age() -> Any:
    try:
        import pyrage  # type: ignore[import-untyped]
    except ImportError:
        raise NoEncryption(
            "backups cannot be encrypted here: the library pyrage is not installed (32-bit ARM has none)",
            hint="install age and let it encrypt: redlatch backup --plain - | age --passphrase >FILE; "
            "and back: age --decrypt FILE | redlatch restore -",
        ) from None
    return pyrage
