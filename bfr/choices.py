"""Every list of choices, once, for the core, the command line and the nodes.

It imports nothing, so that ``--help`` answers before torch is loaded. A test compares the lists
with what carries them out.
"""

from __future__ import annotations

from typing import Final

EXISTING: Final = ("refuse", "overwrite", "skip")
"""What to do about results that exist."""

MASKS: Final = ("soft oval", "square", "parsing")
"""The part of a face that is pasted."""

REGIONS: Final = ("face", "without hair", "skin", "eyes", "mouth")
"""What part of a face a parser outlines."""

COLOURS: Final = ("low frequency", "lab", "none")
"""How a pasted face takes on the colours of its photograph."""

NUMBERINGS: Final = ("size", "rows")
"""What faces are numbered by: the largest first, or row by row from left to right."""

DISTANCES: Final = ("auto", "lpips", "pyramid")
"""The perceptual distance; "auto" is lpips where its weights are, else pyramid."""

PRIOR_PRESETS: Final = (
    "guided-diffusion",
    "guided-diffusion, new attention order",
    "improved-diffusion",
)
"""The code that trained a prior's checkpoint."""

SAMPLERS: Final = ("ddpm", "ddim", "dpm-solver++", "unipc")
"""The samplers of pseudo targets."""

PRECISIONS: Final = ("float32", "bfloat16", "float16")
"""The names, in torch, of the number types that networks compute in."""

AUTO: Final = "auto"
"""The quickest of `PRECISIONS` that is right on the device (`bfr.runtime.precision`)."""

RECIPES: Final = ("quick", "SwinIR (paper)", "CodeFormer (paper)", "quick demo")
"""The presets of fine-tuning."""

SCHEDULES: Final = ("cosine", "steps", "constant")
"""How the learning rate changes while tuning."""

HOLDS: Final = ("auto", "soft", "paper")
"""How a pseudo target is held to its guess; "auto" is paper where start or stop is set."""

FREEDOM: Final = 0.25
"""How far pseudo targets may leave their guesses, from 0 to 1, unless one says otherwise."""

PAIRS_FREEDOM: Final = 0.5
"""The same for targets to learn from: their texture is worth more there than exact pixels, because
a restorer learns what they have in common, and the person is held while it does."""

CALLS: Final = 8
"""Network calls per pseudo target, unless one says otherwise."""
