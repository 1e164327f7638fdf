"""The settings of a pseudo-target set."""

from __future__ import annotations

from dataclasses import dataclass

from ..choices import PAIRS_FREEDOM
from ..prior.guidance import Guidance
from ..prior.prior import Prior
from ..prior.settings import SampleSettings
from ..restore.restorer import Restorer


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """The settings of `build_pairs`.

    Attributes:
        score: lowest confidence in [0, 1] of a face.
        min_size: lowest longer box side in pixels of a face.
        size: side in pixels of the crops; None for the restorer's own size, else the prior's.
        fidelity: for a restorer that has it, 0 (best looking) to 1 (closest to the input).
        batch_size: faces that go through the restorer at once.
        sample: how targets are sampled; its seed is the set's. None for what `sampled_by` gives.
    """

    score: float = 0.5
    min_size: float = 0.0
    size: int | None = None
    fidelity: float = 0.5
    batch_size: int = 8
    sample: SampleSettings | None = None

    def sampled_by(self, prior: Prior) -> SampleSettings:
        """``sample``, or else what suits the prior and targets to learn from."""
        return self.sample or Guidance(freedom=PAIRS_FREEDOM).settings(prior)


def paper_factor(restorer: Restorer | None) -> int:
    """The low-pass factor of the paper: 16 after SwinIR, 8 after any other restorer."""
    return 16 if restorer is not None and restorer.architecture == "SwinIR" else 8
