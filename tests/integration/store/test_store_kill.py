"""kill -9 in the middle: a real process is killed at many points of one change, then the store is looked at.

Two ways to choose the point. Inside SQLite, by counting the steps of its virtual machine; and inside the
kernel, by a limit on the size of files, which kills the process half-way through the very write that
crosses it (a torn page).
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.store.example import NOW, SITE, add, add_certificate, device_id

from redlatch.errors import Conflict, NotSetUp
from redlatch.store import Store

REPOSITORY = Path(__file__).parents[3]

PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from redlatch.store import Store
from tests.integration.store import example

path, what, steps, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
done = 0

def step():
    global done
    done += 1
    if done == steps:
        os.kill(os.getpid(), signal.SIGKILL)

if size:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
if what == "create":
    sys.addaudithook(lambda event, _: step() if event in {"os.link", "os.remove"} else None)
    Store.create(path, site_uuid=example.SITE, now=example.NOW)
else:
    store = Store.open(path)
    store._connection.set_progress_handler(step, 1)
    if what == "add":
        example.add(store, "phone")
    else:
        with store.write("bart", example.NOW) as tx:
            tx.revoke_device(example.device_id("phone"), example.NOW, "lost")
            tx.record("device.revoked")
    store._connection.set_progress_handler(None, 0)
print(done, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(path: Path, what: str, *, steps: int = 0, size: int = 0) -> str:
    """What the process said before it was killed: nothing, or the number of steps once it had committed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path, what, str(steps), str(size)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {-signal.SIGKILL, -signal.SIGXFSZ}, done.stderr
    return done.stdout.strip()


def state(path: Path) -> tuple[int, int, int, int]:
    """Devices in use, certificates in force, revision, events; the chain is whole."""
    with Store.open(path) as store, store.read() as r:
        assert r.verify_audit().ok
        active = list(r.active_certificates())
        in_use = [device for device in r.devices() if device.revoked_at is None]
        return len(in_use), len(active), r.site().revision, r.audit_head().seq


class Copies:
    """The same store again and again."""

    def __init__(self, store: Store) -> None:
        store.close()
        self.path, self.data = store.path, store.path.read_bytes()

    def fresh(self) -> Path:
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.path.write_bytes(self.data)
        return self.path


@pytest.fixture
def copies(store: Store, request: pytest.FixtureRequest) -> Copies:
    if request.node.callspec.params["what"] == "revoke":
        add(store, "phone")
        with store.write("bart", NOW) as tx:
            add_certificate(tx, device_id("phone"), 2)
    return Copies(store)


BEFORE_AND_AFTER = {"add": ((0, 0, 0, 1), (1, 1, 1, 3)), "revoke": ((1, 2, 2, 4), (0, 0, 3, 5))}


@pytest.mark.parametrize("what", BEFORE_AND_AFTER)
def test_killed_inside_a_change_the_store_is_old_or_new(copies: Copies, what: str) -> None:
    """At twenty points from the first step to the last: the old state with nothing half-done, or the new one."""
    before, after = BEFORE_AND_AFTER[what]
    assert state(copies.fresh()) == before
    steps = int(run(copies.fresh(), what))
    assert state(copies.path) == after  # killed after the commit was acknowledged: durable
    assert steps > 50
    for point in sorted({1, 2, steps, *range(1, steps, steps // 17)}):
        path = copies.fresh()
        said = run(path, what, steps=point)
        assert not said
        # The log is synced before the last steps: killed there it is durable, though nobody was told.
        assert state(path) in ({before} if point < steps - 5 else {before, after}), f"killed at {point} of {steps}"


@pytest.mark.parametrize("what", BEFORE_AND_AFTER)
def test_killed_inside_a_write_the_store_is_old_or_new(copies: Copies, what: str) -> None:
    """Torn by the kernel after so many bytes of the log: old or new, and the next change goes through."""
    before, after = BEFORE_AND_AFTER[what]
    run(copies.fresh(), what)
    length = copies.path.with_name("redlatch.db-wal").stat().st_size
    outcomes = set()
    for size in [*range(1, length, length // 12), length - 1, length]:
        path = copies.fresh()
        said = run(path, what, size=size)
        found = state(path)
        assert found in {before, after}
        assert found == after or not said
        outcomes.add(found)
        with Store.open(path) as store:
            add(store, "tablet")
        assert state(path)[0] == found[0] + 1
    assert before in outcomes


def test_killed_while_being_created_the_store_is_absent_or_whole(database: Path) -> None:
    """Torn at any size, or killed before it gets its name: it can be created anew, and no attempt is left."""
    for point in ({"size": 1}, {"size": 40_000}, {"steps": 1}):
        assert run(database, "create", **point) == ""
        with pytest.raises(NotSetUp):
            Store.open(database)
    assert len(list(database.parent.iterdir())) >= 3
    assert run(database, "create")
    assert [file.name for file in database.parent.iterdir() if not file.name.startswith("redlatch.db")] == []
    with Store.open(database) as store, store.read() as r:
        assert r.site().uuid == SITE
        assert r.verify_audit().ok


def test_killed_once_it_has_its_name_a_created_store_is_whole(database: Path) -> None:
    """Before its other name is gone: it opens, and is not made a second time."""
    assert run(database, "create", steps=2) == ""
    with Store.open(database) as store, store.read() as r:
        assert r.site().uuid == SITE
    with pytest.raises(Conflict):
        Store.create(database, site_uuid=SITE, now=NOW)
