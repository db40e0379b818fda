"""Paths as Node-RED's router reads them, and what they belong to.

Express matches loosely (case, doubled and trailing slashes, encodings: measured on Node-RED 4.1 and 5.0), so a
path that is not in its one canonical form is never matched against anything: it gets the strictest area.
"""

from __future__ import annotations

import re
from typing import Final

from redlatch.policy.model import Area, Areas

MAX_TARGET: Final = 8192

# What makes a path not canonical. RFC 3986 pchar without ";" (a parameter to some servers), no empty segment, no
# dot segment, and only those percent-encodings that no decoder turns into a letter, dot or slash: the space and
# bytes of UTF-8 text. A search for one thing that is wrong, not a match of all that is right: that one backtracked
# for two seconds over 25 letters in Python, and gave up on a path of 8 KB in PCRE. HAProxy gets the same text.
UNCANONICAL: Final = (
    r"[^A-Za-z0-9._~!$&'()*+,=:@%/-]|//|%([^289A-Fa-f]|2[^0]|[89A-Fa-f][^0-9A-Fa-f]|.?$)|/\.\.?(/|$)"
)
_UNCANONICAL: Final = re.compile(UNCANONICAL, re.ASCII)
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")

# What Node-RED's editor, and the sidebar in it, reads with GET (editor-api of 4.1 and 5.0), below httpAdminRoot.
EDITOR_FILES: Final = frozenset(
    {
        "/", "/comms", "/favicon.ico", "/flows", "/flows/state", "/icons", "/nodes", "/plugins",
        "/plugins/messages", "/projects", "/settings", "/settings/user", "/theme", "/auth/login", "/diagnostics",
        "/redlatch/state",
    }
)  # fmt: skip
EDITOR_FOLDERS: Final = (
    "/red/", "/vendor/", "/core/", "/icons/", "/locales/", "/theme/", "/types/", "/resources/", "/debug/view/",
    "/nodes/", "/flow/", "/library/", "/context/", "/credentials/", "/projects/",
)  # fmt: skip
# First segments that the editor's API, the core nodes and the sidebar own, read or written: nothing else ever
# takes them over.
EDITOR_SEGMENTS: Final = frozenset(
    {
        "auth", "comms", "context", "core", "credentials", "debug", "diagnostics", "favicon.ico", "flow", "flows",
        "icons", "inject", "library", "locales", "nodes", "plugins", "projects", "red", "redlatch", "resources",
        "settings", "theme", "types", "udp-ports", "vendor",
    }
)  # fmt: skip
# Routes of the dashboard's nodes that belong to the editor (@flowfuse/node-red-dashboard: POST .../:id/clear, and
# PATCH /dashboard/api/v1/:id/flows, which deploys).
EDITOR_PREFIXES: Final = ("/dashboard/api", "/dashboard/chart")


def is_target(target: str) -> bool:
    """Whether a request target is in origin form (RFC 9112 3.2.1), printable ASCII and at most 8 KB."""
    return len(target) <= MAX_TARGET and _TARGET.fullmatch(target) is not None


def path_of(target: str) -> str:
    """The target without its query."""
    return target.partition("?")[0]


def is_canonical(path: str) -> bool:
    """Whether `path` is in the one form in which it is compared."""
    return path.startswith("/") and _UNCANONICAL.search(path) is None


def below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or lies below it, with a segment boundary: /a/b is below /a, /ab is not."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def matches(path: str, pattern: str) -> bool:
    """Whether `path` is `pattern`, in which `:name` stands for any one segment; a last slash is nothing."""
    parts, wanted = path.removesuffix("/").split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(
        one == other or other.startswith(":") for one, other in zip(parts, wanted, strict=True)
    )


def is_editors(path: str, admin_root: str | None) -> bool:
    """Whether a canonical path is one that the editor owns, in whatever case: Express does not tell them apart."""
    if admin_root is None:
        return False
    path, root = path.lower(), admin_root.lower()
    if not below(path, root):
        return False
    if root != "/":
        return True
    return (
        path == "/"
        or path.split("/", 2)[1] in EDITOR_SEGMENTS
        or any(below(path, prefix) for prefix in EDITOR_PREFIXES)
    )


def classify(target: str, *, websocket: bool, admin_root: str | None, areas: Areas) -> Area:
    """The area of a target. Unknown is EDITOR; what the editor owns is never anything else."""
    path = path_of(target)
    if not is_canonical(path):
        return Area.EDITOR
    if admin_root is not None and is_editors(path, admin_root):
        # What only reads is known in its own case and below the root in its own case alone
        inner = (path if admin_root == "/" else path[len(admin_root) :] or "/") if below(path, admin_root) else ""
        reads = inner == "/comms" if websocket else inner in EDITOR_FILES or inner.startswith(EDITOR_FOLDERS)
        return Area.EDITOR_READ if reads else Area.EDITOR
    return _of_flows(path, areas, websocket=websocket)


def _of_flows(path: str, areas: Areas, *, websocket: bool) -> Area:
    if websocket and path in areas.websockets:
        return Area.WEBSOCKETS
    if not websocket and any(matches(path, pattern) for pattern in areas.http_in):
        return Area.HTTP_IN
    if any(prefix != "/" and below(path, prefix) for prefix in areas.dashboards):
        return Area.DASHBOARDS
    if not websocket and any(prefix != "/" and below(path, prefix) for prefix in areas.static):
        return Area.STATIC
    return Area.EDITOR
