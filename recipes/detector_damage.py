"""The damage of the detector's training canvases."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter


def damage_canvas(image: Image.Image, rng) -> Image.Image:
    """Random grey, tint, contrast, blur, low resolution, grain and JPEG."""
    if rng.random() < 0.35:
        image = image.convert("L").convert("RGB")
        if rng.random() < 0.4:
            tint = Image.new("RGB", image.size, tuple(rng.integers(120, 256, 3).tolist()))
            image = Image.blend(image, tint, rng.uniform(0.05, 0.35))
    else:
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.4, 1.6))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.55, 1.45))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.5, 1.5))
    if rng.random() < 0.3:  # deep shadow, or glare
        gamma = np.exp(rng.uniform(-0.7, 0.9))
        image = image.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.2)))
    if rng.random() < 0.15:
        side = image.width
        small = round(side / rng.uniform(1.2, 3))
        back = rng.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
        image = image.resize((small, small), Image.Resampling.BILINEAR)
        image = image.resize((side, side), Image.Resampling(back))
    if rng.random() < 0.35:
        pixels = np.asarray(image, np.float32)
        channels = 3 if rng.random() < 0.6 else 1
        grain = rng.standard_normal((*pixels.shape[:2], channels), np.float32)
        pixels = pixels + grain * rng.uniform(3, 30)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(rng.integers(15, 85)))
        image = Image.open(packed).convert("RGB")
    return image


HATS = 0.12  # share of faces whose forehead is covered


def put_on_hat(canvas: Image.Image, points: np.ndarray, rng: np.random.Generator) -> None:
    """Covers the forehead of a face with landmarks 5×2, as hats and shadows do."""
    across = points[1] - points[0]
    up = np.array([across[1], -across[0]])
    middle = points[:2].mean(0)
    brim, top, wide = rng.uniform(0.35, 0.7), rng.uniform(1.2, 2.0), rng.uniform(0.9, 1.7)
    corners = [
        middle + high * up + side * wide * across
        for high, side in ((brim, -1), (brim, 1), (top, rng.uniform(0.5, 1)), (top, -1))
    ]
    colour = tuple(rng.integers(0, 256, 3).tolist())
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners], fill=colour)
