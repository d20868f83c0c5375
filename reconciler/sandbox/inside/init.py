"""The file that the kernel starts, with `python -IS`: finds the package, nothing else."""

import sys
from os.path import abspath, dirname

# Appended, not put first: nothing that is installed next to the package may stand in for the standard library.
sys.path.append(dirname(dirname(dirname(dirname(abspath(__file__))))))  # noqa: PTH100, PTH120 - pathlib takes 50 ms here

from reconciler.sandbox.inside.boot import main

main()
