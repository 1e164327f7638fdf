"""The command line's options and output: numbers in a range, devices, lines of results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    import torch


def number(low: float, high: float, kind: type = float) -> Callable[[str], float]:
    """The type of an option that is a number in a range."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} does not lie in {low} … {high}")
        return value

    parse.__name__ = "number"  # argparse's "invalid number value: 'x'"
    return parse


fraction = number(0, 1)
half = number(0, 0.5)
length = number(0, 1e6)
count = number(1, 1024, int)


def tell(line: object) -> None:
    """Writes a line of results to the standard output."""
    sys.stdout.write(f"{line}\n")


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is an accelerator where there is one.

    Raises:
        InputError: if this machine does not have it.
    """
    import torch

    if name == "auto":
        found = (kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available())
        return torch.device(next(found, "cpu"))
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"Device {name} cannot be used ({reason}). Choose cpu or auto.") from error
