"""What happens to devices is seen on the page as it happens, without a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from reconciler.model.conditions import Reason
from tests.simulation.simulated_daemon import device_record, pool_record
from tests.unit.telemetry.page import scenes
from tests.unit.telemetry.page.conftest import Window
from tests.unit.telemetry.page.environments import Environment, LiveEnvironment, device_status, pool_status

ALL_WELL = "Everything is as desired"
OBSERVES = "! It only observes: nothing is done (--observe)."


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveEnvironment]:
    golden = device_record("base", state="Committed")
    environment = LiveEnvironment(tmp_path, pool_record(), golden, device_record("app", snapshotOf="base"))
    yield environment
    environment.close()


def mark_as_loaded(page: Page) -> None:
    """What a reload would take away."""
    page.evaluate("() => { window.loadedOnce = true; }")


def is_still_loaded(page: Page) -> bool:
    return bool(page.evaluate("() => window.loadedOnce === true"))


def test_a_suspended_device_appears_and_goes_by_itself(live: LiveEnvironment, window: Window) -> None:
    page = window.show(live)
    words, reason = page.locator("#verdict-words"), page.locator("tr[data-name='tank/app'] .of-reason")
    expect(words).to_have_text(ALL_WELL)
    mark_as_loaded(page)
    with live.in_turn:
        live.dm.suspend("tank-app")
    expect(reason).to_have_text("Suspended")
    expect(words).to_have_text("1 record of 3 not as desired")
    expect(page.locator("#offenders")).to_have_text("tank/app Suspended")
    assert page.title().startswith("! 1 record of 3 not as desired")
    expect(reason).to_have_text("Converged")
    expect(words).to_have_text(ALL_WELL)
    healed = page.locator("#events .event").first
    expect(healed).to_contain_text("Healed")
    expect(healed).to_contain_text("Suspended")
    expect(healed).to_contain_text("took")
    assert page.title().startswith("✓ Everything is as desired")
    assert is_still_loaded(page)


def test_a_device_that_somebody_removed_is_told_and_is_back(live: LiveEnvironment, window: Window) -> None:
    page = window.show(live)
    expect(page.locator("#verdict-words")).to_have_text(ALL_WELL)
    with live.in_turn:
        live.dm.remove("tank-app")
    first = page.locator("#events .event").first
    expect(first).to_contain_text("tank/app is no longer InactiveButDesiredActive")
    expect(page.locator("#events .event").nth(1)).to_contain_text("Found")
    expect(page.locator("tr[data-name='tank/app'] .of-live")).to_have_text("Active")


def test_a_daemon_that_is_gone_is_said_to_be_and_so_is_its_return(environment: Environment, window: Window) -> None:
    scenes.everything(environment)
    window.forgiven = "Failed to load resource: net::ERR_"
    page = window.show(environment)
    mark_as_loaded(page)
    port = environment.go_silent()
    expect(page.locator("#stale")).to_contain_text("The daemon does not answer")
    expect(page.locator("#freshness")).to_contain_text("no answer since")
    expect(page.locator("tr[data-name='tank/web'] .of-reason")).to_have_text("Busy")  # what was known stays readable
    assert page.title().startswith("\N{MULTIPLICATION SIGN} No answer")
    environment.come_back(port)
    expect(page.locator("#stale")).to_be_hidden()
    expect(page.locator("#freshness")).to_contain_text("live")
    assert is_still_loaded(page)


def test_an_answer_that_says_no_is_told_with_its_reason(environment: Environment, window: Window) -> None:
    window.forgiven = "503"
    page = window.show(environment)
    page.route("**/api/v1/devices", lambda route: route.fulfill(status=503, body='{"error":"too many connections"}'))
    expect(page.locator("#stale")).to_contain_text("api/v1/devices: 503")


def test_what_has_not_changed_is_not_sent_again(environment: Environment, window: Window) -> None:
    scenes.everything(environment)
    page = window.show(environment)
    with page.expect_response(lambda answer: answer.url.endswith("/events") and answer.status == 304):
        pass
    statuses = {answer.url.rpartition("/")[2]: answer.status for answer in window.answers}
    assert {statuses["pools"], statuses["devices"], statuses["events"]} == {304}
    record = device_record("new")
    with page.expect_response(lambda answer: answer.url.endswith("/devices") and answer.status == 200):
        environment.found(record, device_status(record.key))
    expect(page.locator("tr[data-name='tank/new'] .of-reason")).to_have_text("Converged")


def test_nobody_is_asked_while_nobody_looks(environment: Environment, window: Window) -> None:
    page = window.show(environment)
    page.evaluate(
        """() => {
            window.away = true;
            Object.defineProperty(document, "hidden", { get: () => window.away });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.wait_for_timeout(500)  # a round that was under way comes to its end
    asked = len(window.requests)
    page.wait_for_timeout(1000)
    assert len(window.requests) == asked
    with page.expect_request("**/api/v1/daemon"):
        page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")


def test_what_keeps_the_daemon_from_its_work_is_said_first(environment: Environment, window: Window) -> None:
    record = pool_record()
    environment.declare(record)
    environment.found(record, pool_status("tank"))
    page = window.show(environment)
    expect(page.locator("#verdict-words")).to_have_text(ALL_WELL)
    troubles = page.locator("#troubles")
    expect(troubles).to_be_empty()
    expect(troubles).to_have_role("alert")
    environment.status_api.observe_only = True
    expect(troubles.locator("p")).to_have_text(OBSERVES)
    expect(page.locator("#verdict-words")).to_have_text(ALL_WELL)
    problem = "tank.yaml:30:9: spec.size: '256MB' is not a binary unit: write 256MiB"
    environment.status_api.problems = lambda: (problem,)  # type: ignore[assignment, return-value]
    expect(page.locator("#verdict-words")).to_have_text("The manifests are invalid")
    expect(troubles).to_contain_text(problem)
    expect(troubles.locator("p").first).to_have_text(OBSERVES)
    environment.status_api.problems = lambda: ()
    environment.status_api.observe_only = False
    expect(troubles).to_be_empty()
    environment.status_api.obstacle = lambda: "the disk is full; nothing is done to any device until then"
    expect(page.locator("#verdict-words")).to_have_text("The reconciler is not ready")
    expect(troubles).to_contain_text("the disk is full")
    environment.status_api.obstacle = lambda: ""
    environment.status_api._patience = -1.0
    expect(page.locator("#verdict-words")).to_have_text("The reconciler does not turn")
    expect(troubles).to_contain_text("the dispatcher has not turned for")


def test_a_device_that_goes_takes_its_row_along(environment: Environment, window: Window) -> None:
    records = [device_record(name) for name in ("a", "b")]
    environment.declare(pool_record(), *records)
    environment.devices_are(records)
    page = window.show(environment)
    page.locator("tr[data-name='tank/b'] button.device-name").click()
    expect(page.locator(".details")).to_contain_text("describe device tank/b")
    environment.declare(pool_record(), records[0])
    environment.recorder.forget([records[1].key])
    expect(page.locator("tr[data-name]")).to_have_count(1)
    expect(page.locator(".details")).to_have_count(0)


def test_what_somebody_is_doing_survives_an_update(environment: Environment, window: Window) -> None:
    scenes.everything(environment)
    page = window.show(environment)
    button = page.locator("tr[data-name='tank/web'] button.device-name")
    button.click()
    page.get_by_label("Filter").fill("web")
    button.focus()
    record = device_record("web")
    environment.found(record, device_status(record.key, Reason.STUCK, "the pool hangs"))
    expect(page.locator(".details")).to_contain_text("the pool hangs")
    expect(button).to_be_focused()
    expect(page.get_by_label("Filter")).to_have_value("web")
