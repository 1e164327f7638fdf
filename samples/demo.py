"""Damage the sample photographs in several kinds, restore them and show both side by side.

Run it with ``make demo``. It uses the embedded weights and the chain of the command line and of
the *Restore Photo* node; the damage is synthetic and always the same.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bfr.damage.degrade import degrade_faces
from bfr.faces.retinaface import load_detector
from bfr.files.photos import read_photo
from bfr.image.resize import resize_square
from bfr.image.tensors import to_uint8
from bfr.restore.load import load_restorer
from bfr.restore.photo import restore_photo
from bfr.restore.settings import RestoreSettings

PHOTOGRAPHS = ("eileen_collins.jpg", "grace_hopper.jpg")
KINDS = ["low resolution", "noise", "compression", "faded print"]  # what restorers train on
SEED = 7
SETTINGS = RestoreSettings(enlarge="auto", grain=0.5, doubtful=False)
CELL, MARGIN, HEADER = 340, 8, 28  # pixels


FOLDER = Path(__file__).resolve().parent


def main(target: Path = FOLDER.parent / "output" / "demo.png") -> None:
    """Writes the picture and prints its path."""
    target.parent.mkdir(exist_ok=True)
    detector, restorer = load_detector(), load_restorer()
    columns: list[tuple[str, Tensor]] = []
    with torch.inference_mode():
        for name in PHOTOGRAPHS:
            original = read_photo(FOLDER / name).pixels
            kinds = [degrade_faces(original, preset, SEED) for preset in KINDS]
            damaged = torch.cat(kinds)
            restored = restore_photo(damaged, detector, restorer, SETTINGS)
            print(f"{name}: {restored.faces.count} faces in {len(damaged)} damaged pictures")
            columns.append(("original", original.expand_as(damaged)))
            columns.append(("damaged", damaged))
            columns.append(("restored", restored.images))
    draw_grid(columns, KINDS).save(target)
    print(target)


def draw_grid(columns: list[tuple[str, Tensor]], rows: list[str]) -> Image.Image:
    """Lays pictures out in labelled columns.

    Args:
        columns: a title, and B×3×H×W RGB in [0, 1] with a picture for each row.
        rows: the B rows' names.
    """
    step = CELL + MARGIN
    font = ImageFont.load_default(16)
    grid = Image.new("RGB", (len(columns) * step + MARGIN, len(rows) * (step + HEADER)), "white")
    pen = ImageDraw.Draw(grid)
    for column, (title, pictures) in enumerate(columns):
        cells = to_uint8(resize_square(pictures, CELL))
        for row, name in enumerate(rows):
            x, y = MARGIN + column * step, row * (step + HEADER)
            label = f"{name}: {title}" if column == 0 else title
            pen.text((x, y + 5), label, "black", font)
            grid.paste(Image.fromarray(cells[row]), (x, y + HEADER))
    return grid


if __name__ == "__main__":
    main()
