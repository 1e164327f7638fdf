"""The handle of a network: the module with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Self

import torch
from torch import nn

from ..errors import WrongArchitectureError
from .checksums import network_sha256
from .weights import read_state_dict


@dataclass(frozen=True, eq=False)
class NetworkHandle:
    """A network, and what its users need to know about it.

    Attributes:
        network: the module, in evaluation mode.
        name: of its weights, for reports: the file's name without its suffix.
        size: side in pixels of the images that it was trained on; None for any.
    """

    network: nn.Module
    name: str = ""
    size: int | None = None

    @cached_property
    def sha256(self) -> str:
        """The checksum of its weights as they were read, in hexadecimal (`network_sha256`)."""
        return network_sha256(self.network)

    @property
    def device(self) -> torch.device:
        """The device of its weights; the CPU if it has none."""
        tensor = self._first_tensor()
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights; float32 if it has none."""
        tensor = self._first_tensor()
        return torch.float32 if tensor is None else tensor.dtype

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Moves the network itself, as `torch.nn.Module.to` does, and returns this handle."""
        if dtype is not None and dtype != self.dtype:
            _ = self.sha256  # of the weights before they are rounded
        self.network.to(device=device, dtype=dtype)
        return self

    def copy(self) -> Self:
        """A handle with its own copy of the network, to train or to convert."""
        return replace(self, network=deepcopy(self.network))

    def _first_tensor(self) -> torch.Tensor | None:
        found = chain(self.network.parameters(), self.network.buffers())
        return next((tensor for tensor in found if tensor.is_floating_point()), None)


def load_into(network: nn.Module, path: Path, wanted: str) -> None:
    """Fills a network with the weights of a file that holds its tensors and no others, in float32.

    Args:
        network: with any weights, or none yet.
        path: the file.
        wanted: what the file must do, for the message: "hold a …".

    Raises:
        WeightsError: if the file is missing, corrupt, or of another network.
    """
    state, metadata = read_state_dict(path)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != shapes:
        raise WrongArchitectureError(
            f"{path.name} must {wanted}, got {metadata.get('architecture', 'another network')}. "
            "Choose another file, or leave it out for the embedded network."
        )
    refuse_integers(network, state, path)
    floats = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    network.load_state_dict(floats, assign=True)


def refuse_integers(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuses a file that holds integers where a network computes with fractions.

    Raises:
        WrongArchitectureError: naming the first such tensor.
    """
    whole = {name for name, tensor in state.items() if not tensor.is_floating_point()}
    for name, tensor in network.state_dict().items():
        if name in whole and tensor.is_floating_point():
            raise WrongArchitectureError(
                f"{path} must hold floating-point weights, got {state[name].dtype} as {name!r}. "
                "Quantised networks are not run here: choose the file in float16 or float32."
            )
