"""What the page shows, to whom: without colour sight, on a phone, in the dark, with a screen reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from reconciler.model.conditions import EventType, Reason
from reconciler.model.names import Key
from tests.simulation.simulated_daemon import device_record, pool_record
from tests.unit.telemetry.page import scenes
from tests.unit.telemetry.page.conftest import Window
from tests.unit.telemetry.page.environments import Environment, device_status

CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text(encoding="utf-8")
AA, AA_LARGE = 4.5, 3.0
LEFT, NONE = "\N{EN DASH}", "\N{EN DASH}"
HOSTILE = "<img src=x onerror=window.broken=1><script>window.broken=1</script>&amp;\"'"


@pytest.fixture
def page(environment: Environment, window: Window) -> Page:
    scenes.everything(environment)
    return window.show(environment)


def names(page: Page) -> list[str]:
    return page.locator("button.device-name").all_inner_texts()


def row(page: Page, name: str) -> list[str]:
    return page.locator(f"tr[data-name='{name}'] td").all_inner_texts()


def test_the_first_line_says_in_words_how_it_is(page: Page) -> None:
    expect(page.get_by_role("status")).to_contain_text("4 records of 13 not as desired")
    expect(page.get_by_role("status")).to_contain_text(
        "3 pools, 10 devices: 6 as desired, 4 not as desired, 2 left alone on purpose, 1 not looked at yet"
    )
    assert page.locator("#verdict-mark").inner_text() == "!"
    assert page.locator("#offenders li").all_inner_texts() == [
        *("attic PoolUnhealthy", "vault PoolLow", "tank/app Suspended", "tank/web Busy")
    ]
    expect(page.locator("#node")).to_have_text("web-1")


def test_a_pool_shows_how_full_it_is_and_where_it_is_full(page: Page) -> None:
    tank, vault = (page.get_by_role("article", name=f"Pool {name}") for name in ("tank", "vault"))
    data = tank.get_by_role("meter", name="Data", exact=True)
    expect(data).to_have_attribute("aria-valuenow", "35")
    expect(data).to_have_attribute("aria-valuetext", re.compile("35 %, 7.GiB of 20.GiB"))
    used, whole = data.locator(".meter-used").bounding_box(), data.bounding_box()
    assert used is not None
    assert whole is not None
    assert used["width"] / whole["width"] == pytest.approx(0.35, abs=0.02)
    expect(tank).to_contain_text("grows at 80 %")
    expect(tank).to_contain_text(re.compile(r"2 thin ids that nothing names \(768.MiB\): 17, 41"))
    expect(vault).to_contain_text("! low on space: low water mark at 90 %")
    expect(vault).to_contain_text("PoolLow pool vault has used 93% of its data")
    expect(vault).to_contain_text("dm-reconciler describe pool vault")
    expect(page.get_by_role("article", name="Pool attic")).to_contain_text(re.compile("mode\\s*fail"))


def test_a_device_is_a_row_below_its_origin(page: Page) -> None:
    assert names(page) == [
        *("tank/base", "tank/archive", "tank/base-2026-11", "tank/app", "tank/app-test", "tank/web"),
        *("tank/new", "tank/old", "tank/scratch", "vault/ledger"),
    ]
    depths = "rows => rows.map(row => row.style.getPropertyValue('--depth'))"
    assert page.locator("tr[data-name]").evaluate_all(depths) == [*"011232", *"0000"]
    expect(page.locator("tr[data-name='tank/app-test'] .of-name")).to_contain_text("snapshot of tank/app")
    assert row(page, "tank/web")[1:7] == ["!no", "Active", "Active", "Busy", "10\u00a0GiB", "3\u00a0GiB"]
    assert row(page, "tank/old")[1:5] == [f"{LEFT}left alone", "no record", "Active", "Orphaned"]
    assert row(page, "tank/new")[1:5] == ["?not yet", "Active", NONE, NONE]


def test_a_row_opens_to_all_that_is_known_and_to_what_to_type_next(page: Page) -> None:
    button = page.get_by_role("button", name="tank/web", exact=True).and_(page.locator(".device-name"))
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    details = page.locator(f"[id='{button.get_attribute('aria-controls')}']")
    for text in ("swapped once nobody has it open", "tank-web", "DMR-", "nginx (pid 4711), mount /srv/www", "EBUSY"):
        expect(details).to_contain_text(text)
    expect(details.locator("code")).to_have_text(
        ["dm-reconciler describe device tank/web", "dm-reconciler events tank/web"]
    )
    details.get_by_role("button", name="tank/base-2026-11").click()
    expect(page.locator(".details")).to_contain_text("dm-reconciler describe device tank/base-2026-11")
    expect(page.locator("tr[data-name='tank/base-2026-11'] button")).to_be_focused()


def test_events_say_what_was_done_and_how_long_it_took(page: Page) -> None:
    first = page.locator("#events .event").first
    expect(first).to_contain_text(re.compile("Healed.*tank/app.*NodeMissing.*took 1.20.s", re.DOTALL))
    expect(page.locator("#events")).to_contain_text("2 times since")
    first.get_by_role("button", name="tank/app").click()
    expect(page.locator(".details")).to_contain_text("dm-reconciler describe device tank/app")


def test_many_events_come_in_pieces(environment: Environment, window: Window) -> None:
    for number in range(120):
        environment.recorder.event(Key("tank", f"d{number}"), EventType.INFO, "Noted", f"number {number}")
    page = window.show(environment)
    expect(page.locator("#events .event")).to_have_count(50)
    page.get_by_role("button", name="Show 50 more of 70 older events").click()
    expect(page.locator("#events .event")).to_have_count(100)


def test_an_empty_host_says_what_is_missing(environment: Environment, window: Window) -> None:
    page = window.show(environment)
    expect(page.locator("#verdict-words")).to_have_text("Nothing is declared")
    for text in ("No record declares a pool yet", "No record declares a device yet", "Nothing was found amiss"):
        expect(page.get_by_text(text)).to_be_visible()


@pytest.mark.security("S34")
def test_whatever_names_and_messages_say_they_are_text(environment: Environment, window: Window) -> None:
    environment.declare(pool_record(), device_record("a"))
    key = Key("tank", HOSTILE)
    environment.found(None, device_status(key, Reason.BUSY, HOSTILE, holders=(HOSTILE,), origin=HOSTILE, uuid=HOSTILE))
    environment.recorder.event(key, EventType.BLOCKED, HOSTILE, HOSTILE)
    environment.status_api.problems = lambda: (HOSTILE,)  # type: ignore[assignment, return-value]
    environment.status_api.node = HOSTILE
    page = window.show(environment)
    page.locator("button.device-name", has_text=HOSTILE).click()
    expect(page.locator(".details .message")).to_have_text(f"Busy {HOSTILE}")
    expect(page.locator("#events .event-message").first).to_have_text(HOSTILE)
    expect(page.locator("#troubles li")).to_have_text(HOSTILE)
    assert page.locator("img").count() == 0
    assert page.evaluate("() => window.broken") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(
    environment: Environment, page: Page, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    environment.status_api.observe_only = True
    expect(page.locator("#troubles")).to_contain_text("! It only observes")
    page.locator("tr[data-name='tank/web'] button").click()
    measured = page.evaluate(CONTRASTS)
    assert len(measured) > 100
    assert [one for one in measured if one["ratio"] < (AA_LARGE if one["large"] else AA)] == []
    assert all((one["luminance"] > 0.5) == (scheme == "light") for one in measured if one["body"])


@pytest.mark.parametrize("width", [360, 820])
def test_nothing_sticks_out_of_a_narrow_screen(environment: Environment, window: Window, width: int) -> None:
    scenes.everything(environment)
    environment.status_api.observe_only = True
    long = Key("tank", "x" * 63)
    environment.found(None, device_status(long, Reason.INACTIVE_BUT_DESIRED_ACTIVE, "y" * 200))
    window.page.set_viewport_size({"width": width, "height": 780})
    page = window.show(environment)
    option = page.locator("#troubles code")
    expect(option).to_have_text("--observe")
    assert option.evaluate("code => code.getClientRects().length") == 1, "it is one word"
    page.locator(f"tr[data-name='{long}'] button").click()
    expect(page.locator(".details")).to_be_visible()
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    page.get_by_label("Sort by").select_option("mapped")
    assert wide <= width
    assert names(page)[0] == "tank/app"


def test_a_state_is_one_word_however_narrow_the_table(environment: Environment, window: Window) -> None:
    scenes.everything(environment)
    window.page.set_viewport_size({"width": 990, "height": 780})
    page = window.show(environment)
    lines = "cells => cells.map(one => one.getClientRects()[0].height)"
    heights = page.locator("tr[data-name='tank/base'] td").evaluate_all(lines)
    assert max(heights) < 45


def test_a_mark_has_a_sign_of_its_own_whatever_its_colour(page: Page) -> None:
    marks = page.locator(".legend .mark").evaluate_all("all => all.map(one => [one.dataset.mark, one.textContent])")
    assert dict(marks) == {"ok": "✓", "wrong": "!", "left": LEFT, "unknown": "?"}
    signs = "rows => rows.map(row => [row.dataset.mark, row.querySelector('.of-ready').textContent])"
    said = dict(page.locator("tr[data-name]").evaluate_all(signs))
    assert said == {"ok": "✓yes", "wrong": "!no", "left": f"{LEFT}left alone", "unknown": "?not yet"}


@pytest.mark.security("S34")
def test_it_is_served_with_nothing_from_elsewhere_and_no_way_to_it(page: Page, window: Window) -> None:
    policy = next(one for one in window.answers if one.url.endswith("/")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    refused = page.evaluate("() => fetch('http://127.0.0.2:1/').then(() => 'let through', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in error for error in window.errors)
    window.forgiven = "Content Security Policy"
