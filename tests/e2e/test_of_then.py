"""With a full disk below the state directory, and a daemon that is stopped or dead: what a command shows is not of now."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import Run, run


@contextmanager
def small_state() -> Iterator[Environment]:
    """An environment whose state directory has a filesystem of its own, which is soon full."""
    with an_environment() as env:
        env.state.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", "size=4M,mode=0700", "state", str(env.state))
        try:
            yield env
        finally:
            if env.process is not None:
                env.stop()
            run("umount", str(env.state))


def fill(env: Environment) -> None:
    with suppress(OSError), (env.state / "ballast").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(65536))


def is_told_to_be_full(env: Environment) -> bool:
    daemon = env.get("/api/v1/daemon")["items"][0]["status"]
    return "is full" in (daemon["storeTrouble"] or "")


def test_the_past_is_not_told_as_now() -> None:
    with small_state() as env:
        env.declare(env.pool(), env.device("a"))
        env.start()
        env.wait("a")
        assert env.cli("get").err == ""
        fill(env)
        said, described = eventually(lambda: _told_as_gone(env), "the store is full, and the device is told as gone")
        assert "nothing can be noted" in said.err
        assert "is full" in said.err
        assert "Inactive" in described
        assert env.cli("wait", "device", env.key("a"), "--timeout", "0", check=False).code == 4

        assert env.process is not None
        env.stop()
        fill(env)  # with the log, the store's last close has given some room back
        refused = run(*wait_command(env), check=False, timeout=60)
        assert refused.code == 1
        assert "is full" in refused.err or "no room left" in refused.err, refused
        assert "restore a copy" not in refused.err

        (env.state / "ballast").unlink()
        env.start()
        env.wait("a", live="Active")
        env.process.send_signal(signal.SIGSTOP)
        try:
            said = env.cli("get")
            assert "does not answer" in said.err
            assert "was noted last at" in said.err
            assert env.cli("wait", "device", env.key("a"), "--timeout", "0", check=False).code == 4
        finally:
            env.process.send_signal(signal.SIGCONT)
        eventually(lambda: env.cli("get").err == "", "it answers again")
        env.crash()
        assert "no daemon is at work" in env.cli("tree").err


def _told_as_gone(env: Environment) -> tuple[Run, str] | None:
    """What `get` and `describe` say of a device that was taken away while nothing can be noted.

    Something may have given room back meanwhile, and then the device is back too: it is tried again.
    """
    fill(env)
    if not _breaks(env) or not is_told_to_be_full(env):
        return None
    said, described = env.cli("get", "devices", env.key("a")), env.cli("describe", "device", env.key("a")).out
    return (said, described) if "Inactive" in said.out and is_told_to_be_full(env) else None


def _breaks(env: Environment) -> bool:
    """Somebody takes the device away, for as long as there is somebody to bring it back."""
    run("dmsetup", "remove", env.dm_name("a"), check=False)
    return not env.node("a").exists()


def wait_command(env: Environment) -> list[str]:
    return [
        sys.executable,
        "-m",
        "reconciler",
        "run",
        "--manifests",
        str(env.manifests),
        "--state-dir",
        str(env.state),
    ]
