"""How long a passphrase takes to try: what an encrypted key file asks for, before anybody does it.

The rounds stand in the file, where whoever made it wrote them: with 2^31 of PBKDF2 a file of 400 bytes takes a
computer half an hour, and OpenSSL bounds scrypt's memory, not its time. RFC 5958 (3), RFC 8018 (A.2, A.3, A.4),
RFC 7914 (7.1).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Final

from redlatch.errors import InvalidInput

#: Rounds of PBKDF2: a second on a computer, some on a Raspberry Pi. Tools write 2,048 to 1,300,000.
MOST_ROUNDS: Final = 2_000_000
#: scrypt's N x r x p x 32: six times what redlatch writes (see keys.SCRYPT_N).
MOST_WORK: Final = 64 * MOST_ROUNDS

_BLOCK: Final = re.compile(
    rb"-----BEGIN ENCRYPTED PRIVATE KEY-----(.*?)-----END ENCRYPTED PRIVATE KEY-----", re.DOTALL
)
_SEQUENCE, _INTEGER = 0x30, 0x02


def check_rounds(pem: bytes) -> None:
    """Returns when each encrypted key (PKCS#8) of a PEM file may be tried. InvalidInput when one asks for too much
    work; ValueError when its beginning cannot be read.
    """
    for match in _BLOCK.finditer(pem):
        kind, whole, _ = _value(b64decode(b"".join(match[1].split()), validate=True))
        algorithm, parameters, _ = _value(whole)
        if (kind, algorithm) != (_SEQUENCE, _SEQUENCE):
            raise ValueError("no encrypted key")
        numbers = [*_integers(parameters)]
        work = 1
        for number in numbers:
            work *= max(number, 1)
        if not numbers or max(numbers) > MOST_ROUNDS or work > MOST_WORK:
            raise InvalidInput(
                "the private key asks for more rounds of its passphrase than anybody waits for",
                hint=f"write it again with fewer, at most {MOST_ROUNDS:,}: openssl pkcs8 -topk8 -iter 600000",
            )


def _integers(data: bytes) -> Iterator[int]:
    """All INTEGERs in DER, however deep: of an algorithm's parameters they are rounds, sizes and lengths."""
    while data:
        tag, content, data = _value(data)
        if tag == _INTEGER:
            yield int.from_bytes(content, "big", signed=True) if len(content) < 16 else 1 << 128
        elif tag == _SEQUENCE:
            yield from _integers(content)


def _value(data: bytes) -> tuple[int, bytes, bytes]:
    """(tag, content, rest) of the first value; ValueError for what is no DER of these simple kinds."""
    if len(data) < 2 or data[0] & 0x1F == 0x1F:
        raise ValueError("no DER")
    length, begin = data[1], 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or len(data) < 2 + size:
            raise ValueError("no DER")
        length, begin = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if len(data) < begin + length:
        raise ValueError("no DER")
    return data[0], data[begin : begin + length], data[begin + length :]
