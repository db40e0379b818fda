"""Request targets: what they are taken for, in Python (the specification) and in the guard.

Input: four lines: an admin root, dashboards, http-in patterns (blanks between them); then the target.
"""

from __future__ import annotations

from fuzz.harness import javascript, lines
from redlatch.policy.model import Area, Areas
from redlatch.policy.paths import classify, is_canonical, is_editors, is_target, path_of

_EDITOR = (Area.EDITOR, Area.EDITOR_READ)


def TestOneInput(data: bytes) -> None:
    root, dashboards, http_in, target = lines(data, 4)
    admin_root = root if is_canonical(root) else None
    areas = Areas(tuple(dashboards.split()), tuple(http_in.split()), static=("/files",), websockets=("/ws/echo",))
    path = path_of(target)
    found = [classify(target, websocket=one, admin_root=admin_root, areas=areas) for one in (False, True)]
    canonical = is_canonical(path)
    editors = canonical and is_editors(path, admin_root)

    assert canonical or found == [Area.EDITOR] * 2, "what is not canonical is the editor's"
    assert not editors or set(found) <= set(_EDITOR), "what the editor owns is never anything else"
    if canonical:
        assert path.isascii(), path
        assert path.isprintable(), path
        assert not {"", ".", ".."} & set(path.removesuffix("/").split("/")[1:]) or path == "/", path
        assert not {"%2f", "%2e", "%5c", "%00"} & {path[at : at + 3].lower() for at in range(len(path))}, path
        # Express takes these for the same route: none of them may be less strict
        for other in (path.upper(), path + "/", path.replace("/", "//", 1)):
            if editors and is_canonical(other):
                assert classify(other, websocket=False, admin_root=admin_root, areas=areas) in _EDITOR, other

    said = javascript(
        "path",
        target=target,
        admin_root=admin_root,
        areas={"dashboards": areas.dashboards, "http_in": areas.http_in, "static": areas.static,
               "websockets": areas.websockets},
    )["ok"]  # fmt: skip
    assert (said["target"], said["path"], said["canonical"]) == (is_target(target), path, canonical), said
    assert said["areas"] == found, (said, found)
    assert not canonical or said["editors"] == is_editors(path, admin_root), said
