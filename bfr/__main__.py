"""``python -m bfr``: see :mod:`bfr.cli.main`."""

import sys

from .cli.main import main

sys.exit(main())
