"""The networks and settings that the options of ``targets`` describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import EMBEDDED, find_weights, load_detector_of
from .guidance import guidance_of

if TYPE_CHECKING:
    import torch

    from ..faces.retinaface import Detector
    from ..pairs.settings import PairSettings
    from ..prior.prior import Prior
    from ..restore.restorer import Restorer


def load_pairing(
    options: argparse.Namespace, device: torch.device
) -> tuple[Detector, Restorer | None, Prior | None, PairSettings]:
    """The arguments of `build_pairs` that the options mean.

    There is no restorer or prior where the options name guesses or targets instead.
    """
    from ..pairs.settings import paper_factor
    from ..restore.load import load_restorer

    detector = load_detector_of(options, device)
    restorer = None
    if options.guesses is None:
        file = find_weights("restorer", options.restorer)
        restorer = load_restorer(file, precision=options.precision).to(device)
    prior = None if options.targets is not None else _prior(options, device)
    settings = _settings(options, paper_factor(restorer), prior)
    return detector, restorer, prior, settings


def _prior(options: argparse.Namespace, device: torch.device) -> Prior:
    from ..prior.load import load_prior
    from ..runtime.precision import convert

    is_folder = Path(options.prior).is_dir() and options.prior != EMBEDDED
    prior_file = Path(options.prior) if is_folder else find_weights("prior", options.prior)
    told = {} if options.prior_size is None else {"size": options.prior_size}
    prior = load_prior(prior_file, preset=options.prior_preset, **told)
    convert(prior.network, options.precision, device)
    return prior


def _settings(options: argparse.Namespace, paper_factor: int, prior: Prior | None) -> PairSettings:
    from ..pairs.settings import PairSettings

    sample = None
    if prior is not None:
        sample = guidance_of(options, paper_factor).settings(prior)
    return PairSettings(
        score=options.score,
        min_size=options.min_size,
        size=options.size,
        fidelity=options.fidelity,
        sample=sample,
    )
