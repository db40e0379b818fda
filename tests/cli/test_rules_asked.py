"""Changes of rules that are asked about, at a real terminal."""

from __future__ import annotations

import json

import pytest
from tests.cli.harness import Person
from tests.cli.terminal import Terminal


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody with a site, which no test leaves changed."""
    made = Person.create(tmp_path_factory.mktemp("asked"))
    assert made.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase").returncode == 0
    return made


def rules(person: Person) -> str:
    return person.run("rules", "export").stdout


def test_what_a_rule_without_a_certificate_brings_is_said_first(person: Person) -> None:
    """Then it is asked; no changes nothing."""
    before = rules(person)
    with Terminal(person, "rule", "add", "--path", "/hook", "--anyone") as terminal:
        terminal.expect("anyone, with or without a certificate, from anywhere, may reach /hook")
        terminal.expect("no longer insists on a certificate in the networks of such rules")
        terminal.expect("Chromium that once came without a certificate")
        terminal.expect("a second port .* avoids both")
        terminal.expect(r"Add the rule\? \[y/N\]")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert "nothing was changed" in terminal.shown
    assert rules(person) == before


def test_the_last_way_into_the_editor_stays(person: Person) -> None:
    """Nobody is asked: it takes --force."""
    assert person.run("device", "add", "desk", "--out", "desk.p12").returncode == 0
    with Terminal(person, "rule", "remove", "2") as terminal:
        terminal.expect("nobody could reach the editor any more to change flows")
        assert terminal.end() == 1
    assert "admin" in rules(person)


def test_a_file_is_shown_before_it_is_applied(person: Person) -> None:
    """With what comes and goes; ctrl-c changes nothing, yes all of it."""
    before = rules(person)
    (person.cwd / "before.toml").write_text(before)
    (person.cwd / "wanted.toml").write_text(before.replace('area = "editor-read"', 'area = "static"'))
    for answer, code in (("\x03", 130), ("y\n", 0)):
        with Terminal(person, "rules", "apply", "wanted.toml") as terminal:
            terminal.expect("- devices with the role viewer, from anywhere, may reach the editor, reading only")
            terminal.expect(r"\+ devices with the role viewer, from anywhere, may reach the static files")
            terminal.expect(r"Apply this\? \[y/N\]")
            assert rules(person) == before
            terminal.type(answer)
            assert terminal.end() == code
    assert "static" in rules(person)
    done = person.run("rules", "apply", "before.toml", "--yes", "--json")
    assert json.loads(done.stdout)["changed"] is True
    assert sorted(rules(person).splitlines()) == sorted(before.splitlines())


def test_the_export_is_utf_8_whatever_the_terminal_is(person: Person) -> None:
    """A file that was written under another locale can be applied."""
    assert person.run("network", "add", "home", "10.0.0.1 # Küche").returncode == 0
    shown = person.run("rules", "export", LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert '"10.0.0.1 # Küche"' in shown.stdout
    assert person.run("network", "remove", "home").returncode == 0
