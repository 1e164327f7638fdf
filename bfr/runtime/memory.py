"""Work on many faces in parts, which become smaller when memory runs out."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..errors import OutOfMemoryError

T = TypeVar("T")

LARGE = 60_000_000
"""Values of a photograph for which memory that was freed is missed (`give_back`)."""

# Accelerators raise OutOfMemoryError; the CPU and some backends only say it.
_SAID = ("out of memory", "can't allocate memory", "not enough memory")


class DeviceOutOfMemoryError(OutOfMemoryError, torch.OutOfMemoryError):
    """Torch's class, too, so that ComfyUI knows that it should unload its models."""


@dataclass(slots=True)
class Parts:
    """The number of faces that are worked on at once.

    Attributes:
        at_once: the most; halved whenever memory runs out, and so it stays.
        what: what is done with a face, for the message: "restore".
        remedy: what else would help: "a smaller restorer".
    """

    at_once: int
    what: str
    remedy: str

    def of(self, count: int, work: Callable[[slice], T]) -> Iterator[tuple[slice, T]]:
        """Works on ``count`` faces, part after part.

        Args:
            count: how many there are.
            work: takes the part's place among them.

        Yields:
            Each part's place and its result.

        Raises:
            OutOfMemoryError: if there is not even memory for one face.
        """
        done = 0
        while done < count:
            part = slice(done, min(done + self.at_once, count))
            try:
                result = work(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if part.stop - part.start == 1:
                    raise DeviceOutOfMemoryError(
                        f"There is not enough memory to {self.what} a single face. Close other "
                        f"programs, use another device or {self.remedy}. ({error})"
                    ) from error
                self.at_once = (part.stop - part.start) // 2
                continue
            yield part, result
            done = part.stop


def at_once(batch_size: int, device: torch.device) -> int:
    """The number of faces, at most ``batch_size``, that a restorer takes at once.

    On a processor, one: with eight, the embedded restorer takes 1.5 times as long per face, because
    its layers no longer fit into the cache. On an accelerator, all of them.
    """
    return 1 if device.type == "cpu" else batch_size


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that memory has run out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in _SAID
    )


def give_back() -> None:
    """Returns freed memory to the system, where that does not happen automatically.

    The allocator of Linux keeps what many middling tensors took, 0.3 GB for a large photograph.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # AttributeError: another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)


def free_bytes(device: torch.device) -> int | None:
    """The bytes that are free for tensors on a device; None where they are unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type not in ("cpu", "mps"):
        return None
    import psutil

    return psutil.virtual_memory().available
