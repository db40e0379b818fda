"""A page to print: one QR code a device, each a link of its own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from redlatch.cli.output import minute

if TYPE_CHECKING:
    from redlatch.operations.links import Invited

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Keys for Node-RED on {machine}</title>
<style>
body {{ font: 11pt/1.35 system-ui, sans-serif; margin: 1.5rem; color: #000; background: #fff }}
h1 {{ font-size: 16pt }}
ul {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); list-style: none; padding: 0 }}
li {{ border: 1px dashed #888; padding: 1rem; break-inside: avoid; text-align: center }}
h2 {{ font-size: 12pt; margin: 0 0 .3rem; overflow-wrap: anywhere }}
svg {{ width: 9rem; height: 9rem }}
code {{ display: block; font-size: 7.5pt; overflow-wrap: anywhere }}
p {{ margin: .2rem 0 }}
@media print {{ body {{ margin: 0 }} .aside {{ display: none }} }}
</style>
</head>
<body>
<main>
<h1>Keys for Node-RED on {machine}</h1>
<p class="aside">Each code works once, until {until}. Whoever scans it first gets that device's key: hand the slips
out yourself, and delete this file.</p>
<ul>
{slips}
</ul>
</main>
</body>
</html>
"""

_SLIP = """<li>
<h2><bdi>{name}</bdi></h2>
<p>{role}{owner}</p>
{code}
<p>Scan it with this device, until {until}.</p>
<code>{url}</code>
</li>"""


def page(made: Sequence[Invited], base: str, machine: str) -> str:
    """The whole page, needing nothing else. Whatever stands in a name is text."""
    slips = [
        _SLIP.format(
            name=escape(one.link.name),
            role=escape(one.link.role),
            owner=escape(f", {one.link.owner}" if one.link.owner else ""),
            code=code(f"{base}/#{one.token}", one.link.name),
            until=minute(one.link.expires_at),
            url=escape(f"{base}/#{one.token}"),
        )
        for one in made
    ]
    until = minute(made[0].link.expires_at)
    return _PAGE.format(machine=escape(machine), until=until, slips="\n".join(slips))


def code(url: str, name: str) -> str:
    """The QR code of `url` as inline SVG."""
    import segno

    out = io.BytesIO()
    segno.make(url, error="m", micro=False).save(
        out, kind="svg", xmldecl=False, svgns=False, border=2, omitsize=True, title=f"QR code for {name}"
    )
    return out.getvalue().decode()
