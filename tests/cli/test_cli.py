"""The command line by itself: help, output, exit codes, passphrases, what reaches a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.harness import Person
from tests.support import foreign_cas

from redlatch.cli import output
from redlatch.cli.root import cli
from redlatch.cli.session import passphrase_from_file
from redlatch.errors import FileProblem


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, as it is typed."""
    yield path
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands())


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person.create(tmp_path)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A person with a site, which the tests share."""
    person = Person.create(tmp_path_factory.mktemp("owner"))
    done = person.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase")
    assert done.returncode == 0, done.stderr
    return person


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_shows_an_example_of_that_command(path: tuple[str, ...]) -> None:
    """`--help` of every command has one, and it is a call of that very command."""
    group: click.Command = cli
    context = click.Context(cli, info_name="redlatch")
    for name in path:
        assert isinstance(group, click.Group)
        found = group.get_command(context, name)
        assert found is not None
        group = found
        context = click.Context(group, info_name=name, parent=context)
    shown = group.get_help(context)
    examples = shown.partition("Examples:")[2]
    assert " ".join(["redlatch", *path]) in examples


@pytest.mark.parametrize("path", [(), ("device",), ("device", "add"), ("up",)], ids=" ".join)
def test_help_loads_nothing_heavy(path: tuple[str, ...]) -> None:
    """Neither cryptography nor SQLAlchemy nor asyncio: help is there at once."""
    code = (
        "import sys; from redlatch.cli import run; run([*sys.argv[1:], '--help']); "
        "print([m for m in ('cryptography', 'sqlalchemy', 'alembic', 'asyncio', 'ssl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_ordinary_commands_do_without_alembic() -> None:
    """Only making a store and migrating one need it."""
    code = (
        "import sys, redlatch.bootstrap, redlatch.operations.devices; "
        "print([m for m in ('alembic', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(person: Person, shell: str) -> None:
    """It is clicks's own, for our name."""
    done = person.run("completion", shell)
    assert done.returncode == 0
    assert "_REDLATCH_COMPLETE" in done.stdout
    assert done.stderr == ""


def test_completion_completes_commands_and_options(person: Person) -> None:
    """What bash asks for, answered."""
    for words, expected in (
        ("redlatch dev", "device"),
        ("redlatch device re", "revoke"),
        ("redlatch up --us", "--user-dir"),
    ):
        done = person.run(
            _REDLATCH_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
        )
        assert f"plain,{expected}" in done.stdout.splitlines()


@pytest.mark.parametrize(
    "arguments", [["device", "list", "--json"], ["device", "add", "x", "--days", "x", "--json"]]
)
def test_an_error_in_json_is_one_document(person: Person, arguments: list[str]) -> None:
    """Code, message and hint on stdout; the same in words on stderr."""
    done = person.run(*arguments)
    document = json.loads(done.stdout)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "message", "hint"}
    assert document["error"]["message"] in done.stderr
    assert done.returncode in (1, 2)


def test_home_before_and_after_the_command_and_in_the_environment(owner: Person) -> None:
    """--home counts in both places and wins over REDLATCH_HOME."""
    site = str(owner.cwd / "site")
    assert owner.run("--home", site, "device", "list", REDLATCH_HOME="/nowhere").returncode == 0
    assert owner.run("device", "list", "--home", site, REDLATCH_HOME="/nowhere").returncode == 0
    assert owner.run("device", "list", REDLATCH_HOME="/nowhere").returncode == 1


def test_no_traceback_without_being_asked_for(person: Person) -> None:
    """A fault of our own is named as one; REDLATCH_DEBUG shows where."""
    hidden = person.run("device", "list", "--home", "/proc/self/mem/x")
    assert hidden.returncode == 1
    assert "Traceback" not in hidden.stderr
    assert hidden.stderr.startswith("redlatch: ")


def test_a_closed_pipe_is_no_error(owner: Person) -> None:
    """`redlatch audit | head -1` prints one line and complains about nothing."""
    line = f"{sys.executable} -m redlatch audit | head -n 1"
    done = subprocess.run(
        ["bash", "-c", line], env=owner.environ, cwd=owner.cwd, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_hostile_claims_do_not_reach_the_terminal(owner: Person) -> None:
    """A path with a terminal escape, a newline and a right-to-left mark is shown as text, on one line."""
    spool = owner.cwd / "site/spool/access.jsonl"
    entry = {
        "at": 1.0, "from": "10.0.0.9", "device": None, "fp": None, "method": "GET\x1b[2J",
        "path": "/\x1b]0;evil\x07\n\u202eroot",
        "allow": False, "reason": "no-certificate", "upgrade": False, "count": 3,
    }  # fmt: skip
    spool.write_text(json.dumps(entry) + "\nnonsense\n")
    spool.chmod(0o600)
    done = owner.run("log")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "refused (no-certificate)" in done.stdout
    assert "(3 times)" in done.stdout


def test_a_name_from_the_argument_does_not_reach_the_terminal_raw(owner: Person) -> None:
    """Even in an error message."""
    done = owner.run("device", "show", "\x1b]0;evil\x07\u202e")
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr


def test_the_passphrase_protects_the_ca_keys(person: Person) -> None:
    """With it devices are added; without it, or with another, nothing is issued; listing needs none."""
    good, bad = person.cwd / "good", person.cwd / "bad"
    for path, text in ((good, "correct horse\n"), (bad, "battery staple\n")):
        path.write_text(text)
        path.chmod(0o600)
    up = ("up", "--user-dir", "node-red", "--yes")
    refused = person.run(*up)
    assert refused.returncode == 1
    assert not (person.cwd / "site").exists()
    assert person.run(*up, REDLATCH_PASSPHRASE_FILE="good").returncode == 0
    for key in (person.cwd / "site/authority/keys").iterdir():
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in key.read_bytes()
    add = ("device", "add", "phone", "--json")
    assert json.loads(person.run(*add).stdout)["error"]["code"] == "passphrase"
    assert person.run(*add, REDLATCH_PASSPHRASE_FILE="bad").returncode != 0
    assert not (person.cwd / "phone.p12").exists()
    assert person.run(*add, REDLATCH_PASSPHRASE_FILE="good").returncode == 0
    assert "phone" in person.run("device", "list").stdout
    assert "correct" not in person.run("audit", "--json").stdout


def test_a_locked_file_from_elsewhere(person: Person) -> None:
    """It is under a password of its own, which nobody is asked for here; a file that holds it opens it."""
    person.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase")
    company = foreign_cas.make(person.cwd, "company", foreign_cas.CA)
    card = foreign_cas.make(person.cwd, "card", foreign_cas.LEAF, by=company)
    locked = ("pkcs12", "-export", "-certfile", company.cert, "-passout", f"pass:{foreign_cas.PASSWORD}")
    foreign_cas.openssl(*locked, "-in", card.cert, "-inkey", card.key, "-out", person.cwd / "card.p12")
    foreign_cas.openssl(*locked, "-in", company.cert, "-inkey", company.key, "-out", person.cwd / "company.p12")
    (person.cwd / "password").write_text(foreign_cas.PASSWORD + "\n")
    (person.cwd / "password").chmod(0o600)
    for command in (("device", "adopt", "Ada", "card.p12"), ("ca", "import", "device", "company.p12", "--yes")):
        done = person.run(*command)
        assert done.returncode == 1
        assert f"{command[3]}: it is under a password of its own, and nobody can be asked" in done.stderr
        assert "--password" in done.stderr
        assert "CA keys" not in done.stderr
        done = person.run(*command, "--password", "password")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_passphrase_file_of_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """Whoever else may read or write it; 0600 is taken."""
    path = tmp_path / "passphrase"
    path.write_text("correct horse\nsecond line\n")
    path.chmod(mode)
    monkeypatch.setenv("REDLATCH_PASSPHRASE_FILE", str(path))
    with pytest.raises(FileProblem) as caught:
        passphrase_from_file()
    assert "chmod 600" in caught.value.hint
    path.chmod(0o600)
    assert passphrase_from_file() == b"correct horse"


@pytest.mark.parametrize("kind", ["missing", "empty", "fifo", "folder", "giant"])
def test_an_odd_passphrase_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """And none of them makes redlatch wait."""
    path = tmp_path / "passphrase"
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(mode=0o700)
    elif kind != "missing":
        path.write_text("\n" if kind == "empty" else "x" * 5000)
        path.chmod(0o600)
    monkeypatch.setenv("REDLATCH_PASSPHRASE_FILE", str(path))
    with pytest.raises(FileProblem):
        passphrase_from_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_sudo_writes_belongs_to_who_called_it(tmp_path: Path) -> None:
    """File, folder and PEM files are the caller's, 0600 and 0700; the site stays root's."""
    person = Person.create(tmp_path)
    environ = person.environ | {"SUDO_UID": "1", "SUDO_GID": "1", "SUDO_USER": "daemon"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "redlatch", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True
        ).stdout

    run("up", "--user-dir", "node-red", "--yes")
    run("device", "add", "phone")
    run("device", "add", "script", "--format", "pem", "--out", "script")
    for name, mode in (("phone.p12", 0o600), ("script", 0o700), ("script/key.pem", 0o600)):
        state = (tmp_path / name).stat()
        assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (1, 1, mode)
    assert (tmp_path / "site/authority").stat().st_uid != 1
    assert "daemon" in run("audit")


def test_a_link_in_place_of_the_output_is_not_followed(owner: Person) -> None:
    """Neither to a file nor into nothing: nothing is issued."""
    victim = owner.cwd / "victim"
    victim.write_text("mine")
    (owner.cwd / "x.p12").symlink_to(victim)
    (owner.cwd / "y.p12").symlink_to(owner.cwd / "nothing")
    for name in ("x", "y"):
        done = owner.run("device", "add", name)
        assert done.returncode == 1
        assert "exists already" in done.stderr
        assert "no device named" in owner.run("device", "show", name).stderr
    assert victim.read_text() == "mine"
    assert not (owner.cwd / "nothing").exists()


def test_what_cannot_be_written_is_not_issued(owner: Person) -> None:
    """A folder that takes nothing (/proc): an error, no device, no orphan."""
    done = owner.run("device", "add", "z", "--out", "/proc/x.p12")
    assert done.returncode == 1
    assert done.stderr.startswith("redlatch: cannot write /proc/x.p12")
    assert "no device named" in owner.run("device", "show", "z").stderr
    assert owner.run("device", "add", "z").returncode == 0


@given(st.text(max_size=40))
def test_safe_text_is_one_line_without_controls(text: str) -> None:
    """Whatever goes in, a terminal cannot be steered by what comes out, and print() can encode it."""
    shown = output.safe(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029\u202e\u2066" for c in shown)
    shown.encode()


def test_umlauts_and_emoji_are_shown_as_they_are() -> None:
    """Only what steers is spelled out."""
    assert output.safe("Küche 📱 Bart's „Handy“") == "Küche 📱 Bart's „Handy“"
    assert output.safe("a\x1bb\u202ec\n") == "a\\x1bb\\u202ec\\x0a"


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Wide characters and combining marks count as the columns they take."""
    output.Output(as_json=False).table(("NAME", "X"), [("日本", "1"), ("Ku\u0308che", "2"), ("plain", "3")])
    lines = capsys.readouterr().out.splitlines()
    assert [output.width(line[: line.index(x)]) for line, x in zip(lines, "X123", strict=True)] == [7] * 4


def test_nothing_is_coloured_into_a_pipe(owner: Person) -> None:
    """A pipe gets plain text."""
    assert "\x1b" not in owner.run("status").stdout


def test_a_kill_at_any_moment_leaves_the_old_or_the_new(owner: Person) -> None:
    """kill -9 of `device add` at 8 moments: afterwards the same call works, or says that the device exists."""
    begun = time.monotonic()
    assert owner.run("device", "add", "killed").returncode == 0
    whole = time.monotonic() - begun
    for number in range(8):
        name = f"killed {number}"
        process = owner.start("device", "add", name)
        try:
            process.wait(whole * (0.4 + number * 0.08))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        exists = owner.run("device", "show", name).returncode == 0
        again = owner.run("device", "add", name)
        if not exists:
            assert again.returncode == 0, again.stderr
        else:
            assert again.returncode == 1
            assert owner.run("device", "renew", name, "--out", f"renewed-{number}.p12").returncode == 0
    assert owner.run("audit", "--verify").returncode == 0
