"""The optimizer of matrices: what it takes, how it steps, and how it resumes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from recipes.matrices import MatrixOptimizer, is_matrix


def network(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    """Convolutions of each kind, and a norm, with weights and gradients by a seed."""
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(16, 32, 2, 2),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.GroupNorm(1, 32),
        nn.Conv2d(32, 64, 1),
        nn.Conv2d(64, 3, 1),
    )
    for parameter in made.parameters():
        parameter.grad = torch.randn(parameter.shape)
    return made.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]


def test_matrices_are_what_mixes_channels():
    taken = [name for name, parameter in network().named_parameters() if is_matrix(parameter)]
    assert taken == ["0.weight", "3.weight"]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_step_moves_all_directions_of_a_matrix_alike(memory_format):
    """However the weights lie in memory, the step is the same, and nearly orthogonal."""
    before, after = network(), network(memory_format)
    MatrixOptimizer(after, lr=0.01).step()
    straight = network()
    MatrixOptimizer(straight, lr=0.01).step()
    torch.testing.assert_close(after.state_dict(), straight.state_dict(), rtol=0, atol=1e-4)
    for name in ("0.weight", "3.weight"):
        weights, gradient = before.get_parameter(name), before.get_parameter(name).grad
        assert gradient is not None
        moved = (after.get_parameter(name) - weights).detach()
        lengths, given = (torch.linalg.svdvals(x.flatten(1)) for x in (moved, gradient))
        assert lengths.max() / lengths.min() < 2 < given.max() / given.min()
        rms = float(moved.square().mean().sqrt())
        assert rms == pytest.approx(0.002, rel=0.3), "a fifth of the rate, as AdamW's steps are"


def test_all_parameters_learn():
    before, after = network(), network()
    MatrixOptimizer(after, lr=0.01).step()
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_resuming_is_no_interruption():
    once = network(torch.channels_last)
    optimizer = MatrixOptimizer(once, lr=0.01)
    optimizer.step()
    again = network(torch.channels_last)
    again.load_state_dict(once.state_dict())
    resumed = MatrixOptimizer(again, lr=1.0)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    assert {group["lr"] for group in resumed.param_groups} == {0.01}
    for each in (optimizer, resumed):
        each.step()
    for old, new in zip(once.parameters(), again.parameters(), strict=True):
        assert torch.equal(old, new)


def test_gradients_are_forgotten():
    given = network()
    MatrixOptimizer(given, lr=0.01).zero_grad()
    assert all(parameter.grad is None for parameter in given.parameters())
