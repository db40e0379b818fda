"""Which HAProxy there is, and whether it is one that redlatch can drive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redlatch.errors import EngineError

OLDEST: Final = (2, 6)  # Debian 12's; what is asked of it was tried with 2.6, 2.8 and 3.0
PLACES: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"  # not on every user's PATH
_HINT: Final = "install it from your distribution: sudo apt-get install haproxy"
_VERSION: Final = re.compile(r"^HA-?Proxy version (([0-9]{1,3})\.([0-9]{1,3})[0-9A-Za-z.+~-]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Program:
    """An HAProxy: where it lies, (major, minor), and its version in its own words (`2.6.12-1+deb12u4`)."""

    path: Path
    version: tuple[int, int]
    name: str

    @property
    def short(self) -> str:
        """The version without the distribution's part: `2.6.12`."""
        return re.split(r"[-+~]", self.name)[0]


def find(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Program:
    """The HAProxy at `path`, or the one that is installed. EngineError: there is none, or it is too old."""
    if path is None:
        found = shutil.which("haproxy", path=f"{environ.get('PATH', '')}:{PLACES}")
        if found is None:
            raise EngineError("there is no haproxy on this machine", hint=_HINT)
        path = Path(found)
    try:
        answer = subprocess.run([path, "-v"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{path} cannot be run: {error}", hint=_HINT) from error
    told = answer.stdout.decode("utf-8", "replace")
    match = _VERSION.match(told)
    if match is None:
        raise EngineError(f"{path} does not say which HAProxy it is", hint=_HINT)
    program = Program(path, (int(match[2]), int(match[3])), match[1])
    if program.version < OLDEST:
        raise EngineError(
            f"{path} is HAProxy {program.short}, and redlatch needs {OLDEST[0]}.{OLDEST[1]} or newer", hint=_HINT
        )
    return program
