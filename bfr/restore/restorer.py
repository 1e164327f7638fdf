"""Face restorers, and the calling convention that each was published with.

`bfr.restore.load` reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..choices import AUTO
from ..errors import InputError, WeightsError, WrongArchitectureError
from ..files.handles import NetworkHandle
from ..image.lowpass import lowpass
from ..image.resize import resize_square
from ..image.tensors import check_images, size_in_words
from ..records import OnStep
from ..runtime.memory import Parts, at_once
from ..runtime.precision import chosen_precision, computing
from ..runtime.progress import within
from .norms import has_fused_norms

Call = Callable[[nn.Module, Tensor, float], Tensor]


def _plain(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces)


def _gfpgan(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    # The stored noise instead of new: the same face gives the same result, in any batch.
    faces = (faces * 2 - 1).contiguous()  # spandrel's network cannot read channels last
    return network(faces, return_rgb=False, randomize_noise=False)[0] / 2 + 0.5


def _restoreformer(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces * 2 - 1)[0] / 2 + 0.5


def _codeformer(network: nn.Module, faces: Tensor, fidelity: float) -> Tensor:
    return network(faces * 2 - 1, weight=fidelity)[0] / 2 + 0.5


@dataclass(frozen=True, eq=False)
class Restorer(NetworkHandle):
    """A face restorer of any kind. ComfyUI's UPSCALE_MODEL nodes run it too, as a 1× upscaler.

    Attributes:
        architecture: spandrel's name of it, such as ``"GFPGAN"``.
        call: ``call(network, faces, fidelity)``, with faces and result B×3×S×S in [0, 1], the
            result not clamped.
        uses_fidelity: whether ``fidelity`` changes the result; only CodeFormer has it.
        trainable: whether ``call`` carries gradients, so that it can be fine-tuned.
        watched: ``watched(network, faces, fidelity, on_step)``, for a restorer of many steps: the
            same as ``call``, with progress and cancelling at every step.
        precision: one of `PRECISIONS` or "auto": what `restore_faces` computes in where the weights
            are float32.
    """

    architecture: str = ""
    call: Call = _plain
    uses_fidelity: bool = False
    trainable: bool = False
    watched: Callable[[nn.Module, Tensor, float, OnStep | None], Tensor] | None = None
    precision: str = "float32"
    scale: ClassVar[int] = 1

    @property
    def computed_in(self) -> str:
        """The number type that `restore_faces` computes in, by its name in torch."""
        if self.dtype != torch.float32:
            return str(self.dtype).removeprefix("torch.")
        return chosen_precision(self.precision, self.device)

    def __call__(
        self, faces: Tensor, fidelity: float = 0.5, on_step: OnStep | None = None
    ) -> Tensor:
        """One forward pass, not clamped.

        Args:
            faces: B×3×S×S RGB in [0, 1], on the network's device and in its dtype, at its own
                size if it has one.
            fidelity: CodeFormer's w in [0, 1].
            on_step: progress within the pass, of a restorer that has many steps.

        Returns:
            B×3×S×S, nominally in [0, 1].
        """
        if self.watched is not None:
            return self.watched(self.network, faces, fidelity, on_step)
        return self.call(self.network, faces, fidelity)


@dataclass(frozen=True, slots=True)
class Convention:
    """The calling convention of the networks of one architecture.

    Attributes:
        size: side of the faces in pixels; None for any.
        call: of `Restorer`.
        precision: of `Restorer`, where one asks for no other.
        most_enlarged: how many times a face may be enlarged to ``size``; a smaller one is given
            smaller (`bfr.restore.small_faces`). None where a network takes its own size alone.
    """

    size: int | None
    call: Call
    precision: str = AUTO
    most_enlarged: float | None = None


CONVENTIONS = {
    "GFPGAN": Convention(512, _gfpgan),
    "RestoreFormer": Convention(512, _restoreformer, "float32"),
    "CodeFormer": Convention(512, _codeformer, "float32"),
    "SwinIR": Convention(None, _plain, "float32"),
    "NAFNet": Convention(256, _plain, most_enlarged=4),
}
"""By spandrel's architecture. Published GFPGAN, RestoreFormer and CodeFormer take and give
[-1, 1], which spandrel's own call does for RestoreFormer alone. Those that choose among codes
stay in float32, as a rounding error can choose another code, and so does SwinIR, which gains
nothing (`bfr.runtime.precision`). Our NAFNet has learned faces that were reduced 4 times at most,
those of GFPGAN's damage."""


@torch.no_grad()
def restore_faces(
    crops: Tensor,
    restorer: Restorer,
    *,
    fidelity: float = 0.5,
    strength: float = 1.0,
    lock: float = 0.0,
    lock_factor: int = 16,
    batch_size: int = 8,
    on_step: OnStep | None = None,
) -> Tensor:
    """Restores aligned faces: x̂ = R(y), the paper's first guess.

    The crops are resized to the network's own size and back. With R the result of that, φ the
    low-pass and y the crop, the output is ``y + strength·(R + lock·(φ(y) − φ(R)) − y)``. When
    memory runs out, the batch is halved and the work goes on. The network computes in the
    restorer's ``computed_in``, and again in float32 where half precision gave NaN.

    Args:
        crops: N×3×S×S RGB in [0, 1], aligned faces; N may be 0.
        restorer: of `load_restorer` or `from_spandrel`; put into evaluation mode.
        fidelity: CodeFormer's w in [0, 1]: 0 looks best, 1 is closest to the input.
        strength: blend in [0, 1] from the crop (0) to the restored face (1).
        lock: how much of the crop's colours and coarse shape is put back, in [0, 1].
        lock_factor: φ's factor N, in pixels of the crop; divides S.
        batch_size: the most faces that go through the network at once; a processor takes them
            one by one, which is quicker.
        on_step: progress in faces, or in hundredths of them where a restorer has many steps; the
            preview is the batch just restored.

    Returns:
        N×3×S×S in [0, 1], of the device and dtype of ``crops``.

    Raises:
        InputError: for crops or settings out of their range, or what is no `Restorer`.
        WrongArchitectureError: for a network that changes the size.
        WeightsError: if the network gives NaN.
        OutOfMemoryError: if there is not even memory for one face.
    """
    check_images(crops, "crops")
    if not isinstance(restorer, Restorer):
        raise InputError(
            f"restorer must be a Restorer, got a {type(restorer).__name__}. Use "
            "that of load_restorer."
        )
    for name, value in (("fidelity", fidelity), ("strength", strength), ("lock", lock)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be in [0, 1], got {value}.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    height, width = crops.shape[-2:]
    if height != width and restorer.size is not None:
        raise InputError(
            f"crops must be square, got {size_in_words(height, width)}. Align the faces."
        )
    if lock:
        lowpass(crops[:0], lock_factor)  # refuses a wrong factor before any work
    restorer.network.eval()
    results = torch.empty_like(crops)
    unit = 1 if restorer.watched is None else 100

    def restore(part: slice) -> Tensor:
        stage = within(on_step, part.start * unit, part.stop * unit, len(crops) * unit)
        return _restore(crops[part], restorer, fidelity, stage)

    parts = Parts(at_once(batch_size, restorer.device), "restore", "a smaller restorer")
    for part, restored in parts.of(len(crops), restore):
        if lock:
            restored = restored + lock * lowpass(crops[part] - restored, lock_factor)
        # lerp is exact at both ends.
        results[part] = crops[part].lerp(restored, strength).clamp(0, 1)
        if on_step is not None:
            on_step(part.stop * unit, len(crops) * unit, results[part])
    return results


def _restore(batch: Tensor, restorer: Restorer, fidelity: float, on_step: OnStep) -> Tensor:
    """R(y) at the batch's own size, device and dtype."""
    own, size = batch.shape[-1], restorer.size
    faces = resize_square(batch, size) if size else batch
    given, lower = faces.to(restorer.device, restorer.dtype), restorer.computed_in
    if lower != "float32" or has_fused_norms(restorer.network):
        # Half precision and these norms are slow without; convolutions keep the order.
        given = given.contiguous(memory_format=torch.channels_last)
    with computing(lower, restorer.device) if lower != "float32" else nullcontext():
        restored = restorer(given, fidelity, on_step)
    nan = lower != "float32" and not bool(torch.isfinite(restored).all())
    if nan and restorer.dtype == torch.float32:
        restored = restorer(given, fidelity, on_step)
    if restored.shape != faces.shape:
        raise WrongArchitectureError(
            f"The restorer must keep the shape {tuple(faces.shape)}, got {tuple(restored.shape)}. "
            "Choose a face restorer, not an upscaler."
        )
    if not bool(torch.isfinite(restored).all()):
        raise WeightsError(
            f"The restorer {restorer.name} must give finite pixels, got NaN in {restorer.dtype}. "
            "Use float32, or get its weights again."
        )
    return resize_square(restored.to(batch), own) if size else restored.to(batch)
