"""Chromium, driven as a person would use it; and axe-core, which looks at what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import needs

WAIT_MS = PATIENCE_S * 1000
CHROMIUM = which("chromium")
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

expect.set_options(timeout=WAIT_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without windows. Skips the test where Debian's Chromium is not installed."""
    needs("Chromium", CHROMIUM, "'apt-get install chromium' installs it")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


class Person:
    """Somebody at a browser of their own, who notices what goes wrong."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, **options}
        )
        self.context.set_default_timeout(WAIT_MS)
        self.address = address
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("console", lambda said: self.wrong.append(said.text) if "Policy" in said.text else None)
        self.page.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.wrong.append(f"asked {request.url}")

    def go(self, where: str = "#/tree/") -> Page:
        """Open a view by its address; returns the page once it is live."""
        self.page.goto(self.address + where)
        expect(self.page.locator("#live")).to_have_text("live")
        return self.page

    def row(self, path: str) -> Any:
        """The row of a path in the tree."""
        return self.page.locator(f'.row[data-path="{path}"]')

    def card(self, title: str) -> Any:
        """A part of a view by its heading."""
        heading = self.page.get_by_role("heading", name=title, exact=True)
        return self.page.locator("section.card", has=heading)

    def button(self, name: str, exact: bool = True) -> Any:
        return self.page.get_by_role("button", name=name, exact=exact)

    def flaws(self) -> list[str]:
        """What axe-core finds wrong in what is shown now."""
        self.page.evaluate(_axe())
        how = "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})"
        found = self.page.evaluate(how, _RULES)
        return [
            f"{each['id']}: {node['target']} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


def _axe() -> str:
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")
