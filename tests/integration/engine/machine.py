"""A small machine of its own under a real systemd: the host's /usr, an empty /etc, its own processes and network.

It starts in about a second, needs root and a systemd package, and leaves nothing behind. Node-RED and redlatch are
there at the paths they have on the host; Node-RED's user is `pi`, as on a Raspberry Pi.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.support.nodered import cache
from tests.support.wait import until

import redlatch

SYSTEMD = Path("/lib/systemd/systemd")
REPOSITORY = Path(redlatch.__file__).parents[2]

_BOOT = r"""
set -eu
root=$1 cgroups=$2 cache=$3 propagation=$4; shift 4
echo $$ > "$cgroups/$(basename "$root")/cgroup.procs"
exec unshare --pid --mount --cgroup --uts --ipc --net --fork --kill-child --propagation $propagation sh -eu -c '
root=$1 cache=$2; shift 2
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc/systemd/system var/log var/lib run tmp dev proc sys root home/pi/.node-red opt/cache srv
chmod 1777 tmp
mount --bind -o ro /usr usr
for link in bin sbin lib lib64 lib32; do [ ! -L /$link ] || cp -a /$link .; done
for folder in "$@"; do mkdir -p "./$folder"; mount --bind -o ro "$folder" "./$folder"; done
mount --bind -o ro "$cache" opt/cache
printf "%s\n" root:x:0:0:root:/root:/bin/sh pi:x:1000:1000::/home/pi:/bin/sh > etc/passwd
printf "%s\n" root:x:0: pi:x:1000: > etc/group
cp -r /etc/ld.so* /etc/nsswitch.conf /etc/alternatives etc/ 2>/dev/null || true
echo 0123456789abcdef0123456789abcdef > etc/machine-id
chown -R 1000:1000 home/pi
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/shm dev/pts
ln -s /proc/self/fd dev/fd
# What would reach beyond this machine: kernel settings are the host kernel'"'"'s
for unit in systemd-sysctl systemd-binfmt systemd-modules-load systemd-hwdb-update systemd-udevd; do
  ln -s /dev/null etc/systemd/system/$unit.service
done
mount --bind -o ro /proc/sys proc/sys
mount -t tmpfs -o mode=755 tmpfs run
ip link set lo up
exec chroot . /usr/bin/env -i container=redlatch-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=basic.target --show-status=0
' sh "$root" "$cache" "$@"
"""


def cgroup2() -> Path | None:
    """Where the unified hierarchy is mounted and may be written."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2" and os.access(fields[1], os.W_OK):
            return Path(fields[1])
    return None


def propagation() -> str | None:
    """How to keep the machine's mounts from the host: `private`, or in a chroot, where that fails, as they are."""
    for choice in ("private", "unchanged"):
        shared = choice == "unchanged" and " shared:" in Path("/proc/self/mountinfo").read_text()
        probe = ["unshare", "--pid", "--mount", "--cgroup", "--net", "--fork", "--propagation", choice, "true"]
        if not shared and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return choice
    return None


def why_not() -> str:
    """Why this host cannot run such a machine; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not SYSTEMD.exists():
        return "systemd is not installed"
    if cgroup2() is None:
        return "no writable cgroup2 file system"
    return "" if propagation() else "no namespaces of its own here"


class Machine:
    """A context manager; entering waits until systemd says that it runs."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="redlatch-machine-"))
        self.root.chmod(0o755)
        found = cgroup2()
        assert found is not None
        self.cgroups = found
        self.group = found / self.root.name
        self.log = self.root.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.init = 0

    def __enter__(self) -> Self:
        self.group.mkdir()
        mounts = propagation()
        assert mounts is not None
        prefixes = {REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)}
        folders = [str(path) for path in sorted(prefixes) if not path.is_relative_to("/usr")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", _BOOT, "sh", str(self.root), str(self.cgroups), str(cache()), mounts, *folders],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            self.init = until(self._systemd, seconds=20, what="a systemd of its own")
            until(self._runs, seconds=30, what="systemd's start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _systemd(self) -> int | None:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"/lib/systemd/systemd"):
                return int(child)
        return None

    def _runs(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False)
        return state.stdout.strip() in ("running", "degraded")

    def run(self, *argv: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command as root in there."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-a", "--root", "--wd=/", "env", "-i",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
             f"PYTHONPATH={REPOSITORY}:{REPOSITORY}/src", "REDLATCH_TEST_CACHE=/opt/cache", *argv],
            input=stdin, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def python(self, code: str) -> str:
        """Runs Python with redlatch as root in there; what it prints."""
        return self.run(sys.executable, "-", stdin=code).stdout

    def write(self, path: str, text: str, *, owner: str = "root") -> None:
        self.run("sh", "-c", f'cat > "{path}" && chown {owner}: "{path}"', stdin=text)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        shown = self.run("systemctl", "show", unit, f"--property={','.join(properties)}").stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()  # --kill-child ends systemd, and with it every process of its namespace
            self.process.wait()
        for folder in sorted((p for p in self.group.rglob("*") if p.is_dir()), reverse=True):
            until(lambda folder=folder: _removed(folder), seconds=10, what=f"the end of {folder}")  # type: ignore[misc]
        until(lambda: _removed(self.group), seconds=10, what="the end of its processes")
        shutil.rmtree(self.root, ignore_errors=True)
        self.log.unlink(missing_ok=True)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
