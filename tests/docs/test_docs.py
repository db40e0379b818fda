"""The documentation cannot rot: what the program knows, the documents name, and what they name exists."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from tests.docs import checks_table

import redlatch
from redlatch.checks.registry import CHECKS
from redlatch.cli.root import cli
from redlatch.errors import RedlatchError

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
GUARD = ROOT / "src/redlatch/engines/nodered/guard"


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def commands() -> dict[str, click.Command]:
    """Every command by its full name, "redlatch device add"."""
    found: dict[str, click.Command] = {}

    def walk(name: str, command: click.Command) -> None:
        found[name] = command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for child in command.list_commands(context):
                below = command.get_command(context, child)
                assert below is not None, f"{name} lists {child} and does not have it"
                walk(f"{name} {child}", below)

    walk("redlatch", cli)
    return found


def options(command: click.Command) -> set[str]:
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    }


def sections(document: str) -> dict[str, str]:
    """Heading -> what stands below it until the next heading of any level."""
    parts = re.split(r"^#{1,4} +(.+)$", document, flags=re.MULTILINE)
    return {heading.strip("` "): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def first_cells(document: str) -> set[str]:
    """The code words in the first column of every table."""
    return set(re.findall(r"^\| *`([^`|]+)`", document, re.MULTILINE))


def error_codes() -> set[str]:
    for module in pkgutil.walk_packages(redlatch.__path__, "redlatch."):
        if not module.name.endswith((".__main__", ".migrations.env")):
            importlib.import_module(module.name)
    todo, found = [RedlatchError], set()
    while todo:
        kind = todo.pop()
        found.add(kind.code)
        todo += kind.__subclasses__()
    return found


def test_every_command_and_option_is_documented() -> None:
    """docs/commands.md has a section for each command, and each of its options stands there."""
    documented = sections(text("docs/commands.md"))
    everywhere = {"--home", "--json", "--help"}  # described once, for all
    missing = []
    for name, command in commands().items():
        if isinstance(command, click.Group):
            continue
        if name not in documented:
            missing.append(name)
            continue
        missing += [
            f"{name} {one}" for one in sorted(options(command) - everywhere) if one not in documented[name]
        ]
    assert missing == []


def test_what_holds_for_all_commands_is_documented() -> None:
    """--home, --json and --help are said once."""
    assert [
        one for one in ("--home", "--json", "--help", "--version") if one not in text("docs/commands.md")
    ] == []


def test_no_section_is_about_a_command_that_does_not_exist() -> None:
    """docs/commands.md names no command of the past."""
    named = {heading for heading in sections(text("docs/commands.md")) if heading.startswith("redlatch ")}
    assert named - set(commands()) == set()


def test_every_error_code_is_documented() -> None:
    """The codes of `--json` that a script may meet are in the reference, and no others."""
    documented = first_cells(sections(text("docs/reference.md"))["Error codes"])
    assert documented == error_codes()


def test_every_exit_code_is_documented() -> None:
    """An exit code that a command can end with has its meaning in docs/commands.md."""
    documented = {int(one) for one in first_cells(sections(text("docs/commands.md"))["Exit codes"])}
    assert documented == {0, 1, 2, 3, 130}


def test_every_refusal_reason_is_documented() -> None:
    """Reason codes and their texts stand in the reference as they stand in reasons.json."""
    reasons = json.loads((GUARD / "reasons.json").read_text(encoding="utf-8"))
    section = sections(text("docs/reference.md"))["Refusal reasons"]
    assert first_cells(section) == set(reasons)
    assert [code for code, reason in reasons.items() if reason["text"] not in section] == []


def test_every_audit_kind_is_documented() -> None:
    """Every kind of audit event stands in the reference."""
    from redlatch.audit import KINDS

    assert first_cells(sections(text("docs/reference.md"))["Audit events"]) == set(KINDS)


def test_every_check_is_documented_as_it_is() -> None:
    """docs/checks.md has a row for every check, with severity, meaning, remedy and causes, and no others."""
    document = text("docs/checks.md")
    assert checks_table.table() in document
    assert first_cells(sections(document)["What is looked at"]) == {one.code for one in CHECKS}


def test_what_a_check_tells_people_to_type_exists() -> None:
    """Commands and options of redlatch in the remedies are ones that it has."""
    wrong = []
    for check in CHECKS:
        for line in re.findall(r"\bredlatch ([a-z][a-z-]*(?: [a-z-]+)*)", check.remedy):
            name, rest = "redlatch", line.split()
            while rest and f"{name} {rest[0]}" in commands():
                name, rest = f"{name} {rest[0]}", rest[1:]
            known = options(commands()[name])
            wrong += [f"{check.code}: {name} {one}" for one in rest if one.startswith("--") and one not in known]
            wrong += [f"{check.code}: {line}"] if name == "redlatch" else []
    assert wrong == []


def test_every_environment_variable_is_documented() -> None:
    """What program, scripts and tests read from the environment stands in docs/configuration.md, and no more."""
    files = [
        *(ROOT / "src").rglob("*.py"),
        *GUARD.glob("*.js"),
        *(ROOT / "scripts").iterdir(),
        *(ROOT / "tests").rglob("*.py"),
        ROOT / "install.sh",
    ]
    read = {
        name
        for path in files
        if path.is_file()
        for name in re.findall(r"\bREDLATCH_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"\bREDLATCH_[A-Z_]+\b", text("docs/configuration.md")))
    assert named == read


def test_every_option_of_the_installer_is_documented() -> None:
    """README or docs say every option of install.sh."""
    accepted = set(re.findall(r"^ +(--[a-z-]+)\)", text("install.sh"), re.MULTILINE))
    assert [one for one in sorted(accepted) if one not in text("docs/installation.md")] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Links between the documents name files and headings that exist."""
    body = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", body):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#{1,6} +(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_document_is_linked_from_the_index() -> None:
    """docs/README.md names each document."""
    index = text("docs/README.md")
    assert [
        path.name
        for path in (ROOT / "docs").glob("*.md")
        if f"({path.name})" not in index and path.name != "README.md"
    ] == []


def spoken(document: Path) -> Iterator[list[str]]:
    """The calls of redlatch in a document's code: in blocks a line each, in running text between backticks."""
    body = document.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", body, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", rest)
    for line in lines:
        match = re.match(r"(?:\$ |# )?(?:sudo )?(redlatch .*)", line.strip())
        if match and not match[1].startswith("redlatch will"):
            yield shlex.split(match[1].replace("...", ""), comments=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_documents_exist(document: Path) -> None:
    """A command or option that a document tells people to type is one that redlatch has."""
    wrong = []
    for words in spoken(document):
        name, rest = words[0], words[1:]
        while rest and f"{name} {rest[0]}" in commands():
            name, rest = f"{name} {rest[0]}", rest[1:]
        command = commands()[name]
        if (
            isinstance(command, click.Group)
            and rest
            and not rest[0].startswith("-")
            and "|" not in rest[0]
            and not rest[0].isupper()
        ):
            wrong.append(" ".join(words))
        known = options(command) | {"--help", "--version"}
        wrong += [
            f"{name} {word}"
            for word in rest
            if word.startswith("--") and word.partition("=")[0].strip("[]") not in known
        ]
    assert wrong == []


def test_the_first_screen_of_the_readme_shows_the_command() -> None:
    """Whoever opens the page sees the command within the first screen."""
    head = text("README.md").splitlines()[:40]
    assert any("./install.sh" in line for line in head)


def test_nothing_of_a_workplace_is_in_the_documents() -> None:
    """No document names a path of the machine it was written on."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, check=True).stdout
    bad = [name for name in listed.decode().split("\0") if name and re.search(r"/root/(?!\.node-red)", text(name))]
    assert bad == []


def printed() -> Iterator[tuple[str, str]]:
    """Every JSON document in the transcripts of the command line's tests: (command, document)."""
    for path in sorted((ROOT / "tests/cli/transcripts").glob("*.txt")):
        pattern = r"^\$ (?:[A-Z_]+=\S+ )*(redlatch .*--json.*)\n(\{(?!\"error\").*)$"
        yield from re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)


def keys(value: object, parent: str = "") -> set[str]:
    """The keys of a document and of what is in it; what an audit event tells depends on its kind."""
    if isinstance(value, dict):
        return set(value) | {one for key, inner in value.items() for one in keys(inner, key) if key != "data"}
    if isinstance(value, list):
        return {one for inner in value for one in keys(inner, parent)}
    return set()


def test_every_key_of_json_is_documented() -> None:
    """What a command prints with --json is described in its section, or in the one that it points to."""
    described = sections(text("docs/commands.md"))
    missing = set()
    for line, shown in printed():
        words = shlex.split(line)
        name = next(n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in described)
        everywhere = ("How far a change got", "Before a change: whom it cuts, and taking it back")
        body = described[name] + "".join(described[one] for one in everywhere)
        body += "".join(described.get(other, "") for other in re.findall(r"`(redlatch [a-z ]+)`", described[name]))
        # times, numbers and lists that differ by machine are left out of a transcript
        document = json.loads(re.sub(r"(?<=: )\b(N|UNIX|[A-Z]+)\b|[\[{]\.\.\.[\]}]", "0", shown))
        missing |= {f"{name}: {key}" for key in keys(document) if not re.search(rf'[`"]{key}[`"]', body)}
    assert sorted(missing) == []
