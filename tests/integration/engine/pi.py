"""Run inside the test machine: what `redlatch up` does to Node-RED, by the engine's own functions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from redlatch.engines.nodered import dropin, edit, inspection, locate, publish
from redlatch.errors import RedlatchError
from redlatch.settings import Settings

SETTINGS = Settings(home=Path("/var/lib/redlatch"), system=True)
SITE = Path("/srv/site")


def up() -> None:
    """Publishes a site with one admin device, adopts and installs the drop-in."""
    from tests.support.site import Site

    red = locate.locate(environ={})
    publish.prepare(SETTINGS, red.user)
    publish.publish_guard(SETTINGS, red.user.gid)
    if not SITE.exists():
        SITE.mkdir(mode=0o700)
        site = Site(SITE / "made", spool=str(SETTINGS.spool))
        (SITE / "admin.pem").write_bytes(site.device("admin").cert_file.read_bytes())
    made = SITE / "made/published"
    for name in ("server.pem", "device-ca.pem"):
        publish.publish_file(SETTINGS, name, (made / name).read_bytes(), red.user.gid)
    parts = {path.name: path.read_bytes() for path in (made / "snapshot").iterdir()}
    publish.publish_snapshot(SETTINGS, (made / "snapshot.json").read_bytes(), parts, red.user.gid)
    adopted = edit.adopt(red, SETTINGS.published)
    planned = dropin.plan_dropin(red, SETTINGS)
    assert planned is not None
    print(
        json.dumps(
            [adopted.changed, dropin.install_dropin(planned), red.user.name, str(red.settings_file), red.unit]
        )
    )


def down() -> None:
    red = locate.locate(environ={})
    for unit in dropin.dropins_installed(SETTINGS.published):
        dropin.remove_dropin(unit)
    print(json.dumps(edit.release(red).changed))


def restart() -> None:
    print(json.dumps(dropin.restart(locate.locate(environ={})).done))


def inspect() -> None:
    print(json.dumps(inspection.inspect_settings(locate.locate(environ={})).guarded))


def ask(*device: str) -> None:
    """GET /flows: the status, or what became of the connection. `plain` asks by http."""
    import http.client
    from types import SimpleNamespace

    from tests.support.clients import Refused, request

    try:
        if device == ("plain",):
            connection = http.client.HTTPConnection("127.0.0.1", 1880, timeout=5)
            connection.request("GET", "/flows")
            print(json.dumps(connection.getresponse().status))
            return
        holder = SimpleNamespace(cert_file=Path(device[0])) if device else None
        print(json.dumps(request(1880, "GET", "/flows", holder).status))
    except (Refused, OSError, http.client.HTTPException) as error:
        nobody = ConnectionRefusedError in (type(error), type(error.__cause__))
        print(json.dumps("nobody" if nobody else "refused"))


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except RedlatchError as error:
        sys.exit(f"{error.code}: {error.message} ({error.hint})")
