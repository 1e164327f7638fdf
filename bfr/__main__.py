"""``python -m bfr``: see :mod:`bfr.cli`."""

import sys

from .cli import main

sys.exit(main())
