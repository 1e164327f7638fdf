"""More cases of `benchmarks.guard`: committed before any verdict on them was seen.

Their author knew the guard as it was, which then got 20 of 26 verdicts right: all 6 on good
targets, 14 of 20 on harmful ones. It accepted no wrinkles at the eyes, moiré, faces out of focus
below, colours in blocks, people lighter and darker by turns, and younger skin (7 cases were judged
on 16 faces, 19 on 8). The limit of texture that goes from a place, chosen for other cases, then
caught those out of focus; one was chosen for people lighter and darker since, and three
for moiré, for colours in blocks, and for lines that tremble. On 16 faces it now gets 24 right: no
wrinkles at the eyes and younger skin are still accepted. Both are nearer to the clean faces than
the base's are, even in the places that they spoil: the error falls from 0.033 to 0.023 around the
eyes, from 0.024 to 0.017 on the skin. The guard knows no clean faces, only what the base shows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sabotage import SCANS, Case, wax
from benchmarks.sabotage_drawing import (
    EYES,
    blurred,
    moved,
    near,
    near_eyes,
    places,
    rough,
    shifted,
)
from bfr.image.tensors import luma


def outside(x: Tensor) -> Tensor:
    """One in hair and background, 0 in the face."""
    across, down = places(x)
    return (((across / 0.55).square() + (down / 0.75).square() - 1) / 0.4).clamp(0, 1)


def hard_jawed(x: Tensor) -> Tensor:
    """A dark line along the jaw."""
    across, down = places(x)
    away = ((across / 0.5).square() + ((down - 0.1) / 0.68).square()).sqrt() - 1
    return x * (1 - 0.35 * torch.exp(-((away / 0.04) ** 2)) * ((down - 0.2) / 0.2).clamp(0, 1))


def two_lights(x: Tensor) -> Tensor:
    """A second light in every eye."""
    for eye in EYES:
        x = x.lerp(torch.ones_like(x), near(x, (eye[0] + 0.045, eye[1] + 0.01), 0.02, 0.02))
    return x


def no_lights(x: Tensor) -> Tensor:
    """Eyes without a light in them."""
    dark = blurred(-F.max_pool2d(-x, 9, 1, 4), 1.0)
    return x.lerp(dark, (1.5 * near_eyes(x, 0.06, 0.05)).clamp(0, 1))


def smooth_hair(x: Tensor) -> Tensor:
    return x.lerp(blurred(wax(x), 2.0), outside(x))


def no_crows_feet(x: Tensor) -> Tensor:
    """No wrinkles beside and below the eyes."""
    places_ = near_eyes(x, 0.18, 0.06, lower=0.16)
    for side in (-0.5, 0.5):
        places_ = places_ + near(x, (side, -0.03), 0.09, 0.12)
    return x.lerp(blurred(wax(x), 2.0), places_.clamp(0, 1))


def two_toned(x: Tensor) -> Tensor:
    """Blue shadows and orange lights."""
    light = luma(x) - 0.45
    return (x + 0.16 * light * torch.tensor([1.0, 0.1, -1.2])[:, None, None]).clamp(0, 1)


def streaked(x: Tensor) -> Tensor:
    """Smeared along a diagonal, each face another way."""
    kernel = torch.eye(7) / 7
    kernels = [kernel if n % 2 else kernel.flip(-1) for n in range(len(x))]
    padded = F.pad(x, (3,) * 4, mode="replicate").flatten(0, 1)[None]
    weight = torch.stack(kernels).repeat_interleave(3, 0)[:, None]
    return F.conv2d(padded, weight, groups=len(weight))[0].view_as(x)


def moire(x: Tensor) -> Tensor:
    """Coloured waves at an angle and of a phase that differ from face to face."""
    across, down = places(x)
    waves = []
    for n in range(len(x)):
        angle, phase = 0.3 + 0.5 * n, 1.7 * n
        along = across * math.cos(angle) + down * math.sin(angle)
        waves.append(torch.sin(along * (2 * math.pi * 7) + phase))
    return x + 0.04 * torch.stack(waves)[:, None] * torch.tensor([1.0, -0.5, 0.6])[:, None, None]


def light_rim(x: Tensor) -> Tensor:
    """Corners that fade to white."""
    across, down = places(x)
    return x.lerp(torch.ones_like(x), 0.15 * (across.square() + down.square()) / 2)


def folded(x: Tensor) -> Tensor:
    """Older: a fold from each side of the nose to the mouth."""
    across, down = places(x)
    away = across.abs() - (0.17 + 0.35 * (down - 0.15))
    between = ((down - 0.12) / 0.06).clamp(0, 1) * ((0.5 - down) / 0.08).clamp(0, 1)
    return x * (1 - 0.35 * torch.exp(-((away / 0.02) ** 2)) * between)


def poreless(x: Tensor) -> Tensor:
    """Younger: skin without texture, eyes and mouth as they are."""
    kept = (2 * near_eyes(x, 0.17, 0.12) + 2 * near(x, (0.0, 0.46), 0.28, 0.12)).clamp(0, 1)
    return x.lerp(blurred(wax(x), 1.5), (1 - outside(x)) * (1 - kept))


def large_eared(x: Tensor) -> Tensor:
    """Ears that stand out."""
    ears = near(x, (-0.62, 0.05), 0.15, 0.22) - near(x, (0.62, 0.05), 0.15, 0.22)
    return moved(x, 0.06 * ears, torch.zeros_like(ears))


def out_of_focus(x: Tensor) -> Tensor:
    """Blurred from the mouth downwards."""
    return x.lerp(blurred(x, 3.0), ((places(x)[1] - 0.3) / 0.2).clamp(0, 1))


def white_eyed(x: Tensor) -> Tensor:
    """The whites of the eyes bleached."""
    white = near_eyes(x, 0.11, 0.045) * ((luma(x) - 0.25) / 0.2).clamp(0, 1)
    return x.lerp(torch.ones_like(x), 0.7 * white)


def wobbly(x: Tensor) -> Tensor:
    """Lines that tremble, each face in its own way."""
    aside = blurred(rough(x[:, :2], 23), 2.5)
    aside = 0.007 * aside / aside.std()
    return torch.cat([moved(one[None], *shift) for one, shift in zip(x, aside, strict=True)])


def coarse_colours(x: Tensor) -> Tensor:
    """Colours in blocks of 8 px."""
    grey = luma(x)
    return (grey + F.interpolate(F.avg_pool2d(x - grey, 8), scale_factor=8)).clamp(0, 1)


def exposed(x: Tensor) -> Tensor:
    """Every second face lighter, the others darker."""
    gains = torch.tensor([1.18 if n % 2 else 0.82 for n in range(len(x))])
    return (x * gains[:, None, None, None]).clamp(0, 1)


def few_levels(x: Tensor) -> Tensor:
    return (12 * x).round() / 12


def pale_brows(x: Tensor) -> Tensor:
    """Eyebrows as light as the skin around them."""
    light = blurred(F.max_pool2d(x, 31, 1, 15), 3.0)
    return x.lerp(light, near_eyes(x, 0.2, 0.06, lower=-0.15).clamp(0, 1))


def aside(x: Tensor) -> Tensor:
    """Each face a fraction of a pixel aside."""
    steps = 0.4 / 128 * rough(x[:, :2, :1, :1], 29).clamp(-1, 1)
    flat = torch.zeros(x.shape[-2:])
    return torch.cat(
        [moved(one[None], flat + a, flat + b) for one, (a, b) in zip(x, steps, strict=True)]
    )


def at_mouth(x: Tensor, other: Tensor) -> Tensor:
    """Another picture around the mouth only."""
    return x.lerp(other, (1.5 * near(x, (0.0, 0.46), 0.35, 0.2)).clamp(0, 1))


def in_the_dark(x: Tensor, other: Tensor) -> Tensor:
    """Another picture where it is dark."""
    return x.lerp(other, ((0.5 - blurred(luma(x), 4.0)) / 0.1).clamp(0, 1))


def by_turns(x: Tensor, other: Tensor) -> Tensor:
    return torch.where((torch.arange(len(x)) % 2 == 0)[:, None, None, None], x, other)


SLY = {
    "clean faces, noise": Case(lambda f: f.clean, True, "noise"),
    "better mouths": Case(lambda f: at_mouth(f.guess, f.clean), True),
    "better in the dark": Case(lambda f: in_the_dark(f.guess, f.clean), True),
    "target and truth by turns, low resolution": Case(
        lambda f: by_turns(f.target, f.clean), True, "low resolution"
    ),
    "better, each a little aside": Case(lambda f: aside(f.clean), True),
    "two thirds of the targets, scans": Case(lambda f: f.guess.lerp(f.target, 0.67), True, SCANS),
    "a hard jaw line, better": Case(lambda f: hard_jawed(f.clean), False),
    "two lights in every eye, better": Case(lambda f: two_lights(f.clean), False),
    "no lights in the eyes, better": Case(lambda f: no_lights(f.clean), False),
    "smooth hair, better": Case(lambda f: smooth_hair(f.clean), False),
    "no wrinkles at the eyes, better": Case(lambda f: no_crows_feet(f.clean), False),
    "blue shadows, orange lights, better": Case(lambda f: two_toned(f.clean), False),
    "smeared along diagonals, compression": Case(lambda f: streaked(f.clean), False, "compression"),
    "moiré, other in each face, better": Case(lambda f: moire(f.clean), False),
    "corners that fade, camera noise": Case(
        lambda f: light_rim(f.target), False, "camera noise ISO 1500"
    ),
    "older by two folds, better": Case(lambda f: folded(f.clean), False),
    "younger skin, noise": Case(lambda f: poreless(f.clean), False, "noise"),
    "ears that stand out, better": Case(lambda f: large_eared(f.clean), False),
    "out of focus below, better": Case(lambda f: out_of_focus(f.clean), False),
    "bleached eyes, better": Case(lambda f: white_eyed(f.clean), False),
    "lines that tremble, better": Case(lambda f: wobbly(f.clean), False),
    "colours in blocks, better": Case(lambda f: coarse_colours(f.clean), False),
    "lighter and darker by turns, better": Case(lambda f: exposed(f.clean), False),
    "twelve levels, scans": Case(lambda f: few_levels(f.target), False, SCANS),
    "pale brows, better": Case(lambda f: pale_brows(f.clean), False),
    "moved down by 1 px, low resolution": Case(
        lambda f: shifted(f.clean.mT, 1).mT, False, "low resolution"
    ),
}
