"""Random tests take the same examples on every run, so that a change that breaks nothing fails nothing.

EXPLORE=1 takes new ones each time: what they find belongs into the tests as an example of its own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

if not os.access(Path(__file__).parent, os.W_OK):  # the sandbox's tree is read-only, and hypothesis warns of that
    set_hypothesis_home_dir(tempfile.gettempdir())

pytest_plugins = ["tests.testing.real_kernel"]

settings.register_profile("same", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")
