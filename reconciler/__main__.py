"""`python -m reconciler` is the program itself."""

import sys

from reconciler.cli.main import main

sys.exit(main())
