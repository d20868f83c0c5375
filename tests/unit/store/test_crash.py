"""After a kill at any instant, everything that was done before is in the store, and nothing of what was not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.store.store import Store

# Makes devices endlessly, and prints after each step which one is on disk.
MAKE = """
import sys
from itertools import count
from pathlib import Path
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.names import Key
from reconciler.model.steps import BeginIntent, CompleteIntent, SavePool
from reconciler.store.store import Store

store = Store.open(Path(sys.argv[1]), wall_clock=lambda: 0.0)
store.apply(SavePool(Key("tank"), StoredPool("tank", "u", True, "/d", "/m", 128, "passdown")))
for number in count():
    key = Key("tank", f"d{number}")
    thin_id = store.free_thin_id("tank")
    store.apply(BeginIntent(key, Intent(key, IntentKind.CREATE, thin_id, number, "u", "d", 8)))
    print("begun", number, flush=True)
    store.apply(CompleteIntent(key, StoredDevice(key, "u", "d", thin_id, 8, created_at=number)))
    print("finished", number, flush=True)
"""


def killed(directory: Path, *, lines: int = 1, wait: float = 0.0) -> list[str]:
    """What the process printed until it was killed."""
    with subprocess.Popen([sys.executable, "-c", MAKE, str(directory)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        return said + child.stdout.readlines()


def check(directory: Path, said: list[str]) -> None:
    begun = sum(line.startswith("begun") for line in said)
    finished = sum(line.startswith("finished") for line in said)
    with Store.open(directory, wall_clock=lambda: 0.0) as store:
        devices, intents, pool = store.known_devices("tank"), store.intents("tank"), store.known_pool("tank")
        # One step may be done and not printed yet.
        assert finished <= len(devices) <= begun
        assert begun <= len(devices) + len(intents) <= begun + 1
        assert [device.thin_id for device in devices.values()] == [device.created_at for device in devices.values()]
        assert pool is not None
        assert pool.transaction_id == len(devices)
        assert all(intent.key == Key("tank", f"d{len(devices)}") for intent in intents)


@pytest.mark.parametrize(("lines", "wait"), [(1, 0.0), (2, 0.0), (7, 0.003), (20, 0.01), (100, 0.05)])
def test_a_killed_writer_loses_nothing_that_it_had_done(directory: Path, lines: int, wait: float) -> None:
    check(directory, killed(directory, lines=lines, wait=wait))


def test_what_lies_on_disk_in_the_middle_is_a_whole_store(store: Store, directory: Path, tmp_path: Path) -> None:
    store.close()
    copy = tmp_path / "copy"
    said = killed(directory, lines=50)
    # The file and its WAL are all that is needed; the shared memory belonged to the process that was killed.
    copy.mkdir(mode=0o700)
    for name in ("state.db", "state.db-wal"):
        shutil.copy(directory / name, copy / name)
    check(copy, said)


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.1, 0.15])
def test_killed_while_it_is_made_the_next_start_works(directory: Path, wait: float) -> None:
    with subprocess.Popen([sys.executable, "-c", MAKE, str(directory)], stdout=subprocess.DEVNULL) as child:
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
    with Store.open(directory, wall_clock=lambda: 0.0) as store:
        assert store.store_id
