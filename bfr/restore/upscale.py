"""Upscalers: networks that enlarge whole photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import WrongArchitectureError
from ..files.bounds import no_larger_than
from ..files.weights import read_state_dict


class Upscaler(Protocol):
    """A network that enlarges images: any descriptor of spandrel, as Load Upscale Model gives."""

    @property
    def scale(self) -> int: ...

    @property
    def input_channels(self) -> int: ...

    @property
    def output_channels(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, image: Tensor, /) -> Tensor: ...


def load_upscaler(path: str | Path, check: Callable[[Any], None] | None = None) -> Any:
    """Loads a network that enlarges; its architecture is read from the file's keys.

    Args:
        path: a ``.safetensors`` or ``.pth`` file of an architecture that spandrel knows.
        check: refuses what does not fit; None is `check_upscaler`.

    Returns:
        spandrel's descriptor on the CPU in evaluation mode, an `Upscaler`.

    Raises:
        WeightsError: if the file is missing, corrupt, unsafe or no upscaler.
    """
    from spandrel import ImageModelDescriptor, ModelLoader

    state, _ = read_state_dict(Path(path))
    try:
        with no_larger_than(state):
            upscaler = ModelLoader().load_from_state_dict(dict(state))
    except Exception as error:  # unknown keys, or a shape that the architecture cannot have
        raise WrongArchitectureError(
            f"{path} must be an upscaler that spandrel knows, got first key "
            f"{next(iter(state), None)!r} ({type(error).__name__}). Choose another file."
        ) from error
    if not isinstance(upscaler, ImageModelDescriptor):
        raise WrongArchitectureError(
            f"{path} must be an upscaler, got a {type(upscaler).__name__}. Choose another file."
        )
    (check or check_upscaler)(upscaler)
    return upscaler.eval()


def check_upscaler(upscaler: Upscaler) -> None:
    """Raises WrongArchitectureError unless a network takes and gives RGB, and enlarges."""
    # A face restorer of ours, which fits the same socket, has a scale and no channels.
    channels = (getattr(upscaler, "input_channels", 3), getattr(upscaler, "output_channels", 3))
    if channels != (3, 3):
        raise WrongArchitectureError(
            f"An upscaler must take and give 3 channels (RGB), got {channels[0]} and {channels[1]}."
            " Choose another one."
        )
    if not upscaler.scale > 1:
        raise WrongArchitectureError(
            f"An upscaler must enlarge by 2 or more, got one of {upscaler.scale}×. Choose another "
            "one, or leave it out: the photograph is then resampled."
        )
