"""Flicker of restored clips: what changes from frame to frame beside the motion.

    python -m benchmarks.flicker [--photo samples/grace_hopper.jpg] [--frames 24] [--out FOLDER]

The clip is filmed from a still photograph (`samples.clip`), with fresh noise in every frame; its
motion is known, so no estimate of it adds an error of its own. All frames are laid back onto the
photograph, and two figures taken over the face, in levels of 255:

- flicker: the mean difference of one frame and the next; that of the undamaged film is what
  resampling adds;
- error: the root mean square difference from the undamaged film, so that no blur passes for calm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from kornia.geometry.transform import warp_affine
from torch import Tensor

from bfr.faces.retinaface import load_detector
from bfr.files.photos import Photo, read_photo
from bfr.files.writing import write_photo
from bfr.image.geometry import invert
from bfr.restore.clip import restore_frames
from bfr.restore.follow import find_tracks
from bfr.restore.load import load_restorer
from bfr.restore.settings import VideoSettings
from samples.clip import FOLDER, film

CASES = {
    "each frame by itself": VideoSettings(smoothing=0, steadiness=0),
    "landmarks smoothed": VideoSettings(steadiness=0),
    "and steadied": VideoSettings(),
}


def on_the_photograph(frames: Tensor, photo_to_frame: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames resampled to where each pixel of the photograph was."""
    matrices = invert(photo_to_frame).to(frames)
    return warp_affine(frames, matrices, size, "bicubic", "border", True)


def face_mask(landmarks: Tensor, size: tuple[int, int]) -> Tensor:
    """H×W boolean: the disk about 5×2 landmarks that holds eyes, mouth, cheeks and chin."""
    centre = landmarks.mean(0)
    radius = 1.2 * (landmarks[0] - landmarks[1]).norm()
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    return (torch.stack([columns, rows], -1) - centre).norm(dim=-1) < radius


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, default=FOLDER / "grace_hopper.jpg")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--out", type=Path, help="write every case's frames into this folder")
    args = parser.parse_args()
    photo = read_photo(args.photo).pixels
    size = (photo.shape[2], photo.shape[3])
    clean, damaged, photo_to_frame = film(photo, args.frames, noise=args.noise)
    detector, restorer = load_detector(), load_restorer()
    results = {"undamaged": clean, "damaged": damaged}
    with torch.inference_mode():
        (face,) = find_tracks(photo, detector)
        mask = face_mask(torch.tensor(face.faces[0].landmarks), size)
        for name, settings in CASES.items():
            tracks = find_tracks(damaged, detector, settings)
            parts = restore_frames(damaged, tracks, restorer, settings)
            results[name] = torch.cat([part.frames for part in parts])
        true = on_the_photograph(clean, photo_to_frame, size)[..., mask]
        print(f"{'':24}{'flicker':>9}{'error':>9}")
        for name, frames in results.items():
            seen = on_the_photograph(frames, photo_to_frame, size)[..., mask]
            flicker = 255 * seen.diff(dim=0).abs().mean()
            error = 255 * (seen - true).square().mean().sqrt()
            print(f"{name:24}{flicker:9.2f}{error:9.2f}")
            if args.out:
                write_frames(args.out / name.replace(" ", "_"), frames)


def write_frames(folder: Path, frames: Tensor) -> None:
    """Writes frames as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        write_photo(folder / f"{i:04}.png", Photo(frame[None]))


if __name__ == "__main__":
    main()
