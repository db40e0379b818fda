"""axe-core on a page as it is shown: in light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from playwright.sync_api import Page
from tests.browser.pictures import keep
from tests.support.nodered import cache as downloads

SCHEMES: Final = ("light", "dark")
WIDTHS: Final = {1280: 800, 390: 844}
SERIOUS: Final = ("serious", "critical")
#: Rules whose answer depends on how a page is shown
_SHOWN: Final = ("color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size")
_RUN: Final = """([within, rules]) => axe.run(within ?? document, {
    resultTypes: ["violations"], elementRef: false, ...(rules ? {runOnly: rules} : {}),
})"""
_WIDER: Final = """() => document.documentElement.scrollWidth <= document.documentElement.clientWidth ? null
    : [...document.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > innerWidth)
        .map((one) => `${one.tagName}.${one.className} ${one.textContent.trim().slice(0, 40)}`).slice(-3).join()"""


@cache
def _source() -> str:
    return (downloads() / "axe-core/node_modules/axe-core/axe.min.js").read_text("utf-8")


def serious(page: Page, within: str | None = None, rules: Sequence[str] | None = None) -> list[str]:
    """What axe-core calls serious or critical on the page as it is, or in the part that a selector names.

    `rules`: only these; all of them by default.
    """
    # Runs past the page's policy, which lets no other script in; nothing of the policy is switched off for it
    page.evaluate(f"globalThis.axe ? 0 : (() => {{ {_source()}; return 0; }})()")
    found: dict[str, Any] = page.evaluate(_RUN, [within, rules])
    assert found["testEngine"]["name"] == "axe-core"
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def look(page: Page, name: str, *, widths: Sequence[int] = tuple(WIDTHS), within: str | None = None) -> list[str]:
    """Looks at a page in every scheme and width, and keeps pictures of it; what is serious.

    All rules are asked once in each scheme and each width; in the other half only those that look at colours and
    sizes: that a picture has words does not depend on them.
    """
    found = []
    for number, width in enumerate(widths):
        page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            first = scheme == SCHEMES[number % 2]
            if first:
                keep(page, f"{name}-{scheme}-{width}")
            found += [
                f"{name}-{scheme}-{width}: {one}" for one in serious(page, within, None if first else _SHOWN)
            ]
        # The whole page in its width: what is wider has to scroll by itself
        wider = page.evaluate(_WIDER)
        if wider:
            found.append(f"{name}-{width}: wider than the window: {wider}")
    return found
