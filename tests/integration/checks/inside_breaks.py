"""Every way in which a site breaks that the inside checks know of, done to a real one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.checks.healthy import Break, Healthy

from redlatch import bootstrap
from redlatch.checks import files as file_checks
from redlatch.checks import service as service_checks
from redlatch.operations import devices, engines, lookups, networks, server
from redlatch.operations import service as services
from redlatch.operations.publishing import enforce
from redlatch.operations.site import changing, set_config
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem
from redlatch.pki.keys import generate_key, load_private_key, private_key_pem

Do = Callable[[Healthy], AbstractContextManager[object]]


# --- tools


@contextlib.contextmanager
def put_back(*paths: Path) -> Iterator[None]:
    """Content, owner and mode of these files, or that they are not there, come back afterwards."""
    before: dict[Path, tuple[bytes, os.stat_result] | None] = {}
    for path in paths:
        before[path] = (path.read_bytes(), path.stat()) if path.exists() else None
    try:
        yield
    finally:
        for path, kept in before.items():
            if os.path.lexists(path):
                path.unlink()
            if kept is not None:
                content, state = kept
                path.write_bytes(content)
                os.chown(path, state.st_uid, state.st_gid)
                path.chmod(state.st_mode & 0o7777)


@contextlib.contextmanager
def as_it_was(path: Path) -> Iterator[None]:
    """Owner and mode of a file or folder come back afterwards."""
    state = path.stat()
    try:
        yield
    finally:
        os.chown(path, state.st_uid, state.st_gid)
        path.chmod(state.st_mode & 0o7777)


def write(place: Callable[[Healthy], Path], content: bytes) -> Do:
    """Other content in a file, whose it is and its mode as before."""

    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        path = place(healthy)
        with put_back(path):
            path.write_bytes(content)
            yield

    return do


def new(place: Callable[[Healthy], Path], content: bytes, mode: int, *, ours: bool = True) -> Do:
    """A further file, of redlatch's user (and Node-RED's group where it is published) or of root."""

    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        path = place(healthy)
        with put_back(path):
            path.write_bytes(content)
            if ours:
                os.chown(path, healthy.home.service.uid, path.parent.stat().st_gid)
            path.chmod(mode)
            yield

    return do


def mode(place: Callable[[Healthy], Path], bits: int) -> Do:
    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        path = place(healthy)
        with as_it_was(path):
            path.chmod(bits)
            yield

    return do


def gone(place: Callable[[Healthy], Path]) -> Do:
    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        path = place(healthy)
        with put_back(path):
            path.unlink()
            yield

    return do


def owned(place: Callable[[Healthy], Path], user: str) -> Do:
    """Given to `root`, or to Node-RED's user (`pi`)."""

    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        path = place(healthy)
        with as_it_was(path):
            uid = 0 if user == "root" else healthy.home.node_red.uid
            os.chown(path, uid, path.stat().st_gid)
            yield

    return do


def sql(statement: str, *values: object) -> Do:
    """Somebody writes into the store, past redlatch; undone afterwards."""

    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        with put_back(healthy.settings.database):
            with contextlib.closing(sqlite3.connect(healthy.settings.database)) as connection:
                connection.execute(statement, values)
                connection.commit()
            yield

    return do


def later(days: float) -> Do:
    """The clock says so many days later."""

    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        healthy.ahead = timedelta(days=days)
        try:
            yield
        finally:
            healthy.ahead = timedelta()

    return do


def patched(module: object, name: str, value: Callable[[Healthy], object]) -> Do:
    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, value(healthy))
            yield

    return do


def by_site(change: Callable[[Any], object]) -> Do:
    """A change by redlatch's own operations; the store and what is published come back afterwards."""

    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        with put_back(healthy.settings.database):
            try:
                site = healthy.home.site()
                try:
                    change(site)
                finally:
                    site.store.close()
                yield
            finally:
                for name in ("-wal", "-shm"):
                    healthy.settings.database.with_name(f"redlatch.db{name}").unlink(missing_ok=True)
        published_anew(healthy)

    return do


def published_anew(healthy: Healthy) -> None:
    site = healthy.home.site()
    assert enforce(site, anew=True).state == "published"
    site.store.close()


# --- places


def key(kind: str) -> Callable[[Healthy], Path]:
    return lambda healthy: next(healthy.settings.keys.glob(f"{kind}-ca-*.pem"))


def in_published(name: str) -> Callable[[Healthy], Path]:
    return lambda healthy: healthy.settings.published / name


def in_authority(name: str) -> Callable[[Healthy], Path]:
    return lambda healthy: healthy.settings.authority / name


def a_part(healthy: Healthy) -> Path:
    return min((healthy.settings.published / "snapshot").iterdir())


def text(place: Callable[[Healthy], Path]) -> Callable[[Healthy], str]:
    return lambda healthy: str(place(healthy))


def says(words: str) -> Callable[[Healthy], str]:
    return lambda _: words


database = in_authority("redlatch.db")
head = in_published("snapshot.json")
parts = in_published("snapshot")


# --- the store and its disk


@contextlib.contextmanager
def damaged(healthy: Healthy) -> Iterator[None]:
    """One page of the file is overwritten, such that the site can still be read."""
    path = healthy.settings.database
    with put_back(path):
        whole = path.read_bytes()
        for at in range(len(whole) - 4096, 4096, -4096):
            path.write_bytes(whole[:at] + b"\xff" * 16 + whole[at + 16 :])
            site = healthy.site()
            try:
                with contextlib.suppress(Exception):
                    site.config()
                    if site.store.damages():
                        break
            finally:
                site.store.close()
        yield


@contextlib.contextmanager
def small_disk(healthy: Healthy) -> Iterator[None]:
    """What is published lies on a disk of 16 MiB."""
    published, aside = healthy.settings.published, healthy.settings.home.parent / "aside"
    state = published.stat()
    shutil.copytree(published, aside)
    with mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", published):
        subprocess.run(["cp", "-a", f"{aside}/.", published], check=True)
        for path in (published, *published.rglob("*")):
            os.chown(path, state.st_uid, state.st_gid)
        published.chmod(0o2750)
        for path in published.rglob("*"):
            path.chmod(0o2750 if path.is_dir() else 0o640)
        yield
    shutil.rmtree(aside)


@contextlib.contextmanager
def read_only(healthy: Healthy) -> Iterator[None]:
    published = healthy.settings.published
    with mounted("--bind", published, published):
        subprocess.run(["mount", "-o", "remount,bind,ro", published], check=True)
        yield


@contextlib.contextmanager
def mounted(*words: object) -> Iterator[None]:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(words[-1])], check=True)


@contextlib.contextmanager
def a_month_after_a_backup(healthy: Healthy) -> Iterator[None]:
    """And something was changed since."""
    with by_site(lambda site: devices.add(site, "Lisa's tablet"))(healthy), later(31)(healthy):
        yield


# --- files


@contextlib.contextmanager
def linked(healthy: Healthy) -> Iterator[None]:
    path = healthy.settings.published / "sidebar.json"
    aside = healthy.settings.home.parent / "aside"
    with put_back(path):
        path.rename(aside)
        path.symlink_to(aside)
        yield
    aside.unlink()


@contextlib.contextmanager
def named_twice(healthy: Healthy) -> Iterator[None]:
    aside = healthy.settings.home.parent / "aside"
    aside.hardlink_to(healthy.settings.service_pem)
    yield
    aside.unlink()


@contextlib.contextmanager
def key_for_all(healthy: Healthy) -> Iterator[None]:
    """The key itself, and every folder above it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mode(lambda one: one.settings.authority, 0o755)(healthy))
        stack.enter_context(mode(lambda one: one.settings.keys, 0o755)(healthy))
        stack.enter_context(mode(key("device"), 0o644)(healthy))
        yield


# --- who may what


@contextlib.contextmanager
def in_group_disk(healthy: Healthy) -> Iterator[None]:
    name = healthy.home.node_red.name
    subprocess.run(["usermod", "--append", "--groups", "disk", name], check=True)
    yield
    subprocess.run(["gpasswd", "--delete", name, "disk"], check=True, capture_output=True)


@contextlib.contextmanager
def sudo_without_password(healthy: Healthy) -> Iterator[None]:
    if shutil.which("sudo") is None:
        pytest.skip("there is no sudo here")
    path = Path(f"/etc/sudoers.d/{healthy.home.node_red.name}")
    try:
        path.write_text(f"{healthy.home.node_red.name} ALL=(ALL) NOPASSWD: ALL\n")
        path.chmod(0o440)
        yield
    finally:
        path.unlink()


# --- certificates


@contextlib.contextmanager
def short_ca(healthy: Healthy) -> Iterator[None]:
    """The device CA, by its own key, as it was made nearly ten years ago."""
    made = Authority.create_device(
        "attic",
        now=bootstrap.now() - timedelta(days=3652 - 200),
        key=load_private_key(key("device")(healthy).read_bytes()),
    )
    der = made.certificate.public_bytes(Encoding.DER)
    with (
        sql("UPDATE authorities SET certificate = ? WHERE kind = 'device'", der)(healthy),
        write(in_published("device-ca.pem"), certificate_pem(made.certificate))(healthy),
    ):
        yield


@contextlib.contextmanager
def short_server(healthy: Healthy) -> Iterator[None]:
    with put_back(healthy.settings.published / "server.pem"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "DAYS_BY_HAND", 20)
        patch.setattr(server, "DAYS_BY_TIMER", 20)

        def issue(site: Any) -> None:
            server.issue(site, engines.configured(site.settings, site.config())[0])
            enforce(site)

        with by_site(issue)(healthy):
            yield


@contextlib.contextmanager
def other_pair(healthy: Healthy) -> Iterator[None]:
    """The certificate of one key with another one."""
    path = healthy.settings.published / "server.pem"
    pem = path.read_bytes()
    leaf = pem[pem.index(b"-----BEGIN CERTIFICATE") :]
    with write(in_published("server.pem"), private_key_pem(generate_key(), None) + leaf)(healthy):
        yield


def own_files(site: Any) -> None:
    with changing(site) as tx:
        set_config(tx, server_files=("/nonexistent/fullchain.pem", "/nonexistent/privkey.pem"))
        tx.record("site.changed", server_files="/nonexistent/fullchain.pem")
    enforce(site)


def owner_for_ten_days(site: Any) -> None:
    devices.renew(site, "Bart's phone", days=10)
    # the renewed device keeps its first key until that is revoked
    with site.store.read() as view:
        found = view.device_by_name("bart's phone")
        first = view.certificates(found.id)[0].fingerprint
    with changing(site) as tx:
        tx.revoke_certificate(first, site.clock(), "a test")
        tx.record("certificate.revoked", fingerprint=first)
    enforce(site)


# --- what is enforced


@contextlib.contextmanager
def interrupted(healthy: Healthy) -> Iterator[None]:
    """A change was recorded and the command killed before it published."""
    site = healthy.home.site()
    with changing(site) as tx:
        tx.record("site.changed", changes=["a test"])
    site.store.close()
    yield
    published_anew(healthy)


@contextlib.contextmanager
def left_part(healthy: Healthy) -> Iterator[None]:
    with new(lambda one: parts(one) / ("0" * 64), b"left", 0o640)(healthy):
        yield


def other_ca(_: Healthy) -> bytes:
    return certificate_pem(Authority.create_device("somewhere else", now=bootstrap.now()).certificate)


@contextlib.contextmanager
def foreign_ca(healthy: Healthy) -> Iterator[None]:
    with write(in_published("device-ca.pem"), other_ca(healthy))(healthy):
        yield


def claiming(**claim: Any) -> Do:
    """A process of Node-RED's user runs, and says this of what it enforces; `version` and `at` count from now."""

    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        user, settings = healthy.home.node_red, healthy.settings
        line, digest = head(healthy).read_text().splitlines()[:2]
        published = json.loads(line)
        now = time.time()
        process = subprocess.Popen(["sleep", "60"], user=user.uid, group=user.gid, extra_groups=[])
        told = {
            "format": 1, "site": published["site"], "digest": digest, "pid": process.pid, "started": now - 900,
            "closed": 0, "ms": None, **claim,
            "version": published["version"] + claim.get("version", 0), "at": now + claim.get("at", 0),
        }  # fmt: skip
        path = settings.spool / "in-force.json"
        try:
            path.write_text(json.dumps(told))
            os.chown(path, user.uid, healthy.home.service.gid)
            path.chmod(0o640)
            yield
        finally:
            process.kill()
            process.wait()
            path.unlink()

    return do


@contextlib.contextmanager
def planted(healthy: Healthy) -> Iterator[None]:
    path = healthy.settings.spool / "in-force.json"
    path.symlink_to(healthy.settings.database)
    os.chown(path, healthy.home.node_red.uid, healthy.home.node_red.gid, follow_symlinks=False)
    yield
    path.unlink()


# --- what runs


def unit(name: str, state: str) -> Do:
    @contextlib.contextmanager
    def do(healthy: Healthy) -> Iterator[None]:
        healthy.says(name, state)
        yield
        healthy.says(name, "active")

    return do


def other_port(healthy: Healthy) -> str:
    site = healthy.site()
    port = site.config().service.console_port
    site.store.close()
    return f"127.0.0.1 {port + 1}"


def elsewhere(site: Any) -> None:
    services.configure(site, console_port=site.config().service.console_port + 1)


def unknown_name(site: Any) -> None:
    networks.add(site, "friends", ["friend.example"], resolver=lambda names: dict.fromkeys(names, ("192.0.2.7",)))
    lookups.resolve(site, lambda names: dict.fromkeys(names, "no such name"))


def clock_drifts(healthy: Healthy) -> AbstractContextManager[object]:
    return write(lambda one: one.tools / "timedatectl", b"#!/bin/sh\necho no\n")(healthy)


@contextlib.contextmanager
def open_program(healthy: Healthy) -> Iterator[None]:
    """The code that root runs lies in a folder that everybody may change."""
    folder = healthy.settings.home.parent / "program"
    folder.mkdir()
    folder.chmod(0o777)
    with patched(file_checks, "PROGRAM", lambda _: (folder,))(healthy):
        yield
    folder.rmdir()


BREAKS = (
    Break("program-open", open_program, lambda one: str(one.settings.home.parent / "program")),
    Break("store-unusable", write(database, b"no store" * 1000), text(database)),
    Break("store-damaged", damaged, text(database)),
    Break("audit-broken", sql("UPDATE audit SET actor = 'nobody' WHERE seq = 2"), says("audit trail")),
    Break(
        "backup-old",
        sql("UPDATE audit SET kind = 'site.changed' WHERE kind = 'backup.made'"),
        says(""),
        also=("audit-broken",),
    ),
    Break("backup-old", a_month_after_a_backup, says(""), name="days"),
    Break("disk-read-only", read_only, text(in_published(""))),
    Break("disk-full", small_disk, text(in_published(""))),
    Break(
        "folder-above",
        mode(lambda one: one.settings.home.parent, 0o777),
        lambda one: str(one.settings.home.parent),
    ),
    Break("file-link", linked, text(in_published("sidebar.json"))),
    Break("file-link", named_twice, text(in_authority("service.pem")), name="hard"),
    Break("file-open", mode(key("device"), 0o640), text(key("device")), mends=True, name="key"),
    Break("file-open", mode(database, 0o644), text(database), mends=True, name="store"),
    Break("file-open", mode(in_published("server.pem"), 0o644), text(in_published("server.pem")), mends=True),
    Break(
        "file-open",
        mode(lambda one: one.settings.home, 0o777),
        lambda one: str(one.settings.home),
        mends=True,
        name="home",
    ),
    Break(
        "file-open",
        mode(lambda one: one.settings.spool, 0o2770),
        lambda one: str(one.settings.spool),
        mends=True,
        name="spool",
    ),
    Break("file-open", owned(key("server"), "pi"), text(key("server")), mends=True, name="owner"),
    Break("file-shut", owned(in_authority("service.pem"), "root"), text(in_authority("service.pem")), mends=True),
    Break(
        "file-shut",
        mode(in_published("server.pem"), 0o600),
        text(in_published("server.pem")),
        mends=True,
        name="group",
    ),
    Break(
        "unit-open",
        mode(lambda one: one.etc / "redlatch.service", 0o666),
        lambda one: str(one.etc / "redlatch.service"),
        mends=True,
    ),
    Break(
        "backup-open", new(in_authority("monday.age"), b"age", 0o644), text(in_authority("monday.age")), mends=True
    ),
    Break("key-missing", gone(key("device")), text(key("device"))),
    Break("key-other", write(key("device"), private_key_pem(generate_key(), None)), text(key("device"))),
    Break("key-other", write(key("server"), b"no key"), text(key("server")), name="none"),
    Break(
        "key-orphan",
        new(lambda one: one.settings.keys / "device-ca-old.pem", private_key_pem(generate_key(), None), 0o600),
        lambda one: str(one.settings.keys / "device-ca-old.pem"),
    ),
    Break("flows-are-root", in_group_disk, lambda one: one.home.node_red.name),
    Break("flows-are-root", sudo_without_password, lambda one: one.home.node_red.name, name="sudo"),
    Break("keys-in-reach", key_for_all, text(key("device")), mends=True, also=("file-open",)),
    Break("clock-behind", later(-9999), says("")),
    Break("clock-behind", later(-2), says(""), name="site"),
    Break("clock-drifts", clock_drifts, says("")),
    Break("ca-ending", short_ca, says("device CA")),
    Break("server-pair", other_pair, text(in_published("server.pem"))),
    Break(
        "server-pair",
        write(in_authority("service.pem"), b"nothing"),
        text(in_authority("service.pem")),
        name="service",
    ),
    Break("server-ending", short_server, text(in_published("server.pem"))),
    Break("server-files", by_site(own_files), says("/nonexistent/fullchain.pem")),
    Break("devices-ending", by_site(lambda site: devices.add(site, "Lisa's tablet", days=10)), says("devices")),
    Break("no-owner", sql("UPDATE devices SET role = 'user'"), says("")),
    Break("last-owner-ending", by_site(owner_for_ten_days), says(""), also=("devices-ending",)),
    Break("not-published", write(head, b"{"), text(head), mends=True),
    Break("published-behind", interrupted, text(head), mends=True),
    Break("parts-missing", gone(a_part), text(parts), mends=True),
    Break("parts-left", left_part, text(parts), mends=True),
    Break("device-ca-differs", foreign_ca, text(in_published("device-ca.pem")), mends=True),
    Break(
        "published-unreadable", mode(lambda one: one.settings.home.parent, 0o700), text(in_published("server.pem"))
    ),
    Break("in-force-behind", claiming(version=-1), says("node-red")),
    Break("in-force-behind", claiming(digest="0" * 64), says("node-red"), name="other"),
    Break("engine-problem", claiming(problem="cannot read part"), says("node-red")),
    Break("engine-silent", claiming(at=-600), says("node-red")),
    Break("claims-planted", planted, lambda one: str(one.settings.spool / "in-force.json")),
    Break(
        "claims-planted",
        new(lambda one: one.settings.spool / "note", b"root's", 0o640, ours=False),
        lambda one: str(one.settings.spool / "note"),
        name="file",
    ),
    Break("service-stopped", unit("redlatch.service", "failed"), says("redlatch.service")),
    Break("service-deaf", by_site(elsewhere), other_port),
    Break("timer-missing", unit("redlatch-refresh.timer", "inactive"), says("redlatch-refresh.timer")),
    Break(
        "timer-missing",
        gone(lambda one: one.etc / "redlatch-resolve.timer"),
        says("redlatch-resolve.timer"),
        name="file",
    ),
    Break(
        "refresh-by-hand", patched(service_checks, "SYSTEM_HOME", lambda _: Path("/var/lib/redlatch")), says("")
    ),
    Break("names-unresolved", by_site(unknown_name), says("friend.example")),
)
