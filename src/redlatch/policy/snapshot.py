"""The snapshot as a file: one line of JSON, one line with its SHA-256, so that a torn one is never believed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, Final

from redlatch.errors import InvalidInput
from redlatch.policy.model import Entry, Snapshot

FORMAT: Final = 1


def encode(snapshot: Snapshot) -> bytes:
    """The file's bytes: compact JSON, newline, lower-case hex SHA-256 of the JSON, newline.

    Cost: linear in the number of certificates, about 200 bytes each.
    """
    body = {
        "format": FORMAT,
        "site": snapshot.site,
        "version": snapshot.version,
        "time": snapshot.time,
        "mode": snapshot.mode,
        "port": snapshot.port,
        "keep_auth": snapshot.keep_auth,
        "names": list(snapshot.names),
        "origins": list(snapshot.origins),
        "admin_root": snapshot.admin_root,
        "dashboards": list(snapshot.dashboards),
        "spool": snapshot.spool,
        "devices": {fingerprint: asdict(entry) for fingerprint, entry in snapshot.devices.items()},
    }
    line = json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode()
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def digest(data: bytes) -> str:
    """The digest that `data` (a snapshot file) states; the guard reports the same in its claim."""
    return data.rstrip(b"\n").rpartition(b"\n")[2].decode("ascii", "replace")


def decode(data: bytes) -> Snapshot:
    """Reads what `encode` wrote; InvalidInput for anything else."""
    line, _, rest = data.partition(b"\n")
    if rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
        raise InvalidInput("the snapshot is torn or garbled: its digest does not match")
    try:
        body: dict[str, Any] = json.loads(line)
        if body.pop("format") != FORMAT:
            raise InvalidInput("the snapshot has a format that this redlatch does not know")
        devices = {fingerprint: Entry(**entry) for fingerprint, entry in body.pop("devices").items()}
        lists: dict[str, Any] = {key: tuple(body.pop(key)) for key in ("names", "origins", "dashboards")}
        return Snapshot(**body, **lists, devices=devices)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput("the snapshot is not in the form that redlatch writes") from error
