"""The page and its files, for the enrolment origin and for the console's /renew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from jinja2 import Environment, StrictUndefined

Mode = Literal["enrol", "renew"]
_TYPES: Final = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
_HOME: Final = resources.files("redlatch.service.enrolment")


def render(mode: Mode = "enrol", *, static: str = "/static/", offer: Mapping[str, Any] | None = None) -> bytes:
    """The page. In mode "enrol" it is the same for everybody, and the token is in the URL's fragment; in mode
    "renew" `offer` is what the present certificate stands for, as `enrolment.app.offer` makes it. `static` is
    where the files of `static_files` are.
    """
    shown = "" if offer is None else json.dumps(offer)
    page: str = _template().render(mode=mode, static=static, offer=shown)
    return page.encode()


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Name -> (content, media type) of what the page loads."""
    folder = _HOME / "static"
    return {
        one.name: (one.read_bytes(), _TYPES[one.name.rpartition(".")[2]])
        for one in folder.iterdir()
        if one.name.rpartition(".")[2] in _TYPES
    }


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((_HOME / "templates" / "enrol.html").read_text("utf-8"))
