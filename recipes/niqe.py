"""Recipe of NIQE's statistics: from clean aligned faces to a file of a few kilobytes.

    python -m recipes.aligned DATA FACES                     align the portraits at 256 px
    python -m recipes.niqe fit FACES weights/niqe.safetensors
    python -m recipes.niqe evaluate DATA [FILE]

`fit` takes a minute or two. `evaluate` damages the held-out faces in many ways and tells how
often the damaged face measures worse than the clean one, and than any clean face.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bfr.damage.degrade import Degradation, degrade_faces
from bfr.faces.retinaface import load_detector
from bfr.image.tensors import from_uint8
from bfr.quality.niqe import Statistics, load_statistics, niqe, patch_features

from .aligned import ALIKE, SIZE, held_out_faces
from .frame import Commands, write_weights

log = logging.getLogger(__name__)
PATCH = 32
_AT_ONCE = 8  # faces

NONE = Degradation((0.0, 0.0), (2.0, 2.0), (0.0, 0.0), (100.0, 100.0), grey=0.0)
"""Nothing but JPEG at quality 100 on a 256 px face, in the units of a 512 px one."""
DAMAGE = {
    "blur": [{"blur": (s, s)} for s in (1.0, 2.0, 4.0, 8.0)],
    "downscale": [{"downscale": (s, s)} for s in (3.0, 4.0, 8.0)],
    "noise": [{"noise": (s, s)} for s in (3.0, 6.0, 12.0, 25.0)],
    "jpeg": [{"jpeg": (q, q)} for q in (80.0, 60.0, 40.0, 20.0)],
    "blur and noise": [{"blur": (4.0, 4.0), "noise": (s, s)} for s in (3.0, 6.0, 12.0)],
    "blur and jpeg": [{"blur": (4.0, 4.0), "jpeg": (q, q)} for q in (80.0, 40.0)],
}


def fit(faces: Path, file: Path) -> None:
    """Writes mean and covariance of the features of all patches; what is alike weighs less."""
    pixels = np.load(faces / "faces.npy", mmap_mode="r")
    names = json.loads((faces / "faces.json").read_text())["names"]
    features = torch.cat(list(_features(pixels)))
    weights = torch.tensor([ALIKE.get(name.rpartition("/")[0], 1.0) for name in names])
    weights = weights.double()[:, None].expand(features.shape[:2])
    textured = features.isfinite().all(-1)
    features, weights = features[textured], weights[textured]
    log.info("%d faces, %d patches, %d without texture", *textured.shape, (~textured).sum())
    state = {
        "mean": (weights[:, None] * features).sum(0) / weights.sum(),
        "covariance": torch.cov(features.mT, aweights=weights),
    }
    write_weights(
        file, state, "niqe", architecture="NIQE", size=SIZE, patch=PATCH, faces=len(names)
    )


def _features(pixels: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(pixels), _AT_ONCE):
        part = from_uint8(pixels[start : start + _AT_ONCE, ..., :3])
        yield patch_features(part, SIZE, PATCH)


def damaged_sets(clean: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The faces under each damage at each strength, with its name."""
    for kind, strengths in DAMAGE.items():
        for changed in strengths:
            named = ", ".join(f"{name} {low:g}" for name, (low, _) in changed.items())
            yield f"{kind} ({named})", degrade_faces(clean, replace(NONE, **changed), seed=7)


def evaluate(data: Path, statistics: Statistics) -> None:
    """Logs for each damage how often it is ranked worse than clean."""
    with torch.inference_mode():
        clean, _ = held_out_faces(data, load_detector())
        before = niqe(clean, statistics)
        log.info("%-40s %.2f (%.2f to %.2f)", "clean", *_spread(before))
        for name, images in damaged_sets(clean):
            after = niqe(images, statistics)
            own = (after > before).double().mean()
            any_clean = (after[:, None] > before).double().mean()
            row = (name, *_spread(after), 100 * own, 100 * any_clean)
            log.info("%-40s %.2f (%.2f to %.2f)  worse: %.1f %%, than any: %.1f %%", *row)


def _spread(values: Tensor) -> list[float]:
    """Median, and the values that a tenth lies below and above."""
    return values.quantile(torch.tensor([0.5, 0.1, 0.9]).to(values)).tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    commands = Commands(__doc__)
    commands.add("fit", "faces", "file")
    commands.add("evaluate", "data", "file?")
    args = commands.parse(arguments)
    if args.command == "fit":
        fit(args.faces, args.file)
    else:
        evaluate(args.data, load_statistics(args.file))


if __name__ == "__main__":
    main()
