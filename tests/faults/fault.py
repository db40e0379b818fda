"""One check taken away."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """`old` (exactly once in `file`) becomes `new`; `tests` is a place below tests/ and, after a space, a -k expression.

    `file` is one of the guard's when it is a name that ends in .js, otherwise one of the package's.
    """

    check: str
    file: str
    old: str
    new: str
    tests: str
