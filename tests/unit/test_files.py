"""Rights are given to the file that was meant, whatever stands under its name by then."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from redlatch.errors import FileProblem
from redlatch.files import bring, read_settled


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_gets_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "monday.age"
    file.touch(0o644)
    bring(file, 0o600)
    assert mode(file) == 0o600


@pytest.mark.parametrize("how", ["symlink", "hard link", "fifo"])
def test_another_file_under_that_name_stays_as_it_is(how: str, tmp_path: Path) -> None:
    """Root mends in folders of redlatch's user, who can put a link in the place of what root has seen."""
    victim, name = tmp_path / "victim", tmp_path / "monday.age"
    victim.touch(0o755)
    victim.chmod(0o755)
    if how == "symlink":
        name.symlink_to(victim)
    elif how == "hard link":
        name.hardlink_to(victim)
    else:
        os.mkfifo(name, 0o644)
    with pytest.raises(FileProblem, match="cannot change the rights of"):
        bring(name, 0o600)
    assert mode(victim) == 0o755


def test_links_as_certbots_are_followed(tmp_path: Path) -> None:
    """live/pi/privkey.pem leads to ../../archive/pi/privkey1.pem, and all of it is root's, or the caller's."""
    archive, live = tmp_path / "archive/pi", tmp_path / "live/pi"
    for folder in (archive, live):
        folder.mkdir(parents=True)
    (archive / "privkey1.pem").write_text("key")
    (live / "privkey.pem").symlink_to("../../archive/pi/privkey1.pem")
    (tmp_path / "link").symlink_to(live / "privkey.pem")
    assert read_settled(tmp_path / "link", max_bytes=10) == b"key"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a folder of somebody else's")
@pytest.mark.parametrize("how", ["link", "link of root's", "folder", "hard link"])
def test_a_link_in_a_folder_of_somebody_elses_is_not(how: str, tmp_path: Path) -> None:
    """What root reads there is published to flows: a link would have it publish any key that root may read."""
    secret, theirs = tmp_path / "secret", tmp_path / "theirs"
    for folder in (secret, theirs):
        folder.mkdir()
    (secret / "key.pem").write_text("key")
    os.chown(theirs, 65534, 65534)
    name = theirs / "key.pem"
    if how == "folder":
        (theirs / "certs").symlink_to(secret)
        os.chown(theirs / "certs", 65534, 65534, follow_symlinks=False)
        name = theirs / "certs/key.pem"
    elif how == "hard link":
        name.hardlink_to(secret / "key.pem")
    else:
        name.symlink_to(secret / "key.pem")
        if how == "link":
            os.chown(name, 65534, 65534, follow_symlinks=False)
    with pytest.raises(FileProblem):
        read_settled(name, max_bytes=10)


def test_a_loop_of_links_and_a_long_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "long").write_bytes(b"x" * 11)
    for name in ("a", "long", "missing"):
        with pytest.raises(FileProblem):
            read_settled(tmp_path / name, max_bytes=10)
