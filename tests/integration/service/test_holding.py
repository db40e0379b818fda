"""Ports that nobody else gets, listened on or not, and that outlive the process that holds them."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.nodered import free_port

from redlatch.service import sockets
from redlatch.service.holding import Hold

PLACES = ("127.0.0.1", "127.0.0.9", "0.0.0.0", "::1", "::")


@pytest.fixture
def hold() -> Iterator[Hold]:
    made = Hold()
    yield made
    made.close()


def refused(place: str, port: int, *options: int) -> bool:
    """Whether this very user is refused the port there, with these options of a socket."""
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    with socket.socket(family) as sock:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((place, port))
            sock.listen()
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False


def refused_to_another_user(place: str, port: int) -> bool:
    """The same for somebody who asks to share it."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.setuid(1)
            status = 0 if refused(place, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("listening", [False, True])
def test_nobody_else_gets_it_at_any_address(hold: Hold, place: str, listening: bool) -> None:
    """While we listen on one address, and while we do not."""
    port = free_port()
    assert hold.keep(port) == []
    beside = sockets.bind(["127.0.0.1"], port, held=True) if listening else []
    assert refused(place, port)
    assert refused(place, port, socket.SO_REUSEADDR)
    assert refused_to_another_user(place, port)
    for sock in beside:
        sock.close()
    assert refused(place, port, socket.SO_REUSEADDR)
    assert refused_to_another_user(place, port)
    hold.keep()
    assert not refused(place, port, socket.SO_REUSEADDR)


def test_a_port_that_is_held_is_closed_to_who_connects(hold: Hold) -> None:
    port = free_port()
    hold.keep(port)
    for place in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((place, port), timeout=5)


def test_what_somebody_has_is_said_and_tried_again(hold: Hold) -> None:
    """At whatever address; a second service of the same user counts as somebody."""
    port = free_port()
    with socket.create_server(("127.0.0.9", port)):
        assert hold.keep(port) == [port]
    assert hold.keep(port) == []
    with sockets.bind(["127.0.0.1"], port, held=True)[0]:
        assert Hold().keep(port) == [port]


PROGRAM = """
import os, sys, signal
if "LISTEN_FDS" in os.environ:
    os.environ["LISTEN_PID"] = str(os.getpid())
from redlatch.service.holding import Hold
hold = Hold()
left = sorted(name for name in os.environ if "LISTEN" in name)
print(sorted(hold._held), hold.keep(*map(int, sys.argv[1:])), left, flush=True)
signal.pause()
"""


def test_it_outlives_its_process_where_systemd_keeps_it(tmp_path: Path) -> None:
    """Killed and started again: held all the while; a port that is no longer wanted is given back."""
    place, port, other = tmp_path / "notify", free_port(), free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(place))
        systemd.settimeout(10)
        environ = {**os.environ, "NOTIFY_SOCKET": str(place)}
        first = start(environ, port, other)
        assert first.stdout is not None
        assert first.stdout.readline() == "[] [] []\n"
        kept: dict[str, int] = {}
        for _ in range(2):
            said, handed, _, _ = socket.recv_fds(systemd, 1000, 1)
            words = dict(line.split("=", 1) for line in said.decode().splitlines())
            assert (words["FDSTORE"], words["FDPOLL"]) == ("1", "0")
            kept[words["FDNAME"]] = handed[0]
        assert kept.keys() == {f"held-{port}", f"held-{other}"}
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
        for number in (port, other):
            assert refused("127.0.0.1", number, socket.SO_REUSEADDR)
            assert refused_to_another_user("::", number)
        try:
            second = start(environ, port, handed=kept)
            assert second.stdout is not None
            assert second.stdout.readline() == f"{sorted((port, other))} [] []\n"
            assert systemd.recv(1000).decode() == f"FDSTOREREMOVE=1\nFDNAME=held-{other}"
            second.terminate()
            second.wait()
            second.stdout.close()
        finally:
            for descriptor in kept.values():
                os.close(descriptor)


def start(environ: dict[str, str], *ports: int, handed: dict[str, int] | None = None) -> subprocess.Popen[str]:
    """A process that holds these ports, handed over what systemd would hand over: from descriptor 3 on."""
    command = [sys.executable, "-c", PROGRAM, *map(str, ports)]
    if not handed:
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    told = {"LISTEN_FDS": str(len(handed)), "LISTEN_FDNAMES": ":".join(handed)}
    moved = " ".join(f"{3 + number}<&{one}" for number, one in enumerate(handed.values()))
    line = f'exec "$@" {moved}'
    return subprocess.Popen(
        ["bash", "-c", line, "bash", *command],
        env={**environ, **told},
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=tuple(handed.values()),
    )
