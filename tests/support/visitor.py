"""Someone with a browser, in front of a whole platform."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Response, expect

from tests.support.platform import Platform

SHOWN_MS = 15_000


class Visitor:
    """Someone with a browser of their own. What the console complains about is kept, and nothing may be there at the end."""

    def __init__(self, platform: Platform, context: BrowserContext) -> None:
        self.base = platform.url
        self.context = context
        self.page = context.new_page()
        self.page.set_default_timeout(SHOWN_MS)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(f"status of {code}" in text for code in (400, 404)):  # asked for to be refused
            self.complaints.append(f"{kind}: {text}")

    def log_in(self, user: str, password: str) -> None:
        self.page.goto(f"{self.base}/accounts/login/")
        self.page.get_by_label("User").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.locator(".live-dot")).to_have_attribute("data-state", "live")

    def goto(self, path: str, tenant: str = "demo") -> Page:
        self.go(f"/t/{tenant}/{path}")
        return self.page

    def go(self, path: str) -> Response:
        answer = self.page.goto(self.base + path)
        assert answer is not None
        return answer

    def speak(self, language: str) -> None:
        self.context.add_cookies([{"name": "slipway_language", "value": language, "url": self.base}])

    def dress(self, theme: str, language: str) -> None:
        self.speak(language)
        self.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]

    def examine(self, what: str) -> None:
        """Axe finds nothing wrong with what is shown; ``what`` names it in the report."""
        found = Axe().run(self.page)
        assert found.violations_count == 0, f"{what}\n{found.generate_report()}"
