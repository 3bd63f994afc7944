"""Somebody at a real Chromium, for tests of the console."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
expect.set_options(timeout=60_000)  # machines that run tests are slow; what is wrong stays wrong


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Seat:
    """Somebody at a browser. ``errors``: what stands in its log and should not."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.errors: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def sign_in(self, token: str) -> None:
        self.page.goto(f"{self.url}/console")
        self.page.get_by_label("Gateway key").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", level=1, name="Live")).to_be_visible()

    def go(self, address: str, heading: str | re.Pattern[str]) -> Page:
        self.page.goto(f"{self.url}/console#/{address}")
        expect(self.page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        return self.page

    def shot(self, name: str) -> None:
        """Keep a picture to be looked at: ``SCREENSHOTS=/tmp/pictures pytest tests/test_console.py``. Those in docs are `pictures`'."""
        if SCREENSHOTS:
            self.page.screenshot(path=f"{SCREENSHOTS}/{name}.png")

    def check_accessibility(self) -> None:
        results = Axe().run(self.page)
        found = [(one["id"], one["nodes"][0]["html"][:300]) for one in results.response["violations"]]
        assert not found, (self.page.url, found)
