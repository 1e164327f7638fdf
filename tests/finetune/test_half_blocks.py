"""NAFNet's blocks in half precision: the published results but for rounding, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bfr.finetune.half_blocks import keep_half
from bfr.restore.restorer import Restorer
from tests.trainable import nafnet, swinir


def learned(restorer: Restorer, lower: torch.dtype | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The result and the gradients of a step, computed in a lower precision or in float32."""
    random = torch.Generator().manual_seed(0)
    faces, pull = torch.rand(2, 2, 3, 32, 32, generator=random)
    restorer.network.requires_grad_(True).zero_grad()
    with torch.autocast("cpu", lower, enabled=lower is not None):
        result = restorer(faces.contiguous(memory_format=torch.channels_last)).float()
    (result * pull).sum().backward()
    gradients = {
        name: p.grad.clone()
        for name, p in restorer.network.named_parameters()
        if p.grad is not None
    }
    return result.detach(), gradients


def apart(gradients: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """The relative error of all gradients together."""
    found, wanted = (
        torch.cat([one[name].flatten() for name in exact]) for one in (gradients, exact)
    )
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("width", [4, 32])  # norms of few channels and of many
def test_as_exact_as_the_published_blocks(width):
    exact, gradients = learned(nafnet(width), None)
    errors = []
    for ours in (False, True):
        restorer = nafnet(width)
        if ours:
            assert keep_half(restorer.network) > 0
        result, half = learned(restorer, torch.bfloat16)
        assert half.keys() == gradients.keys()
        errors.append((float((result - exact).abs().mean()), apart(half, gradients)))
    (result, gradient), (our_result, our_gradient) = errors
    assert 0 < our_result < 1.5 * result + 1e-4 and 0 < our_gradient < 1.5 * gradient + 1e-3


def test_other_precisions_compute_the_published_code_bit_for_bit():
    for lower in (None, torch.float16):
        published, ours = nafnet(), nafnet()
        keep_half(ours.network)
        (result, gradients), (same, equals) = learned(published, lower), learned(ours, lower)
        assert torch.equal(result, same)
        assert all(torch.equal(gradients[name], equals[name]) for name in gradients)


def test_copies_and_names_stay():
    restorer = nafnet()
    names = list(restorer.network.state_dict())
    count = keep_half(restorer.network)
    assert keep_half(restorer.copy().network) == count, "of copies they are known"
    assert list(restorer.network.state_dict()) == names
    assert keep_half(swinir().network) == 0
