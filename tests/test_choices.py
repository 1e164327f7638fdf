"""The lists of choices are what the core can do."""

from __future__ import annotations

from bfr import choices
from bfr.finetune.settings import PRESETS
from bfr.prior.checkpoints import PRIOR_PRESETS


def test_presets_are_those_that_exist():
    assert tuple(PRESETS) == choices.RECIPES
    assert tuple(PRIOR_PRESETS) == choices.PRIOR_PRESETS
