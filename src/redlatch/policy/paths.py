"""Paths as Node-RED's router reads them, and what they belong to.

Express matches loosely (case, doubled and trailing slashes, encodings: measured on Node-RED 4.1 and 5.0), so a
path that is not in its one canonical form is never matched against anything: it gets the strictest class.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

MAX_TARGET: Final = 8192

# One absolute path of non-empty segments, perhaps with a last slash; RFC 3986 pchar without ";" (a parameter to
# some servers) and with only those percent-encodings that no decoder turns into a letter, dot or slash: the
# space and bytes of UTF-8 text.
# Unambiguous: a nested repetition took two seconds for a path of 25 letters.
_SEGMENT: Final = r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%20|%[89A-Fa-f][0-9A-Fa-f])+"
_CANONICAL: Final = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?", re.ASCII)
_DOTS: Final = re.compile(r"/\.\.?(?:/|$)")
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")

# What Node-RED's editor reads with GET (editor-api of 4.1 and 5.0), below httpAdminRoot.
_EDITOR_FILES: Final = frozenset(
    {
        "/", "/comms", "/favicon.ico", "/flows", "/flows/state", "/icons", "/nodes", "/plugins",
        "/plugins/messages", "/projects", "/settings", "/settings/user", "/theme", "/auth/login", "/diagnostics",
    }
)  # fmt: skip
_EDITOR_FOLDERS: Final = (
    "/red/", "/vendor/", "/core/", "/icons/", "/locales/", "/theme/", "/types/", "/resources/", "/debug/view/",
    "/nodes/", "/flow/", "/library/", "/context/", "/credentials/", "/projects/",
)  # fmt: skip
# First segments that the editor's API owns, read or written: nothing of a flow's ever takes them over.
_EDITOR_SEGMENTS: Final = frozenset(
    {
        "auth", "comms", "context", "core", "credentials", "debug", "diagnostics", "favicon.ico", "flow", "flows",
        "icons", "inject", "library", "locales", "nodes", "plugins", "projects", "red", "resources", "settings",
        "theme", "types", "vendor",
    }
)  # fmt: skip


class PathClass(StrEnum):
    """What a path belongs to. EDITOR is the strictest and stands for everything unknown."""

    EDITOR = "editor"
    EDITOR_READ = "editor-read"
    DASHBOARD = "dashboard"


def is_target(target: str) -> bool:
    """Whether a request target is in origin form (RFC 9112 3.2.1), printable ASCII and at most 8 KB."""
    return len(target) <= MAX_TARGET and _TARGET.fullmatch(target) is not None


def is_canonical(path: str) -> bool:
    """Whether `path` is in the one form in which it is compared."""
    return _CANONICAL.fullmatch(path) is not None and _DOTS.search(path) is None


def below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or lies below it, with a segment boundary: /a/b is below /a, /ab is not."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def classify(target: str, admin_root: str | None, dashboards: tuple[str, ...]) -> PathClass:
    """The class of a target. Unknown is EDITOR; what the editor owns is never anything else."""
    path = target.partition("?")[0]
    if not is_canonical(path):
        return PathClass.EDITOR
    if admin_root is not None and below(path, admin_root):
        inner = path if admin_root == "/" else path[len(admin_root) :] or "/"
        if inner in _EDITOR_FILES or inner.startswith(_EDITOR_FOLDERS):
            return PathClass.EDITOR_READ
        if admin_root != "/" or inner.split("/", 2)[1] in _EDITOR_SEGMENTS:
            return PathClass.EDITOR
    if any(prefix != "/" and below(path, prefix) for prefix in dashboards):
        return PathClass.DASHBOARD
    return PathClass.EDITOR
