"""The file that the kernel starts, with `python -IS`: it only makes the package importable."""

import sys
from os.path import abspath, dirname

# Appended and not inserted, so that no package installed next to this one can replace the standard library.
sys.path.append(dirname(dirname(dirname(dirname(abspath(__file__))))))  # noqa: PTH100, PTH120 - pathlib takes 50 ms here

from reconciler.sandbox.inside.boot import main

main()
