"""Draws the icon and the banner of the pack's page in ComfyUI's registry.

A face under a slider: faded, stained and scratched on the left, clean on the right.
``python -m samples.icon`` writes both into ``assets``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parent.parent
ICON, BANNER = 400, (1260, 540)  # pixels; the registry shows a square, and 21 to 9
_FINER = 3  # drawn so many times larger, for smooth edges
_CLEAN = {"ground": "#1f6f8b", "hair": "#2b2a3a", "skin": "#f2b48c", "shirt": "#f4f1e8"}
_FADED = {"ground": "#a08f6f", "hair": "#665b45", "skin": "#dccba6", "shirt": "#cbbd9d"}
_LINE, _MOUTH = "#2b2a3a", "#b5473c"


def portrait(colours: dict[str, str], size: int) -> Image.Image:
    """A face of a few shapes on a square ground."""
    side = size * _FINER
    picture = Image.new("RGB", (side, side), colours["ground"])
    pen = ImageDraw.Draw(picture)

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return x0 * side, y0 * side, x1 * side, y1 * side

    pen.ellipse(box(0.16, 0.80, 0.84, 1.5), fill=colours["shirt"])
    pen.rectangle(box(0.42, 0.68, 0.58, 0.84), fill=colours["skin"])
    pen.ellipse(box(0.40, 0.77, 0.60, 0.90), fill=colours["skin"])
    pen.ellipse(box(0.24, 0.12, 0.76, 0.66), fill=colours["hair"])
    pen.ellipse(box(0.27, 0.20, 0.73, 0.76), fill=colours["skin"])
    pen.chord(box(0.25, 0.13, 0.75, 0.55), 185, 355, fill=colours["hair"])
    for x in (0.39, 0.61):
        pen.ellipse(box(x - 0.028, 0.43, x + 0.028, 0.486), fill=_LINE)
        pen.arc(box(x - 0.06, 0.36, x + 0.06, 0.44), 205, 335, fill=_LINE, width=side // 90)
    pen.arc(box(0.465, 0.46, 0.535, 0.57), 20, 140, fill=_LINE, width=side // 110)
    pen.chord(box(0.41, 0.54, 0.59, 0.67), 15, 165, fill=_MOUTH)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def damaged(picture: Image.Image, seed: int = 3) -> Image.Image:
    """Blurred, grainy and scratched."""
    random = np.random.default_rng(seed)
    side = picture.width
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(side / 70)), np.float32)
    noise = random.normal(128, 12, (side // 3, side // 3)).clip(0, 255)
    coarse = Image.fromarray(noise.astype(np.uint8))
    grain = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32) - 128
    result = Image.fromarray((blurred + grain[..., None]).clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(result)
    for x, y, length in ((0.12, 0.15, 0.5), (0.33, 0.05, 0.8), (0.42, 0.5, 0.4)):
        bends = random.normal(0, side / 100, 5)
        line = [
            (x * side + bend, (y + length * part / 4) * side) for part, bend in enumerate(bends)
        ]
        pen.line(line, fill="#efe6cf", width=max(1, side // 130))
    return result


def icon(size: int = ICON) -> Image.Image:
    """The face, half as it was found and half restored, with rounded corners."""
    result = portrait(_CLEAN, size)
    result.paste(damaged(portrait(_FADED, size)).crop((0, 0, size // 2, size)), (0, 0))
    pen, middle, radius = ImageDraw.Draw(result), size // 2, size // 16
    pen.rectangle((middle - size // 130, 0, middle + size // 130, size), fill="white")
    height = round(0.91 * size)
    pen.ellipse((middle - radius, height - radius, middle + radius, height + radius), fill="white")
    for way in (-1, 1):
        tip, base = middle + way * 0.7 * radius, middle + way * 0.2 * radius
        wing = 0.4 * radius
        pen.polygon([(tip, height), (base, height - wing), (base, height + wing)], fill=_LINE)
    corners = Image.new("L", (size * _FINER, size * _FINER))
    ImageDraw.Draw(corners).rounded_rectangle(
        (0, 0, size * _FINER - 1, size * _FINER - 1), size * _FINER // 7, fill=255
    )
    result.putalpha(corners.resize((size, size), Image.Resampling.LANCZOS))
    return result


def banner() -> Image.Image:
    """The icon beside the picture of the README."""
    width, height = BANNER
    result = Image.new("RGB", BANNER, "#17323d")
    with Image.open(ROOT / "web" / "docs" / "images" / "before_after.jpg") as shown:
        scale = min(0.84 * height / shown.height, 0.6 * width / shown.width)
        picture = shown.convert("RGB").resize(
            (round(scale * shown.width), round(scale * shown.height)), Image.Resampling.LANCZOS
        )
    left = icon(round(0.6 * height))
    gap = (width - left.width - picture.width) // 3
    result.paste(left, (gap, (height - left.height) // 2), left)
    result.paste(picture, (2 * gap + left.width, (height - picture.height) // 2))
    return result


def main() -> None:
    icon().save(ROOT / "assets" / "icon.png", optimize=True)
    banner().save(ROOT / "assets" / "banner.jpg", quality=88)


if __name__ == "__main__":
    main()
