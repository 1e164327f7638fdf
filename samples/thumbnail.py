"""Draws the gallery's picture of the template that needs a checkpoint of the user's own.

The other pictures are drawn by the tests that run their templates (``BFR_RECORD=1``). This one
shows a face that the embedded prior repainted, a diffusion model as well:
``python -m samples.thumbnail``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.paste import paste_faces
from bfr.image.resize import resize_square
from bfr.image.tensors import to_uint8
from bfr.prior.sample import sample_targets
from bfr.restore.restorer import restore_faces
from samples.pictures import SIZE, detector, photo, prior, repainting, restorer

TARGET = Path(__file__).parent.parent / "workflows"
NAME = "face_restore_5_detailer_needs_own_checkpoint.jpg"
SIDE = 512


@torch.inference_mode()
def main() -> None:
    before = photo("eileen_collins", "low resolution")
    faces = detect_faces(before, detector())
    crops, alignment = align_faces(before, faces, SIZE)
    guess = restore_faces(crops, restorer())
    targets = sample_targets(guess, prior(), repainting()).targets
    after, _ = paste_faces(before, targets, alignment)
    panels = [resize_square(align_faces(each, faces, SIZE)[0], SIDE) for each in (before, after)]
    Image.fromarray(to_uint8(torch.cat(panels, 3).clamp(0, 1))[0]).save(TARGET / NAME, quality=88)


if __name__ == "__main__":
    main()
