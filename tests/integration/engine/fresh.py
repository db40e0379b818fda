"""Calls a function with a user's rights in a process of its own: SQLite may not be carried across a fork.

The process starts as root, loads the checkout (which others may not be able to read) and gives root up for good.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redlatch import errors
from redlatch.engines.nodered.users import User, call_as, user_by_name

ROOT = Path(__file__).parents[3]


def call(user: User, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function of some module; what it raises of redlatch's errors is raised here."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.engine.fresh", user.name, function.__module__,
         function.__qualname__, json.dumps(arguments)],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "error" in answer:
        kind, message, hint = answer["error"]
        raise getattr(errors, kind)(message, hint=hint)
    return answer["result"]


if __name__ == "__main__":
    name, module, attribute, given = sys.argv[1:]
    account = user_by_name(name)
    assert account is not None
    wanted = getattr(importlib.import_module(module), attribute)
    try:
        print(json.dumps({"result": call_as(account, wanted, *json.loads(given))}))
    except errors.RedlatchError as error:
        print(json.dumps({"error": [type(error).__name__, error.message, error.hint]}))
