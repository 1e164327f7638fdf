"""The stages that photographs and clips share: faces restored as the same people, and pasted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..faces.identity import Identity
from ..faces.occlusion import Occlusion
from ..faces.parsing import Parser
from ..faces.paste import paste_faces
from ..records import Alignment, Face, OnStep
from ..runtime.memory import LARGE, give_back
from ..runtime.progress import within
from .grey import without_tint
from .keep_person import KeptPeople, keep_person
from .restorer import Restorer, restore_faces
from .settings import RestoreSettings, chosen_mask
from .small_faces import fitting_sizes

_FINE = 100  # steps of progress a face


def restore_crops(
    crops: Tensor,
    faces: Sequence[Face],
    restorer: Restorer,
    settings: RestoreSettings,
    identity: Identity | None,
    on_step: OnStep | None,
    *,
    fit: bool = False,
) -> KeptPeople:
    """Restores aligned faces as far as they stay the same people.

    Args:
        crops: N×3×S×S RGB in [0, 1].
        faces: where the N faces are in their photographs.
        restorer: of `load_restorer`.
        settings: ``fidelity``, ``lock``, ``batch_size`` and ``keep_person`` count here.
        identity: of `load_identity`; None keeps no person and measures none.
        on_step: see `restore_faces`.
        fit: give small faces to the restorer at a size that it knows (`fitting_sizes`). Not in
            a clip, where a face would change as it comes nearer.
    """
    sizes = fitting_sizes(faces, restorer) if fit else [restorer.size] * len(crops)
    restored, done = torch.empty_like(crops), 0
    for size in dict.fromkeys(sizes or [restorer.size]):
        same = [index for index, own in enumerate(sizes) if own == size]
        restored[same] = restore_faces(
            crops if len(same) == len(crops) else crops[same],
            restorer if size == restorer.size else replace(restorer, size=size),
            fidelity=settings.fidelity,
            lock=settings.lock,
            lock_factor=person_factor(crops.shape[-1]),
            batch_size=settings.batch_size,
            on_step=within(on_step, done * _FINE, (done + len(same)) * _FINE, len(crops) * _FINE),
        )
        done += len(same)
    return keep_person(crops, restored, faces, identity, settings.keep_person)


def paste_crops(
    images: Tensor,
    restored: Tensor,
    alignment: Alignment,
    settings: RestoreSettings,
    parser: Parser | None,
    *,
    before: Tensor,
    grey: Tensor,
    seed: int,
    in_place: bool = False,
    in_front: Tensor | Occlusion | None = None,
    masks: bool = True,
) -> tuple[Tensor, Tensor]:
    """Pastes restored faces as the settings say; into a grey photograph, grey ones.

    Args:
        images: B×3×H×W RGB in [0, 1], the photographs, enlarged or not.
        restored: N×3×S×S RGB in [0, 1].
        alignment: where they belong.
        settings: ``mask``, ``feather``, ``colour``, ``strength`` and ``grain`` count here.
        parser: of `load_parser`, for the mask "parsing".
        before: N×3×S×S, the faces as they were cut.
        grey: B×1×1×1, which photographs have no colour (`find_grey`).
        seed: draws the grain.
        in_place: whether ``images`` itself may be written to.
        in_front, masks: see `paste_faces`.

    Returns:
        The images, and B×1×H×W masks in [0, 1] of what was replaced.
    """
    if images[:1].numel() > LARGE:
        give_back()
    mask = chosen_mask(settings, parser)
    pasted, weights = paste_faces(
        images,
        restored,
        alignment,
        mask=mask,
        parser=parser if mask == "parsing" else None,
        before=before,
        feather=settings.feather,
        colour=settings.colour,
        strength=settings.strength,
        grain=settings.grain,
        seed=seed,
        in_place=in_place,
        in_front=in_front,
        masks=masks,
    )
    return without_tint(grey, pasted), weights


def person_factor(size: int) -> int:
    """The low-pass factor of ``lock``: the divisor of the crop size that is nearest to 1/64 of it.

    Colours and light are the photograph's anyway (``colour``); the person is in shapes of a few
    pixels more than that.
    """
    divisors = [n for n in range(2, size + 1) if size % n == 0]
    return min(divisors, key=lambda n: abs(n - size / 64))
