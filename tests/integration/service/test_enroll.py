"""`redlatch enroll` against the real service, and against servers that are up to no good."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from tests.support.enrolling import Enrolling, enrolling

from redlatch.errors import Conflict, FileProblem, InvalidInput
from redlatch.operations import devices, https, links
from redlatch.operations import enrolling as client
from redlatch.operations.enrolling import EnrolmentRefused, enroll, renew
from redlatch.operations.https import NotTrusted
from redlatch.operations.site import authority
from redlatch.pki.certificates import certificate_pem, load_certificates
from redlatch.pki.keys import load_private_key


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolling]:
    with enrolling(tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture
def root(at: Enrolling, tmp_path: Path) -> Path:
    file = tmp_path / "root.pem"
    file.write_bytes(certificate_pem(authority(at.site, "server", signing=False).certificate))
    return file


def redlatch(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "redlatch", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_open(at: Enrolling, name: str) -> bool:
    return any(one.name == name for one in links.open_links(at.site))


def pair_fits(folder: Path) -> bool:
    (cert,) = load_certificates((folder / "cert.pem").read_bytes())
    return cert.public_key() == load_private_key((folder / "key.pem").read_bytes()).public_key()


# --- a new key


def test_command_with_a_pin(at: Enrolling, tmp_path: Path) -> None:
    """Key, certificate and root, with the right modes, even for an owner; the link comes from stdin."""
    folder = tmp_path / "new"
    token = at.invite("pinned machine", "owner", pinned=True)
    done = redlatch(
        "enroll", "-", "--pin", at.context.pin(), "--out", str(folder), "--json", stdin=at.url(token) + "\n"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["changed"], told["device"], told["password"]) == (True, "pinned machine", None)
    assert {path.name: mode(path) for path in folder.iterdir()} == {
        "key.pem": 0o600, "cert.pem": 0o644, "server-ca.pem": 0o644, "enrolment.json": 0o600,
    }  # fmt: skip
    assert mode(folder) == 0o700
    assert pair_fits(folder)
    (shown,) = devices.show(at.site, "pinned machine").certificates
    assert shown.fingerprint == told["fingerprint"]
    kept = json.loads((folder / "enrolment.json").read_text())
    assert kept["renew"] == f"https://localhost:{at.console_port}/renew"
    assert token not in (folder / "enrolment.json").read_text() + done.stdout + done.stderr


def test_a_wrong_pin_sends_nothing(at: Enrolling, tmp_path: Path) -> None:
    """The token is not given to a server with another key; the link stays good, and no file is left."""
    token = at.invite("wrong pin")
    wrong = "sha256//" + "A" * 43 + "="
    done = redlatch("enroll", at.url(token), "--pin", wrong, "--out", str(tmp_path / "x"))
    assert done.returncode == 1
    assert "another key than the pinned one; nothing was sent" in done.stderr
    assert "hint: " in done.stderr
    assert token not in done.stderr
    assert is_open(at, "wrong pin")
    assert not (tmp_path / "x").exists()


def test_unpinned_and_untrusted_is_refused(at: Enrolling, root: Path, tmp_path: Path) -> None:
    """Without a pin the certificate must be one that this machine, or the file given, vouches for."""
    token = at.invite("verified")
    with pytest.raises(NotTrusted, match="not trusted here"):
        enroll(at.url(token), tmp_path / "x")
    assert is_open(at, "verified")
    with pytest.raises(NotTrusted):
        enroll(at.url(token, "127.1"), tmp_path / "x", ca=root)  # a name that it does not have
    assert enroll(at.url(token), tmp_path / "x", ca=root).device == "verified"


def test_nothing_is_overwritten(at: Enrolling, tmp_path: Path) -> None:
    """What is in the folder stays, and the link stays good; a dangling symlink counts as well."""
    token = at.invite("no overwriting")
    for name in ("key.pem", "cert.pem", "enrolment.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileProblem, match="exists already"):
            enroll(at.url(token), folder, pin=at.context.pin())
    assert not (tmp_path / "elsewhere").exists()
    assert is_open(at, "no overwriting")


def test_p12_and_header(at: Enrolling, tmp_path: Path) -> None:
    """Both hold the same key, are nobody else's to read, and the password is printed once."""
    done = redlatch(
        "enroll", at.url(at.invite("microcontroller")), "--pin", at.context.pin(), "--out", str(tmp_path),
        "--p12", "--header", "--key", "rsa2048", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened = load_pkcs12((tmp_path / "key.p12").read_bytes(), json.loads(done.stdout)["password"].encode())
    assert opened.key is not None
    key = (tmp_path / "key.pem").read_bytes()
    assert opened.key.public_key() == load_private_key(key).public_key()
    header = (tmp_path / "redlatch_key.h").read_text()
    for line in key.decode().splitlines():
        assert f'  "{line}\\n"\n' in header
    assert mode(tmp_path / "key.p12") == mode(tmp_path / "redlatch_key.h") == 0o600


def test_a_refused_link_leaves_nothing(at: Enrolling, tmp_path: Path) -> None:
    """The server's words are shown; a link that is used up makes no folder."""
    token = at.invite("used by another")
    assert at.redeem(token).status == 200
    done = redlatch("enroll", at.url(token), "--pin", at.context.pin(), "--out", str(tmp_path / "x"), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "enrolment-refused"
    assert "this link was used already" in done.stderr
    assert not (tmp_path / "x").exists()


#: Killed before the n-th file gets its name.
KILLED = """
import os, signal, sys
from redlatch.operations.enrolling import enroll
left = int(sys.argv[1])
def count(event, _):
    global left
    if event == "os.rename":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
enroll(sys.argv[2], __import__("pathlib").Path(sys.argv[3]), pin=sys.argv[4])
"""


def test_wherever_it_is_killed_there_is_a_way_on(at: Enrolling, tmp_path: Path) -> None:
    """The link may be used up by then: either the key can be renewed, or the folder takes a new link."""
    renewed = 0
    for number in range(1, 30):
        folder, token = tmp_path / str(number), at.invite(f"killed {number}")
        command = [sys.executable, "-c", KILLED, str(number), at.url(token), str(folder), at.context.pin()]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        try:
            enroll(at.url(at.invite(f"again {number}")), folder, pin=at.context.pin())
        except FileProblem as error:
            words = error.hint
            renewed += 1
        else:
            words = "--renew"
        assert "--renew" in words
        assert renew(folder, now=True).fresh
        assert pair_fits(folder)
        assert {path.name for path in folder.iterdir() if not path.name.startswith("..")} == {
            "key.pem", "cert.pem", "server-ca.pem", "enrolment.json",
        }  # fmt: skip
    assert 7 <= number < 29
    assert renewed


@pytest.mark.parametrize("file", [".key.pem.next", ".enrolment.json.next", ".cert.pem.next", "key.p12"])
def test_a_full_disk_leaves_what_can_be_used_or_nothing(
    file: str, at: Enrolling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same folder then takes a new link, or the key in it is renewed."""
    real = client.write_atomic

    def full(path: Path, data: bytes, *, mode: int) -> None:
        if path.name == file:
            raise FileProblem("no space left on device")
        real(path, data, mode=mode)

    folder = tmp_path / "key"
    monkeypatch.setattr(client, "write_atomic", full)
    with pytest.raises(FileProblem, match="no space"):
        enroll(at.url(at.invite(f"full {file}")), folder, pin=at.context.pin(), p12=True)
    monkeypatch.setattr(client, "write_atomic", real)
    if file == "key.p12":
        assert renew(folder, now=True, p12=True).fresh
    else:
        assert not folder.exists()


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("http://localhost/#" + "a" * 26, "no https link"),
        ("https://localhost:99999/#" + "a" * 26, "no https link"),
        ("https://user:pw@localhost/#" + "a" * 26, "no https link"),
        ("https://localhost/", "not complete"),
        ("https://localhost/#" + "a" * 25, "not complete"),
        ("file:///etc/passwd", "no https link"),
        ("", "no https link"),
    ],
)
def test_what_is_no_link(tmp_path: Path, link: str, says: str) -> None:
    """Is refused before anything is asked or made."""
    with pytest.raises(InvalidInput, match=says):
        enroll(link, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "pin", ["", "sha256//", "sha256//AAAA", "md5//" + "A" * 43 + "=", "sha256//" + "A" * 43 + "=\n;x"]
)
def test_what_is_no_pin(tmp_path: Path, pin: str) -> None:
    """A pin that checks nothing is none."""
    with pytest.raises(InvalidInput, match="no pin"):
        enroll("https://localhost/#" + "a" * 26, tmp_path / "x", pin=pin)


def test_calls_that_make_no_sense(tmp_path: Path) -> None:
    """End with 2 and a hint."""
    for arguments in ([], ["--now"], ["--renew", "--pin", "x"]):
        done = redlatch("enroll", *arguments, "--out", str(tmp_path / "x"))
        assert (done.returncode, done.stdout) == (2, "")
        assert "hint: " in done.stderr
    assert redlatch("enroll", "-", "--out", str(tmp_path / "x")).returncode == 2


# --- renewal


@pytest.fixture
def enrolled(at: Enrolling, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "key"
    enroll(at.url(at.invite(request.node.name[:60])), folder, pin=at.context.pin())
    return folder


def test_renewal_waits_until_it_is_time(at: Enrolling, enrolled: Path) -> None:
    """More than 30 days left: nothing happens, and that is no failure. With less, it is renewed unasked."""
    before = (enrolled / "cert.pem").read_bytes()
    done = redlatch("enroll", "--renew", "--out", str(enrolled), "--json")
    assert (done.returncode, json.loads(done.stdout)["changed"]) == (0, False)
    assert (enrolled / "cert.pem").read_bytes() == before
    soon = load_certificates(before)[0].not_valid_after_utc - timedelta(days=29)
    assert renew(enrolled, clock=soon).fresh
    assert (enrolled / "cert.pem").read_bytes() != before
    assert pair_fits(enrolled)
    with pytest.raises(Conflict, match="ended on"):
        renew(enrolled, clock=soon + timedelta(days=800))


def test_a_short_life_is_renewed_in_its_last_third(at: Enrolling, tmp_path: Path) -> None:
    """A key for nine days has more than three left for six of them."""
    enroll(at.url(at.invite("short", days=9)), tmp_path, pin=at.context.pin())
    end = load_certificates((tmp_path / "cert.pem").read_bytes())[0].not_valid_after_utc
    assert not renew(tmp_path, clock=end - timedelta(days=4)).fresh
    assert renew(tmp_path, clock=end - timedelta(days=2)).fresh


def test_renewal_now(at: Enrolling, enrolled: Path) -> None:
    """A fresh key over the present certificate, verified by the root that came with it; the old one stays good."""
    old = (enrolled / "key.pem").read_bytes()
    done = redlatch("enroll", "--renew", "--now", "--out", str(enrolled), "--p12", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (enrolled / "key.pem").read_bytes() != old
    assert pair_fits(enrolled)
    assert load_pkcs12((enrolled / "key.p12").read_bytes(), told["password"].encode()).key is not None
    certificates = devices.show(at.site, told["device"]).certificates
    assert [one.revoked_at for one in certificates] == [None, None]
    assert told["fingerprint"] in {one.fingerprint for one in certificates}
    assert {path.name for path in enrolled.iterdir()} == {
        "key.pem", "cert.pem", "server-ca.pem", "enrolment.json", "key.p12",
    }  # fmt: skip


def test_a_revoked_key_renews_nothing(at: Enrolling, enrolled: Path) -> None:
    """It is refused in words, and the files stay as they are."""
    before = {path.name: path.read_bytes() for path in enrolled.iterdir()}
    devices.revoke(
        at.site, json.loads(redlatch("enroll", "--renew", "--out", str(enrolled), "--json").stdout)["device"]
    )
    with pytest.raises(EnrolmentRefused, match="not in use"):
        renew(enrolled, now=True)
    assert {path.name: path.read_bytes() for path in enrolled.iterdir()} == before


def test_a_renewal_that_was_cut_is_finished(at: Enrolling, enrolled: Path) -> None:
    """Killed between the two names, the next call ends with a pair that fits; killed before, with the old one."""
    old = {name: (enrolled / name).read_bytes() for name in ("key.pem", "cert.pem")}
    renew(enrolled, now=True)
    new = {name: (enrolled / name).read_bytes() for name in ("key.pem", "cert.pem")}
    for present, waiting in (
        ({"key.pem": old["key.pem"], "cert.pem": old["cert.pem"]}, new),  # before the first name
        ({"key.pem": new["key.pem"], "cert.pem": old["cert.pem"]}, {"cert.pem": new["cert.pem"]}),  # between them
        (old, {"key.pem": new["key.pem"]}),  # before the certificate was there
    ):
        for name, content in present.items():
            (enrolled / name).write_bytes(content)
        for name, content in waiting.items():
            (enrolled / f".{name}.next").write_bytes(content)
        renew(enrolled)
        assert pair_fits(enrolled)
        expected = new if "cert.pem" in waiting else old
        assert (enrolled / "cert.pem").read_bytes() == expected["cert.pem"]
        assert not list(enrolled.glob(".*"))


def test_a_folder_that_is_none(tmp_path: Path, enrolled: Path) -> None:
    """Missing and garbled memories are said as such."""
    with pytest.raises(FileProblem, match="there is no"):
        renew(tmp_path / "nowhere")
    (enrolled / "enrolment.json").write_text("[")
    with pytest.raises(FileProblem, match="garbled"):
        renew(enrolled, now=True)


def test_the_server_of_a_renewal_is_checked(at: Enrolling, enrolled: Path, tmp_path: Path) -> None:
    """Neither its root nor its pin: refused. Its pin alone will do, as long as the server has that key."""
    foreign = tmp_path / "foreign.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x"]
    subprocess.run([*made, "-out", foreign], check=True, capture_output=True)
    (enrolled / "server-ca.pem").write_bytes(foreign.read_bytes())
    assert renew(enrolled, now=True).fresh
    (enrolled / "server-ca.pem").write_bytes(foreign.read_bytes())
    kept = json.loads((enrolled / "enrolment.json").read_text())
    kept["pin"] = "sha256//" + "A" * 43 + "="
    (enrolled / "enrolment.json").write_text(json.dumps(kept))
    with pytest.raises(NotTrusted):
        renew(enrolled, now=True)


def test_only_the_same_host_is_told_for_renewals(at: Enrolling) -> None:
    """A server cannot send a later renewal, and with it this machine's certificate, to somebody else."""
    url = https.checked_url("https://localhost:1882/#x")
    answers: dict[str, Any] = {
        "https://localhost:1881/renew": "https://localhost:1881/renew",
        "https://elsewhere.example/renew": None,
        "http://localhost/renew": None,
        "": None,
    }
    for told, kept in answers.items():
        assert client._renew_url(https.Answer(200, {"redlatch-renew": told}, b""), url) == kept


def test_umask_and_environment_do_not_matter(at: Enrolling, tmp_path: Path) -> None:
    """A careless umask makes no key readable."""
    before = os.umask(0)
    try:
        enroll(at.url(at.invite("umask")), tmp_path / "x", pin=at.context.pin(), p12=True, header=True)
    finally:
        os.umask(before)
    for name in ("key.pem", "key.p12", "redlatch_key.h", "enrolment.json"):
        assert mode(tmp_path / "x" / name) == 0o600


def test_it_needs_no_store() -> None:
    """A sensor that only gets and renews its key loads neither SQLAlchemy nor a web server."""
    heavy = (
        "import sys, redlatch.cli.enroll, redlatch.operations.enrolling as e; e.RENEW_BEFORE; "
        "print(sorted({'sqlalchemy', 'starlette', 'uvicorn', 'jinja2'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True) == "[]\n"
