"""An optimizer for networks of convolutions: Muon for their matrices, AdamW for all else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FEWEST, MOST = 16, 512
"""The smaller sides of the matrices that Muon takes. To make larger ones orthogonal takes too long
on a processor."""


class MatrixOptimizer:
    """Muon (Jordan et al. 2024, torch's) and AdamW (Loshchilov and Hutter 2019) as one optimizer.

    Muon makes the step of a matrix orthogonal, so that all its directions learn alike, and
    scales it to be as long as AdamW's: one learning rate serves both.

    Args:
        network: whose parameters learn; its layers are matrices of as many rows as they have
            outputs, but for convolutions of each channel by itself.
        lr: the learning rate.
    """

    def __init__(self, network: nn.Module, lr: float):
        self._network = network
        matrices = [p for p in network.parameters() if is_matrix(p)]
        others = [p for p in network.parameters() if not is_matrix(p)]
        self._flat = [(p, nn.Parameter(_flattened(p.data, p))) for p in matrices]
        flat = [each for _, each in self._flat]
        self._parts = {
            "muon": torch.optim.Muon(flat, lr, weight_decay=0, adjust_lr_fn="match_rms_adamw"),
            "adamw": torch.optim.AdamW(others, lr, (0.9, 0.99), weight_decay=0),
        }

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Both optimizers' groups, whose learning rates a schedule sets."""
        return [group for part in self._parts.values() for group in part.param_groups]

    def step(self) -> None:
        """Moves all parameters by their gradients."""
        for parameter, flat in self._flat:
            assert parameter.grad is not None
            flat.grad = _flattened(parameter.grad, parameter)
        for part in self._parts.values():
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        self._network.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Both optimizers' states."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def is_matrix(parameter: Tensor) -> bool:
    """True for weights that mix channels, if Muon takes them."""
    if parameter.ndim < 2 or parameter.shape[1] == 1:
        return False
    return FEWEST <= min(parameter.shape[0], parameter[0].numel()) < MOST


def _flattened(tensor: Tensor, like: Tensor) -> Tensor:
    """One row an output, in the order in which the parameter lies in memory: its own view so."""
    ordered = tensor if like.is_contiguous() else tensor.permute(0, 2, 3, 1)
    return ordered.flatten(1)
