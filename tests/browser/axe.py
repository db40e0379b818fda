"""axe-core on a page as it is shown: in light and dark, on a desk and on a phone."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from playwright.sync_api import Page
from tests.browser.pictures import keep
from tests.support.nodered import cache as downloads

SCHEMES: Final = ("light", "dark")
WIDTHS: Final = {1280: 800, 390: 844}
SERIOUS: Final = ("serious", "critical")
_RUN: Final = """(within) => axe.run(within ?? document, {resultTypes: ["violations"], elementRef: false})"""


@cache
def _source() -> str:
    return (downloads() / "axe-core/node_modules/axe-core/axe.min.js").read_text("utf-8")


def serious(page: Page, within: str | None = None) -> list[str]:
    """What axe-core calls serious or critical on the page as it is, or in the part that a selector names."""
    # Runs past the page's policy, which lets no other script in; nothing of the policy is switched off for it
    page.evaluate(f"globalThis.axe ? 0 : (() => {{ {_source()}; return 0; }})()")
    found: dict[str, Any] = page.evaluate(_RUN, within)
    assert found["testEngine"]["name"] == "axe-core"
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def look(
    page: Page, name: str, *, widths: tuple[int, ...] = tuple(WIDTHS), within: str | None = None
) -> list[str]:
    """Looks at a page in every scheme and width, and keeps a picture of each; what is serious."""
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            keep(page, f"{name}-{scheme}-{width}")
            found += [f"{name}-{scheme}-{width}: {one}" for one in serious(page, within)]
            # The whole page in its width: what is wider has to scroll by itself
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if over > 0:
                found.append(f"{name}-{scheme}-{width}: {over} pixels wider than the window")
    return found
