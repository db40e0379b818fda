"""systemd units that run Node-RED, read from their files: also where systemctl does not run (a chroot, an image).

Only what redlatch needs of systemd.unit(5) and systemd.exec(5): drop-ins, User=, Group=, WorkingDirectory=,
Environment=, EnvironmentFile=, ExecStart= with its quoting and $VARIABLES.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from redlatch.engines.nodered.users import read_regular

UNIT_DIRS = tuple(
    Path(place)
    for place in (
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/lib/systemd/system",
        "/usr/lib/systemd/system",
    )
)
# The Raspberry Pi's and Debian's installer writes nodered.service; Fedora, Arch and most tutorials
# node-red.service.
USUAL_NAMES = ("nodered.service", "node-red.service")
OWN_DROPIN, OWN_ENVIRONMENT = "redlatch.conf", "redlatch.env"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit with its drop-ins, in the order systemd applies them. `settings` maps "Service.User"
    to its values.
    """

    name: str
    fragment: Path
    dropins: tuple[Path, ...]
    settings: Mapping[str, tuple[str, ...]]

    def last(self, key: str) -> str | None:
        """The value that counts of a setting that has one."""
        values = self.settings.get(f"Service.{key}", ())
        return self.specifiers(values[-1]) if values else None

    def all(self, key: str) -> tuple[str, ...]:
        """The values of a setting that adds up (an empty one has reset the list)."""
        return tuple(self.specifiers(value) for value in self.settings.get(f"Service.{key}", ()))

    @property
    def instance(self) -> str:
        """What stands between @ and .service."""
        return self.name.removesuffix(".service").partition("@")[2]

    def specifiers(self, text: str) -> str:
        """%i, %I, %n, %N, %p and %% of systemd.unit(5); others stay, they are not known without a
        running manager.
        """
        known = {
            "i": self.instance,
            "I": self.instance.replace("-", "/"),
            "n": self.name,
            "%": "%",
            "N": self.name.removesuffix(".service"),
            "p": self.name.removesuffix(".service").partition("@")[0],
        }
        return re.sub(r"%([A-Za-z%])", lambda m: known.get(m[1], m[0]), text)

    def environment(self) -> dict[str, str]:
        """Environment= merged; EnvironmentFile= is not read here, it may be the user's own file."""
        found: dict[str, str] = {}
        for value in self.all("Environment"):
            for word in split_words(value):
                name, equals, content = word.partition("=")
                if equals and name:
                    found[name] = content
        return found

    def environment_files(self) -> tuple[Path, ...]:
        """The EnvironmentFile= paths but redlatch's own, without the leading "-"."""
        return tuple(
            Path(value.removeprefix("-"))
            for value in self.all("EnvironmentFile")
            if Path(value).name != OWN_ENVIRONMENT
        )

    def command(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """The words of ExecStart= as the process gets them."""
        lines = self.all("ExecStart")
        if not lines:
            return ()
        words = []
        for word in split_words(lines[-1].lstrip("@-:+!|")):
            if match := re.fullmatch(r"\$(\w+)", word):  # a lone $FOO is split at white space and may vanish
                words += split_words(environment.get(match[1], ""))
            else:
                words.append(re.sub(r"\$\{(\w+)\}", lambda m: environment.get(m[1], ""), word).replace("$$", "$"))
        return tuple(words)

    @property
    def passes_node_options(self) -> bool:
        """Whether ExecStart= hands NODE_OPTIONS on as arguments too, as the Raspberry Pi's unit does."""
        return any("NODE_OPTIONS" in line for line in self.all("ExecStart"))


def unit_warnings(unit: Unit) -> list[str]:
    """What in this unit keeps the drop-in from holding, or is changed by it."""
    found = []
    for line in unit.all("ExecStart"):
        if re.search(r"\bNODE_OPTIONS=", line) or re.search(r"\benv\s+(-i|-|--ignore-environment)\s", line):
            found.append(
                f"{unit.name} sets NODE_OPTIONS in ExecStart=, which beats redlatch's drop-in: "
                "a replaced settings.js would open Node-RED. Move it to Environment="
            )
    if any("NODE_OPTIONS" in split_words(value) for value in unit.all("UnsetEnvironment")):
        found.append(
            f"{unit.name} takes NODE_OPTIONS away (UnsetEnvironment=): a replaced settings.js would open Node-RED"
        )
    if unit.last("RootDirectory") or unit.last("RootImage"):
        found.append(f"{unit.name} has a root folder of its own, where redlatch's published folder is not seen")
    return found


def split_words(text: str) -> list[str]:
    """Splits like systemd: white space, single and double quotes, C escapes. Never fails: the rest is one word."""
    words: list[str] = []
    current: list[str] | None = None
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\" and position < len(text):
            current = [*(current or []), {"n": "\n", "t": "\t", "s": " "}.get(text[position], text[position])]
            position += 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                current = [*(current or []), char]
        elif char in "'\"":
            quote, current = char, current or []
        elif char.isspace():
            if current is not None:
                words.append("".join(current))
            current = None
        else:
            current = [*(current or []), char]
    if current is not None:
        words.append("".join(current))
    return words


def parse_environment_file(text: str) -> dict[str, str]:
    """NAME=VALUE lines of an EnvironmentFile=, quotes and continuation lines as in systemd.exec(5)."""
    found: dict[str, str] = {}
    for line in re.sub(r"\\\r?\n", "", text).splitlines():
        stripped = line.strip()
        name, equals, value = stripped.partition("=")
        if not equals or stripped[0] in "#;" or not re.fullmatch(r"[A-Za-z_]\w*", name.strip()):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
            quoted = value[0]
            value = value[1:-1]
            if quoted == '"':
                value = re.sub(r'\\(["\\`$])', r"\1", value)
        found[name.strip()] = value
    return found


def read_settings(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """All assignments of a fragment and its drop-ins; an empty one resets what came before."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        section = ""
        for line in re.sub(r"\\\r?\n", " ", text).splitlines():
            stripped = line.strip()
            if not stripped or stripped[0] in "#;":
                continue
            if stripped.startswith("[") and stripped.endswith("]"):
                section = stripped[1:-1]
                continue
            key, equals, value = stripped.partition("=")
            if equals:
                name = f"{section}.{key.strip()}"
                found[name] = (*found.get(name, ()), value.strip()) if value.strip() else ()
    return found


def find_units(unit_dirs: Iterable[Path] = UNIT_DIRS) -> list[Unit]:
    """Every unit that starts Node-RED: the usual names first, then any whose ExecStart= names it."""
    dirs = tuple(unit_dirs)
    found = [unit for name in USUAL_NAMES if (unit := load_unit(name, dirs))]
    seen = {unit.name for unit in found}
    for name in sorted(set(_other_names(dirs)) - seen):
        unit = load_unit(name, dirs)
        if unit and any(re.search(r"node-?red(-pi)?\b|/red\.js\b", line) for line in unit.all("ExecStart")):
            found.append(unit)
    return found


def _other_names(dirs: tuple[Path, ...]) -> Iterator[str]:
    for place in dirs:
        try:
            entries = [*place.glob("*.service"), *place.glob("*.wants/*@*.service")]
        except OSError:
            continue
        for entry in entries:
            template_only = entry.name.endswith("@.service")
            text = None if template_only else _read(_fragment(entry.name, dirs) or entry)
            if text and ("red.js" in text or re.search(r"node-?red", text, re.IGNORECASE)):
                yield entry.name


def _fragment(name: str, dirs: tuple[Path, ...]) -> Path | None:
    template = re.sub(r"@.+\.service$", "@.service", name)
    for candidate in dict.fromkeys((name, template)):
        for place in dirs:
            path = place / candidate
            if path.is_symlink() or path.exists():
                return path
    return None


def load_unit(name: str, unit_dirs: Iterable[Path] = UNIT_DIRS, *, locked: bool = False) -> Unit | None:
    """The unit of that name as systemd would load it, without redlatch's own drop-in, or `locked`: with it;
    None when there is none, or it is masked.
    """
    dirs = tuple(unit_dirs)
    fragment = _fragment(name, dirs)
    text = _read(fragment) if fragment else None
    if fragment is None or not text:  # an empty file and a link to /dev/null are systemd's "masked"
        return None
    dropins: dict[str, Path] = {}
    template = re.sub(r"@.+\.service$", "@.service", name)
    for folder in dict.fromkeys((template, name)):
        for place in reversed(dirs):  # a file of the same name in a stronger folder replaces the weaker one
            try:
                entries = sorted((place / f"{folder}.d").glob("*.conf"))
            except OSError:
                continue
            dropins.update((path.name, path) for path in entries)
    ordered = tuple(dropins[key] for key in sorted(dropins))
    texts = [text, *(_read(path) or "" for path in ordered if locked or path.name != OWN_DROPIN)]
    return Unit(name, fragment, ordered, read_settings(texts))


def _read(path: Path) -> str | None:
    try:
        return read_regular(path, _MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
