"""What must be so of any host at rest, whatever happened before."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.store.store import Store
from tests.crash.scenarios import Found, Scenario
from tests.crash.site import Site


def check(site: Site, scenario: Scenario, flushed: Mapping[str, int]) -> None:
    """It is down afterwards: only then the metadata can be checked."""
    with Store.open_read_only(site.state) as store:
        known = dict(store.known_devices(site.pool))
        pool, intents, taken = store.known_pool(site.pool), store.intents(site.pool), store.taken(site.pool)
    assert not intents, "an intent is left open"
    assert not taken, "nobody else is here to have taken a thin id"
    _check_devices(site)
    scenario.check(Found(site, known, flushed))
    if pool is None:
        site.down()
        return
    assert site.status().transaction_id == pool.transaction_id
    for path in (site.data, site.metadata):
        assert len(site.disks.loops_on(str(path))) == 1, f"one loop is on {path}"
    site.remove_devices()
    _check_metadata(site, {device.thin_id for device in known.values()})
    site.down()


def _check_devices(site: Site) -> None:
    for info in site.devices():
        assert not info.suspended, f"{info.name} is left suspended"
        assert info.live_table, f"{info.name} is left half made"
        assert not info.inactive_table, f"a table is left waiting in {info.name}"
        assert not info.name.endswith(".private"), f"{info.name} is left behind"


def _check_metadata(site: Site, known: set[int]) -> None:
    (loop,) = site.disks.loops_on(str(site.metadata))
    assert set(site.tools.thin_ls(loop.path, live=False)) == known, "a thin id has leaked, or was lost"
    site.tools.thin_check(loop.path)  # raises where it is damaged; a block may have leaked
