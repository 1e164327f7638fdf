"""The guard: what counts as better, and what is never let through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import sabotage, sabotage_fresh, sabotage_last, sabotage_sly, sabotage_unseen
from bfr.faces.identity import load_identity
from bfr.finetune.figures import compare
from bfr.finetune.guard import LIMITS, Verdict, judge
from bfr.finetune.look import SIZE, Look, look, look_at_given
from tests.finetune_sets import faces

N = 12


def look_at(images: Tensor) -> Look:
    return look(images, load_identity())


FINE = {
    "harshness": [0.0],
    "moved": [0.0],
    "reshaped": [0.0],
    "resized": [0.0],
    "trembling": [15.0],
    "shade": [0.0],
    "person": [0.0],
    "colour": [0.0],
    "lightness": [0.0],
    "cast": [0.0],
    "tinge": [0.0],
    "contrast": [0.0],
    "estranged": [0.0],
    "grain": [0.5],
    "pattern": [-1.0],
    "mesh": [0.5],
    "echo": [0.0],
    "lines": [0.0],
    "specks": [1.0],
    "apart": [0.0],
    "sharpened": [0.0],
    "smoothed": [0.0],
    "relit": [0.0],
    "spotted": [0.0],
    "levelled": [0.0],
    "waves": [0.0],
    "blocks": [0.0],
}


def figures(niqe: list[float], sharpness: list[float], **harms: list[float]) -> dict[str, Any]:
    known = {name: values * len(niqe) for name, values in {**FINE, **harms}.items()}
    return {"niqe": niqe, "sharpness": sharpness, **known}


BASE = figures([2.0] * N, [1.0] * N)


def test_a_base_does_not_beat_itself():
    verdict = judge(BASE, BASE)
    assert verdict == Verdict(False, 0.0, 0.0, N) and not verdict.harms


def test_better_texture_and_more_detail_are_gains():
    for better in (figures([1.8] * N, [1.0] * N), figures([2.0] * N, [1.2] * N)):
        verdict = judge(better, BASE)
        assert verdict.better and verdict.gain > 0 and not verdict.harms
    assert judge(figures([2.1] * N, [0.9] * N), BASE).gain < 0


def test_detail_counts_up_to_what_clean_faces_have():
    gains = [judge(figures([2.0] * N, [sharp] * N), BASE).gain for sharp in (1.5, 2.0, 3.4, 9.0)]
    assert 0 < gains[0] < gains[1] == gains[2] and gains[3] < 0


def test_a_gain_within_the_noise_is_none():
    wild = [1.0 + 0.5 * (-1) ** face + 0.02 for face in range(N)]
    verdict = judge(figures([2.0] * N, wild), BASE)
    assert not verdict.better and not verdict.harms and verdict.error > 0.05
    hardly = judge(figures([1.999] * N, [1.0] * N), BASE)
    assert 0 < hardly.gain < 0.005 and not hardly.better


def test_a_handful_of_faces_must_agree_and_is_called_so():
    two = figures([2.0] * 2, [1.0] * 2)
    assert not judge(figures([1.9, 1.99], [1.0] * 2), two).better
    alike = judge(figures([1.8, 1.79], [1.0] * 2), two)
    assert alike.better and "few" in alike.describe()
    one = figures([2.0], [1.0])
    assert (
        judge(figures([1.5], [1.0]), one).better and not judge(figures([1.95], [1.0]), one).better
    )


def test_what_cannot_be_measured_is_no_gain():
    broken = figures([math.nan] * N, [9.0] * N)
    assert not judge(broken, BASE).better and judge(broken, BASE).harms
    part = figures([math.nan] + [1.0] * (N - 1), [1.0] * N)
    assert not judge(part, BASE).better, "it lost a face"
    assert judge(part, {**BASE, "niqe": [math.nan] + [2.0] * (N - 1)}).better


@pytest.mark.parametrize("harm", sorted(LIMITS))
def test_no_gain_outweighs_a_harm(harm: str):
    good = figures([1.0] * N, [2.0] * N)
    assert judge(good, BASE).better
    too_much = [10.0] * N if harm == "niqe" else [3 * LIMITS[harm][1] + 5]
    verdict = judge({**good, harm: (too_much * N)[:N]}, BASE)
    assert not verdict.better and len(verdict.harms) == 1
    assert LIMITS[harm][0] in verdict.describe()


@pytest.fixture(scope="module")
def before() -> Tensor:
    """Smooth shapes with some texture, as large as the guard sees faces."""
    return F.interpolate(faces(6, size=64), SIZE, mode="bicubic", antialias=True).clamp(0, 1)


@pytest.fixture(scope="module")
def base(before: Tensor) -> Look:
    return look_at(before)


def in_places(x: Tensor, period: int) -> Tensor:
    """A mesh in some places, in others on each face."""
    where = F.interpolate(faces(len(x), seed=5, size=8)[:, :1].round(), SIZE, mode="bilinear")
    wave = torch.cos(torch.arange(SIZE) * (2 * math.pi / period))
    return (x + 0.04 * where * wave[:, None] * wave).clamp(0, 1)


def grain(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("harm", "change"),
    [
        ("harshness", lambda x: sabotage.sharpened(x, 4.0, 1.0)),
        ("harshness", lambda x: sabotage.contrasted(x, 1.3)),
        ("moved", lambda x: sabotage.shifted(x, 2)),
        ("moved", lambda x: sabotage.warped(x)),
        ("reshaped", lambda x: sabotage.shifted(x, 1)),
        ("shade", lambda x: sabotage.side_lit(x)),
        ("shade", lambda x: sabotage.vignette(x)),
        ("grain", lambda x: sabotage.colour_noise(x)),
        ("lightness", lambda x: 0.93 * x),
        ("lightness", lambda x: (1.07 * x).clamp(0, 1)),
        ("contrast", lambda x: sabotage.contrasted(x, 1.1)),
        ("contrast", lambda x: sabotage.contrasted(x, 0.9)),
        ("colour", lambda x: sabotage.tinted(x)),
        ("cast", lambda x: sabotage.tinted(x, 0.3)),
        ("cast", lambda x: sabotage.cast(x, 0.4)),
        ("tinge", lambda x: sabotage.lipstick(x)),
        ("grain", lambda x: sabotage.grainy(x)),
        ("pattern", lambda x: sabotage.patterned(x, sabotage.stripes(SIZE))),
        ("pattern", lambda x: sabotage.patterned(x, sabotage.checkers(SIZE), 0.02)),
        ("mesh", lambda x: sabotage.patterned(x, sabotage.checkers(SIZE), 0.02)),
        ("mesh", lambda x: in_places(x, 4)),
        ("mesh", lambda x: in_places(x, 3)),
        ("echo", lambda x: sabotage_unseen.ghosted(x)),
        ("lines", lambda x: sabotage_fresh.banded(x)),
        ("lines", lambda x: sabotage_fresh.banded(x.mT).mT),
        ("specks", lambda x: sabotage_fresh.dusty(x)),
        ("apart", lambda x: sabotage_fresh.fringed(x)),
        ("apart", lambda x: sabotage_fresh.fringed(x.mT).mT),
        ("shade", lambda x: sabotage_fresh.red_eyed(x)),
        ("tinge", lambda x: sabotage_last.blue_eyed(x)),
        ("sharpened", lambda x: sabotage_last.sharp_mouth(x)),
        ("relit", lambda x: sabotage_sly.exposed(x)),
        ("waves", lambda x: sabotage_sly.moire(x)),
        ("blocks", lambda x: sabotage_sly.coarse_colours(x)),
        ("trembling", lambda x: sabotage_sly.wobbly(x)),
        ("smoothed", lambda x: sabotage_fresh.smooth_cheeks(x)),
        ("smoothed", lambda x: sabotage_unseen.smooth_brow(x)),
        ("spotted", lambda x: sabotage_last.freckled(x)),
        ("levelled", lambda x: x.lerp(x.mean((1, 2, 3), keepdim=True).mean().expand_as(x), 0.4)),
        ("grain", lambda x: (x + 0.1 * (x.mean(1, keepdim=True) < 0.35) * grain(x)).clamp(0, 1)),
        ("resized", lambda x: sabotage.enlarged(x, 0.1)),
        ("resized", lambda x: sabotage.enlarged(x, -0.1)),
    ],
)
def test_each_harm_is_seen(
    before: Tensor, base: Look, harm: str, change: Callable[[Tensor], Tensor]
):
    found = compare(base, look_at(change(before)))[harm]
    assert sum(found) / len(found) > LIMITS[harm][1]


def test_no_harm_is_seen_in_the_same_faces(base: Look):
    found = compare(base, base)
    means = {harm: sum(found[harm]) / len(base.niqe) for harm in {*LIMITS} - {"niqe", "estranged"}}
    assert not {harm: mean for harm, mean in means.items() if mean > LIMITS[harm][1]}


def test_faces_are_measured_alone_but_for_what_they_share(before: Tensor, base: Look):
    shared = {"pattern", "person", "lightness", "cast", "tinge", "contrast", "repaired"}
    shared |= {"reshaped", "resized", "shade", "mesh", "echo", "mended", "lines", "apart"}
    shared |= {"sharpened", "smoothed", "spotted", "levelled", "relit"}
    together = compare(base, look_at(before * 0.9))
    alone = compare(look_at(before[2:3]), look_at(before[2:3] * 0.9))
    own = together.keys() - shared
    assert {name: alone[name][0] for name in own} == pytest.approx(
        {name: together[name][2] for name in own}, rel=1e-3, abs=1e-4
    )


def test_noise_that_goes_from_the_whole_face_is_no_loss_of_texture(before: Tensor):
    noisy = look_at((before + 0.02 * grain(before)).clamp(0, 1))
    found = compare(noisy, look_at(before))["smoothed"]
    assert found[0] < LIMITS["smoothed"][1]


def test_blotches_of_colour_that_go_are_no_shift_of_colours(before: Tensor):
    random = torch.Generator().manual_seed(5)
    coarse = F.interpolate(torch.randn(6, 2, 16, 16, generator=random), SIZE)
    noise = torch.stack([coarse[:, 0], 0 * coarse[:, 0], coarse[:, 1]], 1)
    blotched = (before + 0.04 * noise).clamp(0, 1)
    away, back = look_at(before), look_at(blotched)
    gone, come = (sum(compare(*pair)["colour"]) / 6 for pair in ((back, away), (away, back)))
    assert come > LIMITS["colour"][1] and gone < come / 2


def test_faces_may_become_as_light_as_the_damaged_ones_but_no_lighter(before: Tensor, base: Look):
    def harmed(gain: float, given: Tensor) -> bool:
        shown = look_at_given(given, load_identity())
        return compare(base, look_at(gain * before), shown)["lightness"][0] > LIMITS["lightness"][1]

    noisy = (before + 0.12 * grain(before)).clamp(0, 1)  # its light is more than its mean values'
    assert not harmed(1.02, noisy) and harmed(1.02, before)
    assert harmed(1.06, noisy) and harmed(0.98, noisy)


def test_texture_is_no_spots(before: Tensor, base: Look):
    rough = sabotage.blurred(grain(before[:, :1]), 1.0)
    found = compare(base, look_at((before + 0.03 * rough / rough.std()).clamp(0, 1)))["spotted"]
    assert found[0] < LIMITS["spotted"][1]


def test_contrast_may_be_given_back_to_faded_faces_only(before: Tensor):
    def harms(given: Tensor, restored: Tensor) -> set[str]:
        base, tuned = look_at(given), look_at(restored)
        found = compare(base, tuned)
        limits = {"harshness": LIMITS["harshness"][1], "contrast": LIMITS["contrast"][1]}
        return {name for name, limit in limits.items() if sum(found[name]) / len(given) > limit}

    full = sabotage.contrasted(before[:2], 3.0)
    half = sabotage.faded(full)
    assert not harms(half.lerp(torch.full_like(half, 0.5), 0.4), half)
    assert harms(full, sabotage.contrasted(full, 1.3)) == {"harshness", "contrast"}
    assert "contrast" in harms(half, half.lerp(torch.full_like(half, 0.5), 0.4)), "faded further"


def test_where_there_was_no_face_light_colours_and_edges_may_change():
    other = {"lightness": [1.5], "tinge": [5.0], "contrast": [0.05], "sharpened": [0.38]}
    better = [3.5] * N
    found, none = (figures(better, [1.0] * N, **other, mended=[share]) for share in (0.8, 0.0))
    before = figures([6.0] * N, [0.4] * N)
    assert judge(found, before).better and len(judge(none, before).harms) == 4


def test_faces_that_were_none_are_told_by_their_texture(before: Tensor):
    base = look_at(before)
    none, some, clean = (replace(base, niqe=torch.full((6,), x)) for x in (6.0, 3.5, 2.0))
    for old, new, expected in ((none, some, 2.5 / 3), (none, clean, 1.0), (clean, none, 0.0)):
        assert compare(old, new)["mended"] == pytest.approx([expected] * 6)
    assert compare(some, some)["mended"] == [0.0] * 6


def test_larger_faces_have_about_the_same_figures(before: Tensor):
    few = before[:2]
    large = F.interpolate(few, 2 * SIZE, mode="bicubic").clamp(0, 1)
    small, found = (compare(look_at(x), look_at(x * 0.93)) for x in (few, large))
    for name in ("moved", "colour", "harshness"):
        assert found[name] == pytest.approx(small[name], rel=0.2, abs=0.1), name


def test_inputs_are_left_alone(before: Tensor):
    few = before[:2].clone()
    look_at(few)
    assert torch.equal(few, before[:2])
