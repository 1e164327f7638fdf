"""The number type that networks compute in, and "auto": the quickest that is right on a device.

Seconds of one processor core (AMD EPYC with AVX512-BF16, torch 2.11), and the mean difference of
the result from float32's in 1/255:

    network, faces at once             float32   bfloat16, channels last   difference
    embedded restorer, 1 of 256 px       0.173                     0.112         0.17
    embedded restorer, 8 of 256 px       1.21                      0.85          0.17
    GFPGAN, 1 of 512 px                  5.57         3.64, in plain order       (random weights)
    SwinIR (60 channels), 1 of 256 px    6.11                      5.92          (random weights)
    embedded prior, 1 of 256 px          0.129                     0.079         0.3
    embedded prior, 4 of 256 px          0.420                     0.253         0.3
    published prior, 1 of 512 px         5.73                      2.39          2 (random weights)

Restorers keep their weights and round what they compute (`computing`): on the embedded one that
is as quick as rounding the weights, with less of an error. Priors, called many times
and never saved, have their weights rounded too (`convert`). In plain order the embedded restorer
gains little; spandrel's GFPGAN takes no other. Accelerators were not measured.

Left in float32: detectors, parsers and face recognition, whose results are coordinates and
distances; SwinIR, which gains nothing; and restorers that choose among codes (CodeFormer,
RestoreFormer), where a rounding error can choose another one.
"""

from __future__ import annotations

import torch
from torch import nn

from ..choices import AUTO, PRECISIONS
from ..errors import InputError

_BFLOAT16_SINCE, _FLOAT16_SINCE = 8, 7  # CUDA's compute capability: Ampere, Volta and Turing
_NO_HALF = "GTX 16"  # Turing without tensor cores; float16 gives NaN on some


def suited_precision(device: torch.device) -> str:
    """The precision of "auto": a half one where the device has instructions for it."""
    if device.type == "cpu":
        supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # since torch 2.6
        found = any(getattr(torch.cpu, name, bool)() for name in supported)
        return "bfloat16" if found else "float32"
    if device.type == "cuda" and torch.version.hip is None:
        major, _ = torch.cuda.get_device_capability(device)
        if major >= _BFLOAT16_SINCE:
            return "bfloat16"
        if major >= _FLOAT16_SINCE and _NO_HALF not in torch.cuda.get_device_name(device):
            return "float16"
        return "float32"
    return "float16" if device.type == "mps" else "float32"


def check_precision(precision: str) -> None:
    """Refuses what is neither one of `PRECISIONS` nor "auto"."""
    if precision not in (AUTO, *PRECISIONS):
        raise InputError(
            f"precision must be one of {', '.join((AUTO, *PRECISIONS))}, got {precision!r}. "
            "Choose one of them."
        )


def chosen_precision(precision: str, device: torch.device) -> str:
    """The precision that a name means on a device: one of `PRECISIONS`, or "auto".

    Raises:
        InputError: for any other name.
    """
    check_precision(precision)
    return suited_precision(device) if precision == AUTO else precision


def computing(precision: str, device: torch.device) -> torch.autocast:
    """A context in which float32 networks compute in a precision; float32 changes nothing."""
    lower = precision != "float32"
    dtype = getattr(torch, precision) if lower else None
    return torch.autocast(device.type, dtype, enabled=lower, cache_enabled=False)


def convert(network: nn.Module, precision: str, device: torch.device) -> None:
    """Moves a network to a device and rounds its weights to a precision, in channels-last order.

    For networks that are called many times and neither trained nor saved.
    """
    dtype = getattr(torch, chosen_precision(precision, device))
    network.to(device, dtype)
    if dtype != torch.float32:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
