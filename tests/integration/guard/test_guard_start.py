"""What Node-RED starts with: whatever is missing or broken then, it does not serve, or it refuses everybody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest
from tests.integration.guard.conftest import Lock
from tests.integration.guard.test_guard_certificates import reaches
from tests.support.clients import Connection, Refused, request
from tests.support.nodered import NodeRed, node, write_settings
from tests.support.wait import until


def ends(red: NodeRed) -> int:
    """Starts a Node-RED that has to end by itself without having served; its exit code."""
    red.launch()
    code = red.wait()
    with pytest.raises((ConnectionError, Refused)):
        Connection(red.port)
    return code


@pytest.mark.parametrize("file", ["server.pem", "device-ca.pem"])
@pytest.mark.parametrize("content", [None, b"", b"garbage"], ids=["missing", "empty", "garbage"])
def test_no_start_without_keys(unstarted: Callable[..., Lock], file: str, content: bytes | None) -> None:
    """Without a usable server key or device CA Node-RED ends with an error that names the file."""
    lock = unstarted()
    if content is None:
        (lock.site.published / file).unlink()
    else:
        lock.site.put(file, content)
    assert ends(lock.red) != 0
    assert f"could not be protected: {file}" in lock.red.log()


@pytest.mark.parametrize("content", [None, b"", b"garbage"], ids=["missing", "empty", "garbage"])
def test_nobody_gets_in_without_a_snapshot(unstarted: Callable[..., Lock], content: bytes | None) -> None:
    """A snapshot that cannot be read at the start refuses everybody, until a good one comes."""
    lock = unstarted()
    path = lock.site.published / "snapshot.json"
    good = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        lock.site.put("snapshot.json", content)
    with lock.red:
        for device in (lock.admin, None):
            with pytest.raises(Refused):
                request(lock.port, "GET", "/hello", device)
        claim = json.loads((lock.site.spool / "in-force.json").read_text())
        assert claim["version"] == 0
        assert "snapshot.json" in claim["problem"]
        lock.site.put("snapshot.json", good)
        until(lambda: reaches(lock, lock.admin), what="the good snapshot")


@pytest.mark.parametrize("what", ["guard.js", "the folder", "decide.js", "auth.js", "preload.js"])
def test_no_start_without_the_guard(unstarted: Callable[..., Lock], what: str) -> None:
    """When a file of the guard is gone Node-RED ends with an error instead of starting without it."""
    lock = unstarted()
    folder = next(lock.site.published.glob("guard-*"))
    if what == "guard.js":
        (lock.site.published / what).unlink()
    elif what == "the folder":
        shutil.rmtree(folder)
    else:
        (folder / what).unlink()
    assert ends(lock.red) != 0


def test_no_start_with_a_half_written_guard(unstarted: Callable[..., Lock]) -> None:
    """A guard file that was cut short ends the start."""
    lock = unstarted()
    file = next(lock.site.published.glob("guard-*")) / "enforce.js"
    file.write_bytes(file.read_bytes()[:3000])
    assert ends(lock.red) != 0


@pytest.mark.parametrize(
    "undo",
    [
        pytest.param("module.exports.https = undefined;", id="https-nulled"),
        pytest.param("module.exports.https = () => null;", id="https-falsy"),
        pytest.param(
            "{const own = module.exports.https; module.exports.https = () => ({...own()});}", id="https-copied"
        ),
    ],
)
def test_no_start_with_the_lock_undone(unstarted: Callable[..., Lock], undo: str) -> None:
    """Lines after ours that take the https settings away stop Node-RED before its port opens."""
    lock = unstarted()
    settings = lock.red.user_dir / "settings.js"
    settings.write_text(settings.read_text() + undo + "\n")
    assert ends(lock.red) == 78


def test_a_double_wrap_is_harmless(unstarted: Callable[..., Lock]) -> None:
    """The block twice, or settings.js loaded twice, is the same as once."""
    lock = unstarted()
    settings = lock.red.user_dir / "settings.js"
    block = settings.read_text().splitlines()[-1]
    settings.write_text(settings.read_text() + block + "\n")
    with lock.red:
        assert request(lock.port, "GET", "/hello", lock.admin).status == 200
        with pytest.raises(Refused):
            request(lock.port, "GET", "/hello")


def test_loading_the_settings_keeps_nothing_alive(unstarted: Callable[..., Lock]) -> None:
    """A health check that loads settings.js ends by itself: no watcher, timer or server begins."""
    lock = unstarted()
    done = subprocess.run(
        [node(lock.version), "-e", f'require("{lock.red.user_dir}/settings.js")'],
        timeout=20, check=False, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_persons_own_https_is_replaced(unstarted: Callable[..., Lock]) -> None:
    """https, httpsRefreshInterval and adminAuth of the person's own do not come back to life."""
    lock = unstarted()
    body = 'https: {key: "x", cert: "y"}, httpsRefreshInterval: 1e-5, adminAuth: {type: "credentials", users: []}'
    write_settings(lock.red.user_dir, published=lock.site.published, body=body)
    with lock.red:
        assert request(lock.port, "GET", "/flows", lock.admin).status == 200


def test_a_viewer_reads_without_admin_auth(unstarted: Callable[..., Lock]) -> None:
    """Read-only is the guard's own decision: it holds where Node-RED asks nobody who they are."""
    lock = unstarted(keep_auth=True)
    viewer = lock.device("viewer")
    with lock.red:
        assert request(lock.port, "GET", "/flows", viewer).status == 200
        deploy = {"Content-Type": "application/json"}
        assert request(lock.port, "POST", "/flows", viewer, body=b"[]", headers=deploy).status == 403
        assert request(lock.port, "POST", "/flows", lock.admin, body=b"[]", headers=deploy).status == 204


def test_an_own_admin_auth_is_kept(unstarted: Callable[..., Lock]) -> None:
    """With keep_auth the person's adminAuth asks for its password behind the guard; strangers never see it."""
    lock = unstarted(keep_auth=True)
    body = 'adminAuth: {type: "credentials", users: [{username: "ann", password: "x", permissions: "*"}]}'
    write_settings(lock.red.user_dir, published=lock.site.published, body=body)
    with lock.red:
        assert request(lock.port, "GET", "/flows", lock.admin).status == 401
        with pytest.raises(Refused):
            request(lock.port, "GET", "/flows")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root; scripts/test in CI is root")
def test_the_guard_needs_only_to_read(unstarted: Callable[..., Lock]) -> None:
    """With a published folder that it can read and not write, Node-RED's user is served all the same."""
    lock = unstarted()
    for path in (lock.site.root, *lock.site.root.rglob("*"), lock.red.user_dir, *lock.red.user_dir.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for folder in lock.site.root.parents[:-1]:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    for path in (lock.site.spool, lock.red.user_dir, *lock.red.user_dir.rglob("*")):
        shutil.chown(path, "nobody", "nogroup")
    red = NodeRed(lock.version, lock.red.user_dir, user="nobody")
    with red:
        assert request(red.port, "GET", "/hello", lock.admin).status == 200
