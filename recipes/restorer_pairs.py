"""What the embedded restorer learns from: damaged and clean patches of aligned faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset

from bfr.damage.degrade import DEGRADATIONS, Degradation, degrade_faces
from bfr.damage.prints import age_print
from bfr.image.tensors import luma

from .aligned import SIZE, draw_faces

OLD_PRINT = Degradation((0.1, 8.0), (0.8, 6.0), (0.0, 25.0), (40.0, 95.0), 1.0, 1.0, (0.0, 0.3))
HALFTONE = Degradation(
    *((0.4, 3.0), (1.0, 3.0), (0.0, 10.0), (50.0, 95.0), 1.0, 0.8, (0.0, 0.3)), screen=(4.0, 10.0)
)
STRONG_BLUR = Degradation((6.0, 14.0), (1.0, 4.0), (0.0, 4.0), (70.0, 100.0))
DAMAGE = {
    "gfpgan": (DEGRADATIONS["gfpgan"], 0.6),
    "old print": (OLD_PRINT, 0.15),
    "halftone": (HALFTONE, 0.1),
    "strong blur": (STRONG_BLUR, 0.15),
}
PAPER = 0.4
"""How strongly the paper of grey pictures is tinted at most, on both sides of a pair. A restorer
that learns to take tints away, or to guess colours, leaves blue and orange blotches on a face."""


class Pairs(IterableDataset):
    """Endless (damaged, clean) patches 3×P×P in [0, 1]."""

    def __init__(self, faces: Path, patch: int, seed: int):
        self.faces, self.patch, self.seed = faces, patch, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        kinds, chances = zip(*DAMAGE.values(), strict=True)
        for face, _ in draw_faces(self.faces, rng):
            clean = face[None]
            kind = kinds[rng.choice(len(kinds), p=chances)]
            damaged = degrade_faces(clean, kind, int(rng.integers(2**31)))
            if kind.grey == 1.0:
                clean, tint = luma(clean), rng.uniform(0.0, PAPER)
                damaged, clean = (age_print(x, 0.0, tint) for x in (damaged, clean))
            y, x = rng.integers(0, SIZE - self.patch + 1, 2)
            window = (..., slice(y, y + self.patch), slice(x, x + self.patch))
            yield damaged[window][0], clean[window][0]
