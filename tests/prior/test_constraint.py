"""The constraint on the sample's low frequencies."""

from __future__ import annotations

import pytest
import torch

from bfr.errors import InputError
from bfr.image.lowpass import lowpass
from bfr.prior.constraint import Constraint, check_fit, constrain, constrain_clean
from bfr.prior.schedule import Schedule, noised, respace


def images(count: int = 3) -> torch.Tensor:
    """x, guess and noise, each 2×3×32×32."""
    return torch.randn(count, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


def test_the_defaults_are_the_papers():
    assert Constraint() == Constraint(factor=8, strength=1.0, start=150, stop=90)
    assert sum(Constraint().holds_at(step) for step in range(150)) == 60


@pytest.mark.parametrize("kept", [0.2, 0.99])
def test_equals_the_published_two_lowpasses(kept: float):
    x, guess, noise = images()
    reference = noised(guess, kept, noise)
    expected = x - lowpass(x, 4) + lowpass(reference, 4)
    assert torch.allclose(constrain(x, guess, kept, noise, 4), expected, atol=1e-12)


def test_strength_blends_from_the_free_sample():
    x, guess, noise = images()
    full = constrain(x, guess, 0.5, noise, 8)
    assert torch.equal(constrain(x, guess, 0.5, noise, 8, 0.0), x)
    assert torch.allclose(constrain(x, guess, 0.5, noise, 8, 0.3), x.lerp(full, 0.3), atol=1e-12)


def test_a_finished_face_gets_the_clean_guess():
    """The published code takes step -1 here, the noisiest of all."""
    x, guess, noise = images()
    assert torch.equal(constrain(x, guess, 1.0, noise, 8), x + lowpass(guess - x, 8))


def test_a_sample_that_agrees_is_left_alone():
    _, guess, noise = images()
    x = noised(guess, 0.4, noise)
    assert torch.allclose(constrain(x, guess, 0.4, noise, 8), x, atol=1e-12)


def test_factor_one_is_the_reference_itself():
    x, guess, noise = images()
    expected = noised(guess, 0.4, noise)
    assert torch.allclose(constrain(x, guess, 0.4, noise, 1), expected, atol=1e-12)


def test_inputs_are_not_written_to():
    inputs = images()
    before = inputs.clone()
    constrain(inputs[0], inputs[1], 0.5, inputs[2], 8)
    assert torch.equal(inputs, before)


def test_holds_from_start_to_stop():
    constraint = Constraint(start=10, stop=4)
    assert [step for step in range(10) if constraint.holds_at(step)] == [4, 5, 6, 7, 8, 9]
    assert not any(Constraint(strength=0.0).holds_at(step) for step in range(150))
    assert Constraint(stop=0).holds_at(0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": 90, "stop": 150}, "stop must be below start"),
        ({"start": 90, "stop": 90}, "strength to 0"),
        ({"stop": -1}, "from 0, got -1"),
        ({"start": 1, "stop": 0}, "at least 2"),
        ({"strength": 1.1}, "strength"),
        ({"strength": -0.1}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"factor": 8.0}, "factor must be a whole number"),
        ({"start": 150.5}, "start must be a whole number"),
        ({"factor": 0}, "factor must be at least 1"),
    ],
)
def test_values_that_cannot_be(values, message: str):
    with pytest.raises(InputError, match=message):
        Constraint(**values)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Constraint(factor=12), "size, 256, got 12. Choose 8"),
        (Constraint(factor=512), "Choose 256"),
        (Constraint(start=251), "at most 250"),
    ],
)
def test_a_prior_that_it_does_not_suit(constraint: Constraint, message: str):
    with pytest.raises(InputError, match=message):
        check_fit(constraint.factor, constraint.start, 256, 250)


def test_a_prior_that_it_suits():
    check_fit(256, 250, 256, 250)


STEPS = respace(Schedule(), 250)


def test_a_constraint_for_its_own_size_stays():
    assert Constraint().suited(512, STEPS) == Constraint()


@pytest.mark.parametrize("size", [128, 256, 1024])
def test_a_suited_constraint_hides_as_much_of_the_picture(size: int):
    """Averaged to one resolution, the noised guesses have the same ratio of noise to signal."""
    paper, given = Constraint(), Constraint().suited(size, STEPS)
    assert given.factor == paper.factor * size // 512
    for step, meant in ((given.start, paper.start), (given.stop, paper.stop)):
        mine, theirs = ((1 / float(STEPS.alphas_cumprod[t - 1]) - 1) ** 0.5 for t in (step, meant))
        assert mine * 512 / size == pytest.approx(theirs, rel=0.03)  # to the next whole step


def test_a_suited_constraint_takes_what_there_is():
    assert Constraint(stop=0).suited(256, STEPS).stop == 0
    tiny = Constraint().suited(32, STEPS)
    assert (tiny.factor, tiny.start > tiny.stop >= 0) == (1, True)
    assert Constraint(factor=8).suited(96, STEPS).factor in (1, 2)  # 1.5 is none
    with pytest.raises(InputError, match="at most 250"):
        Constraint(start=400).suited(256, STEPS)


@pytest.mark.parametrize("shape", [(2, 4, 32, 40), (2, 16, 3, 32, 40), (2, 4, 31, 45)])
def test_any_latent_takes_the_coarse_shapes_of_the_reference(shape):
    generator = torch.Generator().manual_seed(0)
    clean, reference = (torch.rand(shape, generator=generator) for _ in range(2))
    held = constrain_clean(clean, reference + 5, 8, 1.0)
    assert held.shape == clean.shape
    assert (held.mean((-1, -2)) - 5.5).abs().max() < 0.2
    assert torch.allclose(constrain_clean(clean, reference, 8, 0.0), clean, atol=1e-6)
    assert torch.allclose(constrain_clean(clean, reference, 1, 1.0), reference, atol=1e-5)


def test_one_reference_serves_a_batch_and_keeps_the_type():
    clean, reference = torch.zeros(3, 4, 16, 16, dtype=torch.bfloat16), torch.ones(1, 4, 16, 16)
    held = constrain_clean(clean, reference, 4, 1.0)
    assert held.dtype == torch.bfloat16 and (held.float() - 1).abs().max() < 0.01


@pytest.mark.parametrize(
    ("shape", "factor", "message"),
    [
        ((1, 4, 16, 24), 4, "as large as the sampled latent, 4×16×16, got 4×16×24"),
        ((1, 16, 16, 16), 4, "own VAE"),
        ((3, 4, 16, 16), 4, "one for each of the 2 sampled, got 3"),
        ((1, 4, 16, 16), 17, "shorter side, 16, got 17"),
    ],
)
def test_reference_that_does_not_fit_is_refused(shape, factor: int, message: str):
    with pytest.raises(InputError, match=message):
        constrain_clean(torch.zeros(2, 4, 16, 16), torch.zeros(shape), factor, 1.0)
