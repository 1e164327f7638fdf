"""Figures of published implementations, recorded once, and the weights that they were made with.

The weights follow from names and shapes (`rule_weights`), so figures of networks that are too large
to store are checked too. ``benchmarks.parity`` and the tests compare our results with them.
"""

from pathlib import Path

GOLDEN = Path(__file__).resolve().parent
