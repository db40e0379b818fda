"""node and red.js: which binary and which Node-RED a user has, without running anything.

Looked for where people have them: nvm, volta, n and npm's usual prefixes in the home, npm's global folder, and the
place a `node-red` in PATH links to (also through a small shell script, as an installer may write one).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from redlatch.engines.nodered.users import SYSTEM_PATH, User, read_regular


def red_js(script: Path, cwd: Path | None = None) -> Path | None:
    """The red.js behind a script called node-red, node-red-pi or red.js; None when it is none of Node-RED's."""
    try:
        real = Path(os.path.realpath((cwd or Path("/")) / script))
    except (OSError, ValueError):
        return None
    for candidate in (real, real.parent.parent / "red.js", *_in_script(real, r"/[^\s'\";]+/red\.js")):
        if candidate.name == "red.js" and _package(candidate.parent):
            return candidate
    return None


def version_of(program: Path | None) -> str | None:
    """Node-RED's version by its package.json."""
    version = _package(program.parent).get("version") if program else None
    return version if isinstance(version, str) and re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", version) else None


def _package(folder: Path) -> dict[str, object]:
    try:
        package = json.loads(read_regular(folder / "package.json", 1 << 20))
    except (OSError, ValueError, RecursionError):
        return {}
    return package if isinstance(package, dict) and package.get("name") == "node-red" else {}


def _in_script(path: Path, pattern: str) -> list[Path]:
    """Absolute paths that a small shell script names."""
    try:
        if not path.is_file() or path.stat().st_size > 65536:
            return []
        text = read_regular(path, 65536).decode("utf-8", "replace")
    except OSError:
        return []
    return [Path(match) for match in re.findall(pattern, text)] if text.startswith("#!/") else []


def _bin_dirs(user: User, environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    """Folders with programs: the PATH given, version managers of the home (newest first), the system's."""
    for part in environ.get("PATH", "").split(":"):
        if part.startswith("/"):
            yield Path(part)
    home = user.home
    for manager in (
        ".nvm/versions/node/*/bin",
        ".local/share/fnm/node-versions/*/installation/bin",
        ".asdf/installs/nodejs/*/bin",
    ):
        try:
            yield from sorted(home.glob(manager), key=_version_key, reverse=True)
        except OSError:
            continue
    for part in (
        ".volta/bin",
        "n/bin",
        ".npm-global/bin",
        ".npm-packages/bin",
        ".local/bin",
        ".node-red/node_modules/.bin",
    ):
        yield home / part
    for part in SYSTEM_PATH.split(":"):
        yield root / part.lstrip("/")


def _version_key(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", "/".join(path.parts[-3:])))


def find_program(
    node: Sequence[str], user: User, environ: Mapping[str, str], root: Path = Path("/")
) -> Path | None:
    """The red.js that starts when this user types node-red."""
    bins = [*([Path(node[0]).parent] if node else []), *_bin_dirs(user, environ, root)]
    for folder in dict.fromkeys(bins):
        if os.path.lexists(folder / "node-red") and (program := red_js(folder / "node-red")):
            return program
    for folder in dict.fromkeys(bins):
        program = folder.parent / "lib/node_modules/node-red/red.js"
        if program.is_file() and _package(program.parent):
            return program
    for folder in (
        user.home / "node_modules",
        user.home / ".node-red/node_modules",
        root / "usr/lib/node_modules",
    ):
        program = folder / "node-red/red.js"
        if program.is_file() and _package(program.parent):
            return program
    return None


def find_node(
    argv: Sequence[str], program: Path | None, user: User, environ: Mapping[str, str], root: Path = Path("/")
) -> tuple[str, ...]:
    """The node that runs it: named by the command line, beside the program, named by the wrapper,
    first in PATH.
    """
    places = (
        [Path(argv[0])]
        if argv and argv[0].startswith("/") and re.match(r"node(js)?\b(?!-red)", Path(argv[0]).name)
        else []
    )
    if program is not None:
        # <prefix>/lib/node_modules/node-red/red.js belongs to <prefix>/bin/node (nvm, n, the system's)
        places += [program.parents[3] / "bin/node"] if len(program.parents) > 3 else []
    bins = list(dict.fromkeys(_bin_dirs(user, environ, root)))
    for folder in bins:
        places += _in_script(folder / "node-red", r"/[^\s'\";]+/node\b(?!-|_)")
    places += [folder / name for folder in bins for name in ("node", "nodejs")]
    for place in dict.fromkeys(places):
        if place.is_file() and os.access(place, os.X_OK):
            return (str(place),)
    return ()
