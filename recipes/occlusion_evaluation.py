"""The network that sees what lies in front, measured on held-out faces and things."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bfr.damage.degrade import NO_DAMAGE, degrade_faces
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.occlusion import (
    LEAST_SHARE,
    Occlusion,
    covered_shares,
    find_in_front,
)
from bfr.faces.occlusion_network import SIDE
from bfr.faces.retinaface import load_detector
from bfr.faces.shapes import mask_shape
from bfr.files.photos import read_photo
from bfr.image.resize import resize_square

from .aligned import held_out_faces
from .grids import worst_first, write_versions
from .groups import by_group
from .occluder_sources import load_sources, skins_of
from .occluders import KINDS, draw_occluder, put_on
from .restorer_pairs import DAMAGE

log = logging.getLogger(__name__)
REAL_FOLDERS = {"real_lq/portraits_eval": 4, "real_lq/whole": 1, "real_lq/aligned512": 1}
"""Old photographs, and every how many of them are looked at."""

SHOWN = 48
LEAST_OUTLINE = 0.01  # of the crop that is covered where the face is, for the figures


def face_region() -> Tensor:
    """1×1×S×S, 1 where a face is pasted: only there does it count what lies in front."""
    return (mask_shape("soft oval", SIDE, 0.1) > 0.5).float()


@torch.no_grad()
def evaluate(data: Path, things: Path, occlusion: Occlusion, grid: Path | None) -> None:
    """Logs the IoU on held-out faces behind held-out things, and the area found on bare faces.

    The sheets in the folder ``grid`` show faces, outlines and what was found, the worst first.
    """
    clean, _ = held_out_faces(data, load_detector())
    clean = resize_square(clean, SIDE).clamp(0, 1)
    covered, outlines, kinds = covered_faces(clean, things)
    for name, damage in {
        "as they are": NO_DAMAGE,
        **{k: d for k, (d, _) in DAMAGE.items()},
    }.items():
        seen = degrade_faces(covered, damage, seed=7)
        found = find_in_front(seen, occlusion)
        quality = overlap(found, outlines)
        log.info("%-12s IoU %.3f, median %.3f", name, quality.mean(), quality.median())
        each = [quality[torch.tensor([own == kind for own in kinds])] for kind in KINDS]
        told = (f"{kind} {part.mean():.2f}" for kind, part in zip(KINDS, each, strict=True))
        log.info("  by kind: %s", ", ".join(told))
        bare = degrade_faces(clean, damage, seed=7)
        wrong = find_in_front(bare, occlusion)
        share = torch.tensor(covered_shares(wrong))
        log.info(
            "  bare faces: %.2f %% of the face, %.2f %% of the crop; %d of %d told as covered",
            *(100 * share.mean(), 100 * wrong.mean(), (share >= LEAST_SHARE).sum(), len(bare)),
        )
        log.info("  in per cent by lightness of the skin: %s", by_group(100 * share, clean))
        if grid is not None:
            sheet, titles = f"{name.replace(' ', '_')}.png", ("face", "in front", "found")
            shown = worst_first(quality)
            versions = [x[shown].expand(-1, 3, -1, -1) for x in (seen, outlines, found)]
            write_versions(grid / sheet, versions, titles, across=3)
            shown = worst_first(-share)
            versions = [x[shown].expand(-1, 3, -1, -1) for x in (bare, wrong)]
            write_versions(grid / f"bare_{sheet}", versions, titles[::2], across=4)


@torch.no_grad()
def evaluate_real(data: Path, occlusion: Occlusion, grid: Path | None) -> None:
    """Logs on how many faces of real old photographs something is found; hardly one has any."""
    detector, crops = load_detector(), []
    for folder, each in REAL_FOLDERS.items():
        for path in sorted((data / folder).iterdir())[::each]:
            image = read_photo(path).pixels
            found = detect_faces(image, detector, score=0.6)
            crops.append(align_faces(image, found, SIDE)[0])
    faces = torch.cat(crops)
    found = find_in_front(faces, occlusion)
    share = torch.tensor(covered_shares(found))
    covered = int((share >= LEAST_SHARE).sum())
    mean = 100 * share.mean()
    log.info("real, old: %.2f %%; %d of %d told as covered", mean, covered, len(faces))
    if grid is not None:
        shown = (-share).argsort()[:SHOWN]
        versions = [x[shown].expand(-1, 3, -1, -1) for x in (faces, found)]
        write_versions(grid / "real.png", versions, ("face", "found"), across=4)


def covered_faces(clean: Tensor, things: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Faces N×3×S×S behind held-out things, their outlines N×1×S×S, and the things' kinds."""
    pixels, rng = clean.permute(0, 2, 3, 1).numpy(), np.random.default_rng(11)
    sources = load_sources(things, held=True, skins=skins_of(pixels))
    covered, outlines, kinds = [], [], []
    for number, face in enumerate(pixels):
        kind, outline = list(KINDS)[number % len(KINDS)], np.zeros(1)
        while (outline * face_region()[0, 0].numpy()).mean() < LEAST_OUTLINE:
            drawn, outline = put_on(face, draw_occluder(kind, sources, rng), rng)
        covered.append(torch.from_numpy(np.float32(drawn)).permute(2, 0, 1))
        outlines.append(torch.from_numpy(outline)[None])
        kinds.append(kind)
    return torch.stack(covered), torch.stack(outlines), kinds


def overlap(found: Tensor, outlines: Tensor) -> Tensor:
    """The IoU on the face of each of N masks and its outline, N×1×S×S and cut at one half."""
    place = face_region()
    a, b = ((x * place).flatten(1) > 0.5 for x in (found, outlines))
    return (a & b).sum(1) / (a | b).sum(1).clamp(min=1)
