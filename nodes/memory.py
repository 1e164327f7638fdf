"""Networks under ComfyUI's memory management.

One module on purpose: it holds one kind of network after the other, each in a few lines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import comfy.model_management as model_management
from comfy.model_patcher import CoreModelPatcher, ModelPatcher
from torch import nn

from ..bfr.faces.identity import Identity, load_identity
from ..bfr.faces.occlusion import Occlusion
from ..bfr.faces.parsing import Parser
from ..bfr.faces.retinaface import Detector
from ..bfr.files.handles import NetworkHandle
from ..bfr.prior.prior import Prior
from ..bfr.restore.background import BackgroundRestorer, check_cleaner, load_background
from ..bfr.restore.load import from_spandrel
from ..bfr.restore.restorer import Restorer
from ..bfr.restore.scratches import ScratchFinder
from ..bfr.restore.scratches import load_scratch_finder as read_scratch_finder

_FACE_BYTES = 6 * 64 * 512 * 512 * 4  # six float32 layers of 64 channels at 512 px
_PRIOR_LAYERS = 16  # a U-Net holds some 12 layers as large as its first one; measured
_SEARCH_BYTES = 8 * 16 * 1600 * 1600 * 4  # eight of 16 channels at the largest search size


@dataclass(frozen=True, eq=False, kw_only=True)
class ManagedDetector(Detector):
    """A detector whose network ComfyUI manages; the ``BFR_DETECTOR`` socket."""

    patcher: ModelPatcher


@dataclass(frozen=True, eq=False, kw_only=True)
class ManagedParser(Parser):
    """A parser whose network ComfyUI manages; the ``BFR_PARSER`` socket."""

    patcher: ModelPatcher


@dataclass(frozen=True, eq=False, kw_only=True)
class ManagedRestorer(Restorer):
    """A restorer whose network ComfyUI manages; the core's ``UPSCALE_MODEL`` socket.

    The core's upscale node asks for ``patcher`` and ``scale`` and calls it with an image.

    Attributes:
        about: where a tuned restorer comes from, see `bfr.finetune.save.provenance`.
        unsaved: why Save Restorer must not write it; empty if it may.
    """

    patcher: ModelPatcher
    about: Mapping[str, str] = field(default_factory=dict)
    unsaved: str = ""


def patcher(network: nn.Module) -> ModelPatcher:
    """Hands a network to ComfyUI, which from now on decides where its weights are."""
    return CoreModelPatcher(
        network,
        load_device=model_management.get_torch_device(),
        offload_device=model_management.unet_offload_device(),
    )


def manage_detector(detector: Detector) -> ManagedDetector:
    """Hands a detector's network to ComfyUI."""
    return ManagedDetector(**_fields(detector, Detector), patcher=patcher(detector.network))


def manage_parser(parser: Parser) -> ManagedParser:
    """Hands a parser's network to ComfyUI."""
    return ManagedParser(**_fields(parser, Parser), patcher=patcher(parser.network))


@dataclass(frozen=True, eq=False, kw_only=True)
class ManagedOcclusion(Occlusion):
    """A network that finds what lies in front of faces, which ComfyUI manages."""

    patcher: ModelPatcher


def manage_occlusion(occlusion: Occlusion) -> ManagedOcclusion:
    """Hands to ComfyUI a network that finds what lies in front of faces."""
    return ManagedOcclusion(**_fields(occlusion, Occlusion), patcher=patcher(occlusion.network))


def manage_restorer(
    model: object, about: Mapping[str, str] | None = None, unsaved: str = ""
) -> ManagedRestorer:
    """The restorer on an UPSCALE_MODEL socket, its network handed to ComfyUI.

    Args:
        model: a restorer of ours, managed or not, or a spandrel descriptor of the core's own
            loader, which has a patcher already.
        about: where a tuned restorer comes from.
        unsaved: why it must not be saved; empty if it may.

    Raises:
        WrongArchitectureError: if it is no face restorer.
    """
    if isinstance(model, ManagedRestorer):
        return model
    restorer = model if isinstance(model, Restorer) else from_spandrel(model)
    given = getattr(model, "patcher", None)
    given = patcher(restorer.network) if given is None else given
    return ManagedRestorer(
        **_fields(restorer, Restorer), patcher=given, about=about or {}, unsaved=unsaved
    )


def manage_upscaler(upscaler: Any) -> Any:
    """An UPSCALE_MODEL that enlarges, its network handed to ComfyUI; None stays None.

    The core's own loader has done so; those of other packs may not have.
    """
    if upscaler is not None and getattr(upscaler, "patcher", None) is None:
        upscaler.patcher = patcher(upscaler.model)
    return upscaler


@dataclass(frozen=True, eq=False, kw_only=True)
class ManagedBackground(BackgroundRestorer):
    """The embedded network for whole pictures, which ComfyUI manages."""

    patcher: ModelPatcher


def load_cleaner(cleaner: Any) -> Any:
    """The network that takes noise out of whole pictures, on the computing device.

    Args:
        cleaner: an UPSCALE_MODEL of 1×; None for the embedded network.

    Raises:
        WrongArchitectureError: if it changes the size, or is for faces.
    """
    if cleaner is None:
        background = load_background()
        cleaner = ManagedBackground(
            **_fields(background, BackgroundRestorer), patcher=patcher(background.network)
        )
    check_cleaner(cleaner)
    cleaner = manage_upscaler(cleaner)
    load(cleaner)
    return cleaner


def unmanaged(restorer: Restorer) -> Restorer:
    """The same restorer without its patcher, so that a copy of it is a restorer of its own."""
    return Restorer(**_fields(restorer, Restorer))


def _fields(handle: NetworkHandle, kind: type[NetworkHandle]) -> dict[str, Any]:
    return {item.name: getattr(handle, item.name) for item in fields(kind)}


@dataclass(frozen=True, slots=True)
class ManagedPrior:
    """A prior whose network ComfyUI manages; the ``BFR_PRIOR`` socket."""

    prior: Prior
    patcher: ModelPatcher


def manage_prior(prior: Prior) -> ManagedPrior:
    """Hands a prior's network to ComfyUI."""
    return ManagedPrior(prior, patcher(prior.network))


class Managed(Protocol):
    """Whatever has a network that ComfyUI manages."""

    @property
    def patcher(self) -> ModelPatcher: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class ManagedIdentity(Identity):
    """A face recognition network that ComfyUI manages; the ``BFR_RECOGNIZER`` socket."""

    patcher: ModelPatcher


def manage_identity(identity: Identity) -> ManagedIdentity:
    """Hands a face recognition network to ComfyUI."""
    return ManagedIdentity(**_fields(identity, Identity), patcher=patcher(identity.network))


def load_recognizer(recognizer: ManagedIdentity | None = None) -> ManagedIdentity:
    """The network on a recognizer's socket, or the embedded one, on the computing device."""
    recognizer = recognizer or manage_identity(load_identity())
    load(recognizer)
    return recognizer


@dataclass(frozen=True, eq=False, kw_only=True)
class ManagedScratchFinder(ScratchFinder):
    """A network that finds scratches, which ComfyUI manages."""

    patcher: ModelPatcher


def load_scratch_finder() -> ManagedScratchFinder:
    """The embedded network that finds scratches, on the computing device."""
    finder = read_scratch_finder()
    managed = ManagedScratchFinder(
        **_fields(finder, ScratchFinder), patcher=patcher(finder.network)
    )
    load(managed)
    return managed


def load(*managed: Managed | None, faces: int = 0, needed: int = 0) -> None:
    """Moves networks to the computing device, making room for the work to come.

    `load_models_gpu` is certain to move ComfyUI's own operators only; networks of others may
    stay on the offload device, and would then work there without a word. So each is moved
    again, as the core's own upscale nodes do since 2026.

    Args:
        managed: what has the networks; None is skipped.
        faces: how many go through a restorer or parser at once.
        needed: bytes that other work needs, which comes after that.
    """
    needed = max(needed, _SEARCH_BYTES + faces * _FACE_BYTES)
    patchers = [each.patcher for each in managed if each is not None]
    model_management.load_models_gpu(patchers, memory_required=needed, force_full_load=True)
    for each in patchers:
        each.model.to(each.load_device)


def sampling_bytes(prior: Prior, faces: int) -> int:
    """The memory that a prior needs besides its weights, for that many faces at once."""
    first = next(m for m in prior.network.modules() if isinstance(m, nn.Conv2d))
    channels = 3 * first.out_channels / first.in_channels  # a pixel, if pixels are folded or not
    return int(4 * faces * prior.size**2 * channels * _PRIOR_LAYERS)


@contextlib.contextmanager
def room(needed: int) -> Iterator[None]:
    """Lets other networks leave the computing device for work that ComfyUI does not see.

    Args:
        needed: bytes of that work; what it has left in torch's cache is given back after.
    """
    model_management.free_memory(needed, model_management.get_torch_device())
    try:
        yield
    finally:
        model_management.soft_empty_cache()
