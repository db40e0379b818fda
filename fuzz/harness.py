"""What all targets share: inputs as lines, who may refuse and how, the JavaScript half, runs without atheris.

A target raises AssertionError (or anything else that is no refusal) for a finding. What it is asked with is bytes;
most read them as lines, so that a seed can be written and a finding be read by a person.
"""

from __future__ import annotations

import atexit
import base64
import importlib
import json
import os
import pkgutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from redlatch.cli.output import safe
from redlatch.errors import RedlatchError

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
GUARD: Final = HERE.parent / "src/redlatch/engines/nodered/guard"
MOST_BYTES: Final = 4096  # longer inputs find nothing that shorter ones do not, and cost time
MOST_SECONDS: Final = 2.0  # of one input; a hundred times what the slowest takes on an idle machine

T = TypeVar("T")
Target = Callable[[bytes], None]


class Refused:
    """What `attempt` returns where the input was refused."""

    def __bool__(self) -> bool:
        return False


REFUSED: Final = Refused()


def attempt(
    call: Callable[..., T], *args: Any, also: tuple[type[Exception], ...] = (), **named: Any
) -> T | Refused:
    """What the call returns, or REFUSED when it raised a RedlatchError (or one of `also`). All else is a finding.

    A refusal has words, and as the terminal shows them they are one line that cannot steer it.
    """
    try:
        return call(*args, **named)
    except (RedlatchError, *also) as error:
        if isinstance(error, RedlatchError):
            assert error.message.strip(), "a refusal without words"
            for text in (error.message, error.hint):
                assert "\n" not in safe(text), text
                assert "\x1b" not in safe(text), text
        return REFUSED


def lines(data: bytes, count: int) -> list[str]:
    """The input as `count` lines of text, the last with all that is left. Bytes that are no UTF-8 become
    surrogates: that is how arguments and file names come.
    """
    found = data.decode("utf-8", "surrogateescape").split("\n", count - 1)
    return [*found, *[""] * (count - len(found))]


def pick(text: str, choices: Sequence[T]) -> T:
    """One of `choices`, by a word of the input; any text is one of them."""
    return choices[sum(text.encode("utf-8", "surrogateescape")) % len(choices)]


# --- the other half


class _Node:
    """One long-living node process that answers questions, a line of JSON each."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [_program(), str(HERE / "peer.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                "REDLATCH_TEST_GUARD": os.environ.get("REDLATCH_TEST_GUARD", str(GUARD)),
                "PATH": "/usr/bin:/bin",
            },
        )
        atexit.register(self.close)

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the JavaScript half ended"
        return json.loads(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _program() -> str:
    from tests.support.nodered import node

    return str(node()) if node().exists() else "node"


@cache
def _node() -> _Node:
    return _Node()


def javascript(name: str, **question: Any) -> Any:
    """What `peer.js` answers: {"ok": value} or {"refused": why}; bytes are sent in base64."""
    plain = {
        key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for key, value in question.items()
    }
    answer = _node().ask({"name": name, **plain})
    assert "failed" not in answer, answer
    return answer


# --- runs


def names() -> list[str]:
    """All targets, sorted."""
    from fuzz import targets

    return sorted(one.name for one in pkgutil.iter_modules(targets.__path__))


def target(name: str) -> Target:
    """The function of that target, which holds its time bound."""
    found: Target = importlib.import_module(f"fuzz.targets.{name}").TestOneInput

    def timed(data: bytes) -> None:
        begin = time.process_time()
        found(data[:MOST_BYTES])
        spent = time.process_time() - begin
        assert spent < MOST_SECONDS, f"{spent:.1f} s for one input"

    return timed


def seeds(name: str) -> list[bytes]:
    """The corpus of a target, in the order of its file names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


# What stands for something in one of the formats: put in, it gets further than a random byte does.
_WORDS: Final = (
    b"\n", b"\r\n", b"\0", b"/", b"//", b"..", b"%2f", b"%00", b"%", b";", b":", b"::", b"@", b"-", b"0", b"00",
    b"255", b"256", b"/32", b"/33", b"1e999", b"-1", b"9007199254740993", b"null", b"true", b"[]", b"{}", b"\"",
    b"'", b"\\", b"<", b"]]>", b"#", b"\xc3\xbc", b"\xe2\x80\xae", b"\xf0\x9f\x94\x91", b"\xff",
    b"\xed\xa0\x80", b"\x1b[2J", b"// >>> redlatch", b"// <<< redlatch", b"__proto__", b"constructor", b"xn--",
    b"*", b"=", b"[", b"{", b" ", b"\t", b"\x7f", b"A" * 300,
)  # fmt: skip


def mutated(random: Random, corpus: Sequence[bytes]) -> bytes:
    """A seed with one to six changes: bytes flipped, cut, doubled, words put in, another seed's end."""
    data = bytearray(random.choice(corpus))
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(data))
        match random.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << random.randrange(8)
            case 1:
                del data[at : at + random.choice((1, 1, 2, 8, 64))]
            case 2:
                data[at:at] = random.choice(_WORDS)
            case 3:
                data[at:at] = data[at : at + random.randint(1, 32)]
            case 4:
                other = random.choice(corpus)
                data[at:] = other[random.randint(0, len(other)) :]
            case _:
                data[at:at] = random.randbytes(random.randint(1, 4))
    return bytes(data[:MOST_BYTES])


def inputs(name: str, seed: int) -> Iterator[bytes]:
    """The corpus, nothing, and then mutations without end; the same for the same seed."""
    corpus = seeds(name)
    yield from (b"", *corpus)
    random = Random(f"{name} {seed}")
    while True:
        yield mutated(random, corpus)


def smoke(name: str, *, seconds: float, most: int, seed: int = 1) -> int:
    """Runs a target without atheris for that long, all of its corpus at least; how many inputs it was given."""
    run, end = target(name), time.monotonic() + seconds
    whole = len(seeds(name)) + 1
    for done, data in enumerate(inputs(name, seed)):
        if done >= whole and (done >= most or time.monotonic() >= end):
            return done
        try:
            run(data)
        except BaseException as error:
            error.add_note(f"target {name}, input {data!r}")
            raise
    raise AssertionError("inputs do not end")
