"""All of the page without a mouse."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.unit.telemetry.page import scenes
from tests.unit.telemetry.page.conftest import Window
from tests.unit.telemetry.page.environments import Environment


@pytest.fixture
def page(environment: Environment, window: Window) -> Page:
    scenes.everything(environment)
    return window.show(environment)


def focused(page: Page) -> str:
    return str(page.evaluate("() => document.activeElement.textContent || document.activeElement.id"))


def test_from_the_filter_to_the_details_of_a_device_and_back(page: Page) -> None:
    page.keyboard.press("/")
    field = page.get_by_label("Filter")
    expect(field).to_be_focused()
    page.keyboard.type("tank/app")
    expect(page.locator("#devices-count")).to_have_text("4 of 10 shown")
    page.locator("tr[data-name='tank/base'] button").focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    assert focused(page) == "tank/app"
    page.keyboard.press("Enter")
    expect(page.locator(".details")).to_contain_text("describe device tank/app")
    page.keyboard.press("Tab")
    assert focused(page) == "tank/base-2026-11"  # its origin, within the details
    page.keyboard.press("Escape")
    expect(page.locator(".details")).to_have_count(0)
    assert focused(page) == "tank/app"
    page.keyboard.press("ArrowUp")
    assert focused(page) == "tank/base-2026-11"
    page.keyboard.press("Escape")
    expect(field).to_have_value("")
    expect(page.locator("#devices-count")).to_have_text("10")


def test_tab_comes_to_everything_that_can_be_done_and_it_is_seen_where_it_is(page: Page) -> None:
    reached: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
                const at = document.activeElement;
                const shown = getComputedStyle(at), beside = at.nextElementSibling;
                const outlined = (style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                return [at.id || at.value || at.textContent, outlined(shown) || (beside && outlined(getComputedStyle(beside)))];
            }"""
        )
        if name == reached[:1]:
            break
        assert outline or at_the_end(page), name
        reached.append(name)
    for wanted in ("Skip to the devices", "tank/web", "9 devices", "filter", "only-wrong", "tree", "Name", "Since"):
        assert wanted in reached
    for wanted in ("tank/base", "vault/ledger", "/metrics", "/api/v1/events"):
        assert wanted in reached


def at_the_end(page: Page) -> bool:
    """Beyond the last, focus is with the browser itself."""
    return bool(page.evaluate("() => document.activeElement === document.body"))


def test_the_skip_link_leads_to_the_devices(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter")).to_be_focused()


def test_choices_and_order_are_made_by_keys(page: Page) -> None:
    page.get_by_label("Only what is not as desired").focus()
    page.keyboard.press("Space")
    expect(page.locator("#devices-count")).to_have_text("5 of 10 shown")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="List")).to_be_checked()
    page.keyboard.press("Tab")  # to the first column
    page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "descending")


def test_a_slash_within_the_filter_is_a_slash(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("tank/web")
    expect(page.get_by_label("Filter")).to_have_value("tank/web")
