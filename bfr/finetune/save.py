"""Saving restorers as files that every loader reads like the published ones, with provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CorruptWeightsError, InputError, WeightsError, WrongArchitectureError
from ..files.checksums import network_sha256
from ..files.weights import write_state_dict
from ..pairs.pair import Pair
from ..restore.restorer import CONVENTIONS, Restorer
from .settings import FinetuneSettings

LICENCE = "that of the restorer it was tuned from"


def save_restorer(
    path: str | Path,
    restorer: Restorer,
    metadata: Mapping[str, str] | None = None,
    *,
    half: bool = False,
) -> None:
    """Writes a restorer as safetensors under the key names of its published checkpoint.

    So it loads in `load_restorer`, in ComfyUI's Load Upscale Model, and in any program that reads
    such files through spandrel.

    Args:
        path: of the file, ending in ``.safetensors``; written whole or not at all.
        restorer: of an architecture in `CONVENTIONS`, on any device; not changed.
        metadata: more to write into it, such as `provenance`; its architecture, the size of its
            faces and its checksum (`network_sha256` of what will be loaded) are added.
        half: write float16, a file of half the size; otherwise the network's own precision.

    Raises:
        InputError: for a path with another suffix, or metadata that is not text.
        WrongArchitectureError: for an architecture whose published names are not known.
        WeightsError: for weights that are not finite, or too large for float16.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(
            f"A restorer's file must end in .safetensors, got {path.name!r}. Change its ending."
        )
    facts = {"architecture": restorer.architecture}
    facts["sha256"] = _sha256_when_loaded(restorer, half)
    if size := restorer.size:
        facts["size"] = str(size)
    facts = {**(metadata or {}), **facts}
    if wrong := [name for name, text in facts.items() if not isinstance(text, str)]:
        raise InputError(f"Metadata must be text, got other for {wrong[0]!r}. Write it as JSON.")
    state = published_state(restorer)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        state[name] = tensor = tensor.half() if half else tensor
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"Weights must be finite{' in float16' if half else ''}, got NaN or infinity in "
                f"{name!r}. {'Save in float32' if half else 'Tune again with a lower rate'}."
            )
    write_state_dict(path, state, facts)


def published_state(restorer: Restorer) -> dict[str, Tensor]:
    """A copy of a restorer's tensors on the CPU, by the names of its published checkpoint.

    spandrel keeps these names, except for the first convolution of a SwinIR behind a pixel
    unshuffle, which is the second module of a sequence in the published code.

    Raises:
        WrongArchitectureError: for an architecture whose published names are not known.
    """
    if restorer.architecture not in CONVENTIONS:
        raise WrongArchitectureError(
            f"A restorer to save must be one of {', '.join(CONVENTIONS)}, whose published names "
            f"are known, got {restorer.architecture}. Keep this network's own file."
        )
    unshuffled = getattr(restorer.network, "start_unshuffle", 1) > 1
    return {
        f"conv_first.1.{name.removeprefix('conv_first.')}"
        if unshuffled and name.startswith("conv_first.")
        else name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in restorer.network.state_dict().items()
    }


def provenance(
    base_sha256: str,
    pairs: Sequence[Pair],
    settings: FinetuneSettings,
    *,
    step: int,
    **more: str,
) -> dict[str, str]:
    """Metadata that says where a fine-tuned restorer comes from.

    Args:
        base_sha256: `network_sha256` of the restorer that it was tuned from.
        pairs: those it was trained with.
        settings: of the run.
        step: the step that the weights are from.
        more: anything else, such as the losses.

    Returns:
        ``provenance`` in words, ``licence``, ``base_sha256``, ``pairs`` (their count and
        checksum, and the sha256 of the priors and restorers that made them) and ``settings``,
        the latter two as JSON.
    """
    made_by = {
        kind: sorted({network for pair in pairs if (network := _network_of(pair, kind))})
        for kind in ("prior", "restorer")
    }
    facts = {"count": len(pairs), "sha256": pairs_sha256(pairs), **made_by}
    return {
        "licence": LICENCE,
        **more,
        "provenance": f"fine-tuned for {step} of {settings.steps} steps on {len(pairs)} pairs of "
        f"damaged faces and pseudo targets, from the restorer {base_sha256[:10]}",
        "base_sha256": base_sha256,
        "pairs": json.dumps(facts),
        "settings": json.dumps(settings.as_dict()),
        "step": str(step),
    }


def read_provenance(path: Path) -> dict[str, str]:
    """The metadata of a restorer's file; empty for a file without any.

    Raises:
        CorruptWeightsError: if it is no safetensors file, or a damaged one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CorruptWeightsError(
            f"{path} must be a safetensors file, got something else or a damaged one ({error}). "
            "Choose another file."
        ) from error


def _sha256_when_loaded(restorer: Restorer, half: bool) -> str:
    """The checksum of the network that the file gives: loaders make it float32."""
    network = deepcopy(restorer.network).cpu()
    return network_sha256((network.half() if half else network).float())


def pairs_sha256(pairs: Sequence[Pair]) -> str:
    """The checksum of what training uses of pairs: their names, damaged faces and targets."""
    lines = sorted(
        f"{pair.name} {pair.sha256.get('lq')} {pair.sha256.get('target')}\n" for pair in pairs
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _network_of(pair: Pair, kind: str) -> str | None:
    made = pair.target if kind == "prior" else pair.guess
    network = made.get(kind)
    sha256 = network.get("sha256") if isinstance(network, Mapping) else None
    return sha256 if isinstance(sha256, str) else None  # the list may come from a stranger
