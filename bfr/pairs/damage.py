"""The damage that a set of pairs shows, learned from its degraded faces and pseudo targets."""

from __future__ import annotations

import torch
from torch import Tensor

from ..damage.degrade import degrade_faces
from ..damage.learn import learn_damage
from ..damage.learned import LearnedDamage
from ..errors import InputError
from ..image.sheets import sheet
from .folder import PairSet, read_image

MOST = 96
"""Pairs that damage is learned from, which bounds time and memory."""

_SHOWN = 6  # faces in a picture


def damage_of(pairs: PairSet, most: int = MOST) -> LearnedDamage:
    """Learns the damage of a folder's kept pairs.

    Args:
        pairs: the folder.
        most: pairs to look at, spread over all.

    Raises:
        InputError: if there are none, or they are smaller than 64 pixels or of several sizes.
        ImageError: if an image is missing or damaged.
    """
    if not pairs.kept:
        raise InputError(
            f"{pairs.folder} must have finished pairs to learn damage from, got none. Build the "
            "set, or finish it."
        )
    count = len(pairs.kept)
    chosen = [pairs.kept[n * count // min(count, most)] for n in range(min(count, most))]
    images = [
        [read_image(pairs.folder, kind, pair) for pair in chosen] for kind in ("target", "lq")
    ]
    sizes = {tuple(image.shape) for kind in images for image in kind}
    if len(sizes) > 1:
        raise InputError(
            f"{pairs.folder} must have faces of one size to learn damage from, got "
            f"{sorted(size[-1] for size in sizes)} pixels. Build the set at one size."
        )
    return learn_damage(*(torch.cat(kind) for kind in images))


def compare_damage(pairs: PairSet, damage: LearnedDamage, seed: int = 0) -> Tensor:
    """A sheet of a few pairs: pseudo target, the damaged face, and the target damaged alike.

    Returns:
        1×3×H×W RGB in [0, 1].
    """
    count = len(pairs.kept)
    shown = [pairs.kept[n * count // min(count, _SHOWN)] for n in range(min(count, _SHOWN))]
    target, real = (
        torch.cat([read_image(pairs.folder, kind, pair) for pair in shown])
        for kind in ("target", "lq")
    )
    learned = degrade_faces(target, damage, seed)
    cells = [faces[n] for n in range(len(shown)) for faces in (target, real, learned)]
    return sheet(cells, columns=3, column_labels=["pseudo target", "real", "learned"])
