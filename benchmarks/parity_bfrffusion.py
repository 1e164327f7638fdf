"""The checks of `benchmarks.parity` for BFRffusion, on small networks and at full size.

The weights of full-size figures are built by the rule from the names and shapes of
``bfrffusion_checkpoint.json``, written to a file (5.1 GB) and loaded as users load theirs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.published import GOLDEN
from benchmarks.published.rule_weights import rule_state
from bfr.files.weights import read_state_dict
from bfr.restore.bfrffusion import BFRffusion
from bfr.restore.bfrffusion_checkpoint import build_bfrffusion, is_bfrffusion

Check = tuple[str, float, float]

CHECKPOINT = "bfrffusion_checkpoint.json"
PART_TOLERANCES = {
    "context": 3e-5,
    "control": 4e-5,
    "output": 2e-5,
    "output_uncontrolled": 2e-5,
    "samples": 1e-4,
    "pred_x0": 1e-4,
    "final": 1e-4,
    "decoded": 2e-5,
}


def has_figures(names: set[str]) -> bool:
    """True if a file of these tensors holds figures of BFRffusion."""
    parts = {name.rpartition("/")[2] for name in names}
    return bool(parts & {"context", "control.0", "decoded"})


def is_checkpoint(formats: Mapping[str, dict]) -> bool:
    """True if a list of checkpoints is that of BFRffusion alone."""
    return bool(formats) and all(is_bfrffusion(entry["tensors"]) for entry in formats.values())


def check_figures(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], seed: int
) -> Iterator[Check]:
    """Whatever of the networks a file has figures of."""
    if "state_dict_shapes" in metadata:
        network = small_network(metadata["state_dict_shapes"], seed)
    else:
        network = full_network(path.parent, seed)[0]
    figures = {name.rpartition("/")[2]: tensor for name, tensor in tensors.items()}
    for name, found in results(network, figures, path.parent):
        tolerance = PART_TOLERANCES[name.split(".")[0]]
        yield name, float((found - figures[name]).abs().max()), tolerance


def results(
    network: BFRffusion, figures: Mapping[str, Tensor], folder: Path
) -> Iterator[tuple[str, Tensor]]:
    """The outputs of the network for the figures' inputs, by the figures' names."""
    if "context" in figures:
        yield "context", network.prompt(figures["t"])
    if "x" in figures:
        x, t = figures["x"], figures["t"]
        hint = figures["hint"] if "hint" in figures else hint_beside(folder)
        residuals = network.features(x, hint, t)
        if "control.0" in figures:
            yield from ((f"control.{n}", residual) for n, residual in enumerate(residuals))
        if "output" in figures:
            yield "output", network.denoise(x, t, figures["context"], residuals)
            yield "output_uncontrolled", network.denoise(x, t, figures["context"])
    if "decoded" in figures:
        steps = len(figures["timesteps"])
        sampled = list(network.sample(figures["hint"], figures["noise"], steps))
        yield "samples", torch.stack([latent for latent, _ in sampled])
        yield "pred_x0", torch.stack([clean for _, clean in sampled])
        yield "final", sampled[-1][0]
        yield "decoded", network.decode(figures["final"])


def hint_beside(folder: Path) -> Tensor:
    """The damaged face of the MFEM's figures, which those of the U-Net share."""
    from safetensors import safe_open

    with safe_open(folder / "bfrffusion_mfem.safetensors", "pt") as file:
        return file.get_tensor("hint")


def check_checkpoint(path: Path, seed: int) -> Iterator[Check]:
    """A file of full size: built by the rule, written, loaded; every parameter is counted."""
    network, seconds, expected = full_network(path.parent, seed)
    loaded = sum(parameter.numel() for parameter in network.parameters())
    what = f"full size, {loaded / 1e6:.1f} M parameters used, loaded in {seconds:.1f} s"
    yield what, abs(loaded - expected), 0


@lru_cache(maxsize=1)
def small_network(shapes: str, seed: int) -> BFRffusion:
    """The network of those shapes, as JSON."""
    return build_bfrffusion(rule_state(json.loads(shapes), seed=seed), Path("figures"))


@lru_cache(maxsize=1)
def full_network(folder: Path, seed: int) -> tuple[BFRffusion, float, int]:
    """The network of full size through a file, the seconds it took to load, and its parameters.

    Args:
        folder: with the list of tensors; without it, the one of `benchmarks.published` is.
        seed: of the weights.
    """
    path = folder / CHECKPOINT
    formats = json.loads((path if path.is_file() else GOLDEN / CHECKPOINT).read_text("utf-8"))
    name, entry = next(iter(formats.items()))
    shapes = {key: shape for key, (shape, _) in entry["tensors"].items()}
    unused = ("first_stage_model.encoder.", "first_stage_model.quant_conv.")
    used = [
        torch.Size(shape).numel()
        for key, shape in shapes.items()
        if "." in key and not key.startswith(unused)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / name
        torch.save({"state_dict": rule_state(shapes, seed=seed)}, file)
        began = time.perf_counter()
        network = build_bfrffusion(read_state_dict(file)[0], file)
        seconds = time.perf_counter() - began
    return network, seconds, sum(used)
