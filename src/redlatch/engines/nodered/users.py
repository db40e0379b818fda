"""Doing things with the rights of Node-RED's user: a settings.js is that user's code, never root's.

Root that loads or writes what an unprivileged user controls hands that user root: measured with a settings.js
that was a link into a root-only file. So everything under Node-RED's user directory is read, written and run by
a process that gave up root for good.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import grp
import json
import os
import pwd
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from redlatch import errors
from redlatch.errors import EngineError, FileProblem, NotPermitted, RedlatchError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Groups whose members become root at will: docker and lxd by mounting /, disk by writing the block device.
_ROOT_GROUPS = {
    "docker": "start a container that mounts the whole disk",
    "lxd": "start a container that mounts the whole disk",
    "incus-admin": "start a container that mounts the whole disk",
    "disk": "write to the raw disk",
    "shadow": "read everybody's password hashes",
}


@dataclass(frozen=True, slots=True)
class User:
    """A Unix account as Node-RED runs under it: `gid` and `groups` include a unit's Group= where there is one."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path


@dataclass(frozen=True, slots=True)
class Completed:
    """How a bounded run ended: `timed_out` when it was stopped, `truncated` when it said too much."""

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


def user_by_uid(uid: int) -> User | None:
    """The account with that number, or None."""
    try:
        return _user(pwd.getpwuid(uid))
    except (KeyError, OverflowError):
        return None


def user_by_name(name: str) -> User | None:
    """The account of that name (or number, as systemd's User= may say), or None."""
    try:
        return _user(pwd.getpwnam(name))
    except (KeyError, ValueError):
        return user_by_uid(int(name)) if name.isascii() and name.isdigit() else None


def group_by_name(name: str) -> int | None:
    """The gid of that group (or number), or None."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return int(name) if name.isascii() and name.isdigit() else None


def _user(entry: pwd.struct_passwd) -> User:
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(sorted(set(groups))), Path(entry.pw_dir))


def clean_environment(user: User, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process of `user` gets to see: who it is and where programs are, nothing of the caller's."""
    return {
        "HOME": str(user.home),
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": "/bin/sh",
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
        **(extra or {}),
    }


def _must_switch(user: User) -> bool:
    """Whether rights have to be given up to act as `user`; refuses what the caller has no right to."""
    if os.geteuid() == user.uid:
        return False
    if os.geteuid() == 0:
        return True
    raise NotPermitted(
        f"Node-RED belongs to the user {user.name}, and this command runs as somebody else",
        hint=f"run it with sudo, or as {user.name}",
    )


def run_as(
    user: User,
    argv: Sequence[str | Path],
    *,
    input: bytes = b"",  # noqa: A002 - subprocess's own word
    env: Mapping[str, str] | None = None,
    timeout: float = 15.0,
    cwd: Path | None = None,
    max_output: int = 1 << 20,
) -> Completed:
    """Runs `argv` as `user`: no inherited environment or descriptors, bounded in time (s) and output (bytes each).

    Ends with the process, not with its pipes: a settings.js may leave children behind that keep them open. What is
    still in the process group is killed. Raises EngineError when the program cannot be started.
    """
    rights: dict[str, Any] = {}
    if _must_switch(user):
        rights = {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)}
    try:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(user, env),
            cwd=str(cwd) if cwd else "/",
            start_new_session=True,
            close_fds=True,
            umask=0o077,
            **rights,
        )
    except OSError as error:
        raise EngineError(
            f"cannot run {argv[0]} as {user.name}: {(error.strerror or str(error)).lower()}",
            hint=f"look whether {user.name} may read and execute that file",
        ) from error
    try:
        return _collect(process, input, time.monotonic() + timeout, max_output)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _collect(process: subprocess.Popen[bytes], data: bytes, deadline: float, max_output: int) -> Completed:
    if (
        process.stdin is None or process.stdout is None or process.stderr is None
    ):  # pragma: no cover - asked for above
        raise EngineError("no pipes to the process")
    output = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    out, err = output
    stdin = process.stdin.fileno()
    for descriptor in (stdin, out, err):
        os.set_blocking(descriptor, False)
    waiting = set(output)
    pending = memoryview(data)
    timed_out = truncated = False
    while True:
        ended = process.poll() is not None
        writable = [stdin] if pending and not ended else []
        if not writable and not process.stdin.closed:
            process.stdin.close()
        # A process that has ended has written all it will: one more look at the pipes, without waiting.
        ready, ready_to_write, _ = select.select(list(waiting), writable, [], 0 if ended else 0.02)
        for descriptor in ready:
            chunk = os.read(descriptor, 65536)
            if not chunk:
                waiting.discard(descriptor)
                continue
            truncated = truncated or len(output[descriptor]) + len(chunk) > max_output
            output[descriptor] += chunk[: max_output - len(output[descriptor])]
        if ready_to_write:
            try:
                pending = pending[os.write(stdin, pending[:65536]) :]
            except BrokenPipeError:
                pending = memoryview(b"")
        if (ended and not ready) or truncated:
            break
        if time.monotonic() > deadline:
            timed_out = not ended
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    return Completed(process.returncode, bytes(output[out]), bytes(output[err]), timed_out, truncated)


def call_as(user: User, function: Callable[..., Any], *arguments: Any, timeout: float = 20.0) -> Any:
    """Calls `function` with the rights of `user` and returns its result: bytes, or anything JSON can carry.

    As root in a forked child that gives root up for good; else directly, and only for the caller's own user. The
    child's answer is data, not objects: nothing in it is executed. A RedlatchError of the child is raised here.
    """
    if not _must_switch(user):
        with _explained(user):
            return function(*arguments)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(user, writer, function, arguments)
    os.close(writer)
    try:
        answer = _read_all(reader, timeout)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return _unpack(user, answer)


def _child(user: User, writer: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> NoReturn:
    code = 1
    try:
        gc.disable()  # no finaliser of the parent's objects runs here
        # Changing uid clears the dumpable flag: the user cannot attach to this copy of root's memory.
        drop_rights(user)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.dup2(writer, 3)
        os.closerange(4, 65536)
        os.umask(0o077)
        os.chdir("/")
        try:
            with _explained(user):
                result = function(*arguments)
            answer = b"B" + result if isinstance(result, bytes) else b"J" + json.dumps(result).encode()
        except RedlatchError as error:
            answer = b"E" + json.dumps([type(error).__name__, error.message, error.hint]).encode()
        except Exception as error:  # noqa: BLE001 - carried over to the parent, which raises it
            answer = b"E" + json.dumps(["EngineError", f"{type(error).__name__}: {error}", ""]).encode()
        with os.fdopen(3, "wb") as stream:
            stream.write(answer)
        code = 0
    finally:
        os._exit(code)


def drop_rights(user: User) -> None:
    """Becomes `user` and nothing else, for good: real, effective and saved ids, groups; checked afterwards."""
    os.setgroups(list(user.groups))
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    if os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3:
        raise NotPermitted(f"could not become the user {user.name}")


def _read_all(reader: int, timeout: float, max_bytes: int = 64 << 20) -> bytes:
    """What the child says until it closes the pipe; a file on a dead network mount must not hang the command."""
    answer = bytearray()
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            break
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            return bytes(answer)
        answer += chunk
        if len(answer) > max_bytes:
            raise EngineError("a helper process answered too much")
    raise EngineError(
        f"no answer within {timeout:g} seconds", hint="look whether the disk (a network mount?) answers"
    )


def _unpack(user: User, answer: bytes) -> Any:
    kind, body = answer[:1], answer[1:]
    if kind == b"B":
        return body
    try:
        value = json.loads(body)
        if kind == b"J":
            return value
        name, message, hint = (str(part) for part in value)
    except ValueError as error:
        raise EngineError(f"a helper process of {user.name} ended without an answer") from error
    found = getattr(errors, name, EngineError)
    if not (isinstance(found, type) and issubclass(found, RedlatchError)):
        found = EngineError
    raise found(message, hint=hint)


@contextlib.contextmanager
def _explained(user: User) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename if error.filename is not None else "a file"
        hint = f"this is done with the rights of {user.name}, never with root's: give {user.name} that file"
        if error.errno == errno.ENOSPC:
            hint = "free some space on that disk, then run the same command again; nothing was changed"
        raise FileProblem(
            f"{user.name} cannot use {where}: {(error.strerror or str(error)).lower()}", hint=hint
        ) from error


def root_powers(user: User) -> list[str]:
    """Why flows of this user are as good as root, one sentence each; empty when nothing of that kind was found."""
    if user.uid == 0:
        text = "Node-RED runs as root, so every flow is root: it can read the CA keys and remove the lock"
        return [f"{text}. Run Node-RED under a user of its own (User= in its unit)"]
    found = []
    for gid in user.groups:
        with contextlib.suppress(KeyError):
            name = grp.getgrgid(gid).gr_name
            if name in _ROOT_GROUPS:
                found.append(
                    f"{user.name} is in the group {name} and can {_ROOT_GROUPS[name]}: flows are root there. "
                    f"Take it out with: gpasswd -d {user.name} {name}"
                )
    if _passwordless_sudo(user):
        found.append(
            f"{user.name} may use sudo without a password: flows are root there. Ask for the password "
            f"(remove NOPASSWD, on Raspberry Pi OS: rm /etc/sudoers.d/010_pi-nopasswd) or run "
            f"Node-RED as another user"
        )
    return found


def _passwordless_sudo(user: User) -> bool:
    sudo = next((p for p in ("/usr/bin/sudo", "/usr/local/bin/sudo", "/bin/sudo") if Path(p).exists()), None)
    if sudo is None:
        return False
    try:
        # -n never asks; `-l` with a command succeeds only where the rule exists, `true` changes nothing. -k: do
        # not
        # take a password typed minutes ago for a rule.
        return run_as(user, [sudo, "-n", "-k", "true"], timeout=10).returncode == 0
    except RedlatchError:
        return False


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """The beginning of a regular file; never waits for the writer of a FIFO. Raises OSError like open()."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return stream.read(max_bytes)


def may_reach(user: User, path: Path) -> bool:
    """Whether `user` may read `path` (all folders above it included)."""
    return bool(call_as(user, _readable, str(path)))


def reachable(user: User, paths: Sequence[Path]) -> list[str]:
    """Those of `paths` that `user` may read or write, tried as that user."""
    found: list[str] = call_as(user, _touchable, [str(path) for path in paths])
    return found


def _readable(path: str) -> bool:
    return os.access(path, os.R_OK)


def _touchable(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if os.access(path, os.R_OK) or os.access(path, os.W_OK)]


def sudo_can_be_tried() -> bool:
    """Whether a program of this process may gain rights: under systemd's NoNewPrivileges= sudo always fails."""
    with contextlib.suppress(OSError):
        return "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text("ascii", "replace")
    return True
