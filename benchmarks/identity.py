"""Parity of the face recognition network with dlib's.

    python -m benchmarks.identity FIGURES.npz [--weights FILE]

FIGURES holds ``chips``, N×150×150×3 uint8 RGB faces as dlib cuts them, and ``embeddings``,
N×128 as dlib computes them. Prints the largest and the mean distance of ours from dlib's, and
ends with 1 if the largest is beyond 0.01; two photographs of one person are up to 0.6 apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bfr.faces.identity import load_identity

LIMIT = 0.01


def distances(figures: Path, weights: Path | None = None) -> np.ndarray:
    """The distance of our embedding of each chip from dlib's, N values."""
    with np.load(figures) as file:
        chips, wanted = file["chips"], file["embeddings"]
    pixels = torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 255
    network = load_identity(weights).network
    with torch.no_grad():
        found = torch.cat([network(part) for part in pixels.split(32)])
    return np.linalg.norm(found.double().numpy() - wanted, axis=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path)
    parser.add_argument("--weights", type=Path, help="a file other than the embedded one")
    options = parser.parse_args(arguments)
    found = distances(options.figures, options.weights)
    largest = float(found.max())
    passed = largest <= LIMIT  # False for NaN
    print(f"{len(found)} faces: largest distance {largest:.5f}, mean {found.mean():.5f}")
    print(f"{'within' if passed else 'BEYOND'} {LIMIT}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
