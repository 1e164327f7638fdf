"""Saving restorers: files that every loader reads as the published ones, with their provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, WeightsError, WrongArchitectureError
from ..files.weights import write_state_dict
from ..pairs.folder import Pair
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

    So it loads in `load_restorer`, in ComfyUI's Load Upscale Model and in whatever else reads
    such files through spandrel.

    Args:
        path: of the file, ending in ``.safetensors``; whole or not at all.
        restorer: of an architecture in `CONVENTIONS`, on any device; not changed.
        metadata: more to write into it, as of `provenance`; its architecture and the size of
            its faces are added.
        half: write float16, a file of half the size; else the precision that the network has.

    Raises:
        InputError: for a path with another suffix, or metadata that is no text.
        WrongArchitectureError: for an architecture whose published names are not known.
        WeightsError: for weights that are not finite, or too large for float16.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(
            f"A restorer is saved as .safetensors, and {path.name!r} came. Change its ending."
        )
    facts: dict[str, str] = {"architecture": restorer.architecture}
    if size := restorer.size:
        facts["size"] = str(size)
    facts = {**(metadata or {}), **facts}
    if wrong := [name for name, text in facts.items() if not isinstance(text, str)]:
        raise InputError(f"Metadata must be text, and {wrong[0]!r} is none. Write it as JSON.")
    state = published_state(restorer)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        state[name] = tensor = tensor.half() if half else tensor
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"The weights {name!r} hold NaN or infinity"
                f"{' in float16. Save them in float32' if half else ', and are not saved'}."
            )
    write_state_dict(path, state, facts)


def published_state(restorer: Restorer) -> dict[str, Tensor]:
    """A copy of a restorer's tensors on the CPU, by the names of its published checkpoint.

    spandrel keeps these names, but for the first convolution of a SwinIR behind a pixel
    unshuffle, which is the second module of a sequence in the published code.

    Raises:
        WrongArchitectureError: for an architecture whose published names are not known.
    """
    if restorer.architecture not in CONVENTIONS:
        raise WrongArchitectureError(
            f"The published names of the weights of a {restorer.architecture} are not known. "
            f"Only {', '.join(CONVENTIONS)} can be saved; keep this network's own file."
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
    """What a fine-tuned restorer's file says about where it is from.

    Args:
        base_sha256: `network_sha256` of the restorer that it was tuned from.
        pairs: those it was trained with.
        settings: of the run.
        step: the step at which these are the weights.
        more: anything else that should be told, as the distance that was used.

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


def pairs_sha256(pairs: Sequence[Pair]) -> str:
    """The checksum of what pairs are to training: their names, damaged faces and targets."""
    lines = sorted(
        f"{pair.name} {pair.sha256.get('lq')} {pair.sha256.get('target')}\n" for pair in pairs
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _network_of(pair: Pair, kind: str) -> str | None:
    made = pair.target if kind == "prior" else pair.guess
    network = made.get(kind)
    return network.get("sha256") if isinstance(network, Mapping) else None
