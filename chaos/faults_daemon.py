"""What happens to the daemon and its workers."""

from __future__ import annotations

import signal
from functools import partial
from random import Random
from typing import Final

from chaos.daemon import kill
from chaos.environment import Environment
from chaos.faults import Fault
from chaos.host import Failed, NotSo

AGAIN: Final = "the daemon is started again"


def _start_later(environment: Environment, rng: Random) -> str:
    seconds = rng.uniform(0, 3)
    environment.later(seconds, AGAIN, environment.daemon.start)
    return f"for {seconds:.1f} s"


def kill_daemon(environment: Environment, rng: Random) -> str:
    said = _start_later(environment, rng)
    environment.daemon.end(signal.SIGKILL)
    return said


def kill_all(environment: Environment, rng: Random) -> str:
    """With its workers, as the host's end does."""
    said, workers = _start_later(environment, rng), environment.daemon.workers()
    environment.daemon.end(signal.SIGKILL)
    for pid in workers:
        kill(pid, signal.SIGKILL)
    return said


def terminate(environment: Environment, rng: Random) -> str:
    said = _start_later(environment, rng)
    code = environment.daemon.end(signal.SIGTERM)
    if code not in (0, -signal.SIGTERM, None):  # killed by it before it had read its own code
        raise NotSo(f"the daemon ended with {code} on SIGTERM")
    return said


def hang_up(environment: Environment, rng: Random) -> str:
    del rng
    if not environment.daemon.ask("/healthz"):
        raise Failed("it does not listen yet")
    environment.daemon.signal(signal.SIGHUP)
    return ""


def stop_daemon(environment: Environment, rng: Random) -> str:
    seconds = rng.uniform(0.5, 5)
    environment.later(seconds, "the daemon goes on", partial(_go_on, environment))
    if not environment.daemon.signal(signal.SIGSTOP):
        raise Failed("it is not there")
    return f"for {seconds:.1f} s"


def _go_on(environment: Environment) -> None:
    environment.daemon.signal(signal.SIGCONT)


def _worker(environment: Environment, rng: Random) -> int:
    position, workers = rng.randrange(100), environment.daemon.workers()
    if not workers:
        raise Failed("there is no worker")
    return workers[position % len(workers)]


def kill_worker(environment: Environment, rng: Random) -> str:
    kill(_worker(environment, rng), signal.SIGKILL)
    return ""


def stop_worker(environment: Environment, rng: Random) -> str:
    """It holds its pool's lock, and answers nobody."""
    seconds, pid = rng.uniform(0.5, 9), _worker(environment, rng)
    kill(pid, signal.SIGSTOP)
    environment.later(seconds, f"worker {pid} goes on", partial(kill, pid, signal.SIGCONT))
    return f"{pid} for {seconds:.1f} s"


FAULTS: Final = (
    Fault("SIGKILL of the daemon", 1, kill_daemon),
    Fault("SIGKILL of the daemon and its workers", 1, kill_all),
    Fault("SIGTERM of the daemon", 1, terminate),
    Fault("SIGHUP of the daemon", 1, hang_up),
    Fault("SIGSTOP of the daemon, and on", 1, stop_daemon),
    Fault("SIGKILL of a worker", 1, kill_worker),
    Fault("SIGSTOP of a worker, and on", 1, stop_worker),
)
