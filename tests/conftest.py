"""Random tests take the same examples on every run, so that a change that breaks nothing fails nothing.

EXPLORE=1 takes new ones each time: what they find belongs into the tests as an example of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings

# What failed once is kept in the tree, but where that is read-only, as in the sandbox.
KEPT = settings.get_profile("default").database if os.access(Path(__file__).parent, os.W_OK) else None

settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("explore", print_blob=True, database=KEPT)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")
