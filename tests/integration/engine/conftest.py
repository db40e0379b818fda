"""Real users, a real systemd: what cannot be run here is skipped with its reason."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.engine.machine import Machine, why_not
from tests.support.nodered import node

from redlatch.engines.nodered.users import User, user_by_name


@pytest.fixture(scope="session")
def unix_user() -> Iterator[User]:
    """An account as Node-RED has it: unprivileged, with a home of its own; gone afterwards."""
    with account("--create-home", "--shell", "/bin/sh") as found:
        yield found


@pytest.fixture(scope="session")
def service_user() -> Iterator[User]:
    """An account as install.sh makes it for redlatch; gone afterwards."""
    with account("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin") as found:
        yield found


@contextlib.contextmanager
def account(*options: str) -> Iterator[User]:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a user")
    name = f"rl{uuid.uuid4().hex[:8]}"
    subprocess.run(["useradd", *options, name], check=True, capture_output=True)
    try:
        found = user_by_name(name)
        assert found is not None
        yield found
    finally:
        subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)
        assert name not in {entry.pw_name for entry in pwd.getpwall()}


@pytest.fixture(scope="session")
def public_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node that every user may run: the test cache may lie in a home that is closed to others."""
    folder = Path("/var/tmp") / f"redlatch-node-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    try:
        try:
            os.link(node("4.1"), folder / "node")
        except OSError:
            shutil.copy(node("4.1"), folder / "node")
        yield folder / "node"
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine of its own under a real systemd."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Machine() as made:
        yield made


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of root's that every user may pass through; pytest's own are closed."""
    folder = Path("/var/tmp") / f"redlatch-test-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
