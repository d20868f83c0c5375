"""What a worker and its daemon say to each other."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import Pipe

from reconciler.kernel.worker.messages import ResetCache, say

TO_NOBODY = """
import gc
from multiprocessing import Pipe
from reconciler.kernel.worker.messages import ResetCache, say

ours, theirs = Pipe()
theirs.close()
try:
    say(ours, ResetCache())
except BrokenPipeError as error:
    error.itself = error  # as an error that is kept in what it has passed through
else:
    print("somebody listened")
ours.close()
gc.collect()
"""


def test_what_is_said_is_heard() -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        say(ours, ResetCache())
        say(ours, None)
        assert (theirs.recv(), theirs.recv()) == (ResetCache(), None)


def test_python_has_nothing_to_complain_of_where_nobody_listens() -> None:
    # Before 3.13 it complains of what is thrown away in a wrong state in this mode alone.
    command = (sys.executable, "-X", "dev", "-c", TO_NOBODY)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
