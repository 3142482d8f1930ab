"""A real browser, and what is asked of every page that it opens."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from portal.demo import accounts

CHROMIUM = shutil.which("chromium") or ""
# Without these Chromium asks its makers' hosts for updates at every start.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOTS = Path(__file__).resolve().parent.parent / "screenshots"
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "resultTypes": ["violations"],
}
#: What a page's other colours may break.
DARK_RULES = RULES | {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium for the length of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visitor:
    """A person at a browser: signs in, and looks closely at pages."""

    def __init__(self, context: BrowserContext, portal: str) -> None:
        self.page: Page = context.new_page()
        self.portal = portal
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self._hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error" or "Content Security Policy" in text:
            self.complaints.append(f"{self.page.url}: {text}")

    def sign_in(self, email: str) -> None:
        """Sign in by the form."""
        self.page.goto(f"{self.portal}/accounts/login/")
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password", exact=True).fill(accounts.PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(lambda url: "/accounts/login" not in url)

    def open(self, path: str) -> None:
        """Go to a page of the portal."""
        answer = self.page.goto(f"{self.portal}{path}")
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"

    def look(self, name: str) -> None:
        """Ask axe, light and dark; complain where a page scrolls sideways, wide and narrow.

        With ``SCREENSHOTS`` in the environment every state is saved in ``tests/screenshots``, for people to look at.
        """
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for width in (1280, 320):
                self.page.set_viewport_size({"width": width, "height": 900})
                self.page.evaluate(PAINTED)
                if os.environ.get("SCREENSHOTS"):
                    SHOTS.mkdir(exist_ok=True)
                    self.page.screenshot(path=SHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
                beyond = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert beyond <= 0, f"{name} is {beyond} px wider than {width} px"
            if scheme == "light":
                found = Axe().run(self.page, options=RULES).response["violations"]
            else:  # the script of the first look is still there
                found = self.page.evaluate("options => axe.run(document, options)", DARK_RULES)["violations"]
            self.complaints += [
                f"{name} {scheme}: {each['id']}: {each['nodes'][0]['html'][:160]}" for each in found
            ]
        self.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
        self.page.set_viewport_size({"width": 1280, "height": 900})
