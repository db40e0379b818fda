"""How Node-RED keeps what nodes are told in secret (passwords, tokens): encrypted or not, and the key where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redlatch.engines.nodered.flows import flow_files
from redlatch.engines.nodered.locate import NodeRed
from redlatch.engines.nodered.users import call_as, read_regular

_MAX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """`file` is the one they are kept in, None where there is none; `plain`: anybody who reads it knows them.
    `key_beside`: Node-RED made the key itself and keeps it in the same folder. Never holds a secret.
    """

    file: str | None
    plain: bool
    key_beside: bool


def look(nodered: NodeRed, *, user_dir: str | None, flow_file: str | None) -> Credentials:
    """Looked at with the user's rights. `user_dir` and `flow_file` as settings.js says them. RedlatchError."""
    base = user_dir if user_dir and not nodered.argv else str(nodered.user_dir)
    arguments = [argument for argument in nodered.argv if argument.endswith(".json")]
    file, plain, beside = call_as(nodered.user, _look, base, flow_file, arguments[-1:])
    return Credentials(file, plain, beside)


def _look(user_dir: str, flow_file: str | None, arguments: list[str]) -> tuple[str | None, bool, bool]:
    """Runs as the user; hands back no more than what is wrong."""
    # .config.json before Node-RED 1.0, .config.runtime.json since
    beside = any(
        bool(_object(Path(user_dir) / name).get("_credentialSecret"))
        for name in (".config.runtime.json", ".config.json")
    )
    for flows in flow_files(user_dir, flow_file, arguments):
        file = flows.with_name(f"{flows.stem}_cred.json")  # as localfilesystem/projects of 4.1 and 5.0 names it
        if not file.is_file():
            continue
        kept = _object(file)
        return str(file), bool(kept) and set(kept) != {"$"}, beside
    return None, False, beside


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
