"""Make the sample clip: a portrait, filmed by an unsteady hand on an old camera.

    python -m samples.clip

The camera pans, zooms and tilts over the still portrait; every frame is blurred alike and has
noise of its own. What moves, and how, is thus known to the last pixel.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bfr.files.photos import read_photo
from bfr.files.whole import atomic_path
from bfr.image.crops import cut_crops
from bfr.image.tensors import to_uint8

FOLDER = Path(__file__).resolve().parent
SIDE = 320
FRAMES, FRAME_RATE = 24, 12


def film(
    photo: Tensor, frames: int = FRAMES, side: int = SIDE, noise: float = 0.05, seed: int = 7
) -> tuple[Tensor, Tensor, Tensor]:
    """Films a photograph.

    Args:
        photo: 1×3×H×W RGB in [0, 1].
        frames: how many.
        side: of the frames in pixels.
        noise: standard deviation of each frame's own noise.
        seed: of the noise.

    Returns:
        The frames×3×side×side film in [0, 1] as it should be, the same damaged, and the
        frames×2×3 float64 matrices from the photograph's pixels to each frame's.
    """
    height, width = photo.shape[2:]
    photo_to_frame = torch.empty(frames, 2, 3, dtype=torch.float64)
    middle = torch.full((2,), (side - 1) / 2, dtype=torch.float64)
    for i, matrix in enumerate(photo_to_frame):
        time = i / max(frames - 1, 1)
        zoom = side / min(height, width) * (1.05 + 0.25 * time)
        angle = math.radians(4 * math.sin(2 * math.pi * time))
        x = width * (0.5 + 0.03 * math.sin(2.6 * math.pi * time))
        y = height * (0.5 - 0.03 * time)
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        matrix[:, :2] = torch.tensor([[cos, -sin], [sin, cos]])
        matrix[:, 2] = middle - matrix[:, :2] @ torch.tensor([x, y], dtype=torch.float64)
    clean = cut_crops(photo, photo_to_frame, (0,) * frames, side)
    small = F.interpolate(clean, scale_factor=0.4, mode="bicubic", antialias=True)
    soft = F.interpolate(small, (side, side), mode="bicubic")
    grain = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return clean, (soft + noise * grain).clamp(0, 1), photo_to_frame


def main(target: Path = FOLDER / "grace_hopper.mp4") -> None:
    """Writes the clip and prints its path."""
    import av  # pyright: ignore[reportMissingImports]

    _, damaged, _ = film(read_photo(FOLDER / "grace_hopper.jpg").pixels)
    pixels = to_uint8(damaged)
    with (
        atomic_path(target) as partial,
        av.open(str(partial), "w", "mp4", options={"movflags": "faststart"}) as file,
    ):
        stream = file.add_stream("libx264", rate=Fraction(FRAME_RATE))
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "26", "preset": "veryslow"}
        for frame in pixels:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    print(f"{target}, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
