"""A real Chromium, Debian's own; each test with a window of its own that must stay without errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Error, Page, Request, Response, expect, sync_playwright

from tests.unit.telemetry.page.environments import Environment

CHROMIUM = shutil.which("chromium")
MISSING = "NOT TESTED: the status page in a browser; chromium is missing, see `make setup`"
PATIENCE = 15_000
"""Milliseconds for what is awaited; the machine may be busy."""
HURRY = "{ const wait = window.setTimeout; window.setTimeout = (done, time) => wait(done, time / 10); }"
"""The page rests a tenth as long between two rounds as it would."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CHROMIUM is None:
        terminalreporter.section(MISSING, sep="!", red=True, bold=True)


@pytest.fixture(scope="session")
def tab() -> Iterator[Page]:
    """One for all tests, as each new one takes its time; what they may have left is undone by `window`."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # Tests may run as root, for whom Chromium has no sandbox of its own; it sees nothing but this server.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script(HURRY)
        yield page
        browser.close()


@dataclass
class Window:
    """The tab during one test: what it asked for and complained about."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    forgiven: str = ""
    """A complaint that a test causes on purpose."""

    def complain(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def fail(self, error: Error) -> None:
        self.errors.append(str(error))

    def ask(self, request: Request) -> None:
        self.requests.append(request)

    def hear(self, answer: Response) -> None:
        self.answers.append(answer)

    def show(self, environment: Environment) -> Page:
        self.page.goto(environment.url)
        expect(self.page.locator("#freshness")).to_contain_text("live")
        return self.page

    def check(self) -> None:
        assert [error for error in self.errors if not self.forgiven or self.forgiven not in error] == []
        assert {urlsplit(request.url).hostname for request in self.requests} <= {"127.0.0.1"}


@pytest.fixture
def window(tab: Page) -> Iterator[Window]:
    window = Window(tab)
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.emulate_media(color_scheme="light")
    tab.on("console", window.complain)
    tab.on("pageerror", window.fail)
    tab.on("request", window.ask)
    tab.on("response", window.hear)
    yield window
    tab.remove_listener("console", window.complain)
    tab.remove_listener("pageerror", window.fail)
    tab.remove_listener("request", window.ask)
    tab.remove_listener("response", window.hear)
    tab.unroute_all()
    tab.goto("about:blank")
    window.check()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(tmp_path)
    yield environment
    environment.close()
