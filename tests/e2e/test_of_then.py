"""With a full disk below the state directory, and a daemon that is stopped or dead: what a command shows is not of now."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run


@contextmanager
def small_state() -> Iterator[House]:
    """A house whose state directory has a filesystem of its own, which is soon full."""
    with a_house() as house:
        house.state.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", "size=4M,mode=0700", "state", str(house.state))
        try:
            yield house
        finally:
            if house.process is not None:
                house.stop()
            run("umount", str(house.state))


def fill(house: House) -> None:
    with suppress(OSError), (house.state / "ballast").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(65536))


def is_told_to_be_full(house: House) -> bool:
    daemon = house.get("/api/v1/daemon")["items"][0]["status"]
    return "is full" in (daemon["storeTrouble"] or "")


def test_the_past_is_not_told_as_now() -> None:
    with small_state() as house:
        house.declare(house.pool(), house.device("a"))
        house.start()
        house.wait("a")
        assert house.cli("get").err == ""
        fill(house)
        eventually(lambda: _breaks(house) and is_told_to_be_full(house), "the store cannot be written to")
        eventually(lambda: house.status("a")["live"] == "Inactive", "the daemon sees that it is gone")
        said = house.cli("get", "devices", house.key("a"))
        assert "Inactive" in said.out
        assert "nothing can be noted" in said.err
        assert "is full" in said.err
        assert "Inactive" in house.cli("describe", "device", house.key("a")).out
        assert house.cli("wait", "device", house.key("a"), "--timeout", "0", check=False).code == 4

        assert house.process is not None
        house.stop()
        fill(house)  # with the log, the store's last close has given some room back
        refused = run(*house_run(house), check=False, timeout=60)
        assert refused.code == 1
        assert "is full" in refused.err or "no room left" in refused.err, refused
        assert "restore a copy" not in refused.err

        (house.state / "ballast").unlink()
        house.start()
        house.wait("a", live="Active")
        house.process.send_signal(signal.SIGSTOP)
        try:
            said = house.cli("get")
            assert "does not answer" in said.err
            assert "was noted last at" in said.err
            assert house.cli("wait", "device", house.key("a"), "--timeout", "0", check=False).code == 4
        finally:
            house.process.send_signal(signal.SIGCONT)
        eventually(lambda: house.cli("get").err == "", "it answers again")
        house.crash()
        assert "no daemon is at work" in house.cli("tree").err


def _breaks(house: House) -> bool:
    """Somebody takes the device away, for as long as there is somebody to bring it back."""
    run("dmsetup", "remove", house.dm_name("a"), check=False)
    return not house.node("a").exists()


def house_run(house: House) -> list[str]:
    return [
        sys.executable,
        "-m",
        "reconciler",
        "run",
        "--manifests",
        str(house.manifests),
        "--state-dir",
        str(house.state),
    ]
