"""Our results against figures of the published implementation.

    python benchmarks/parity.py DIR [--seed N]

Checks every file of a folder of figures: what a file holds is seen from its tensors, its settings
are read from its metadata, and weights follow from names and shapes by the rule of
``benchmarks/published``. Prints each error beside its tolerance. The exit code is 1 where an
error exceeds it, where a file is not understood, or where there is none.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import parity_bfrffusion as bfrffusion
from benchmarks.parity_figures import (
    Check,
    Figures,
    NotUnderstoodError,
    largest,
    missing,
    small_prior,
)
from benchmarks.parity_sampler import check_sampler
from benchmarks.published.rule_weights import rule_state
from bfr.image.lowpass import lowpass, resize_weights
from bfr.prior.load import load_prior
from bfr.restore.load import load_restorer


def check_lowpass(figures: Figures) -> Iterator[Check]:
    """φ and its first half, for every case in the file."""
    for key, image in sorted(figures.tensors.items()):
        case, _, kind = key.rpartition(".")
        if kind != "input":
            continue
        small, expected = (figures.tensors[f"{case}.{name}"] for name in ("down", "output"))
        rows, columns = (
            resize_weights(image.shape[axis], small.shape[axis]).to(image) for axis in (-2, -1)
        )
        factor = image.shape[-1] // small.shape[-1]
        yield f"{case}.down", largest(rows @ image @ columns.mT - small), 1e-5
        yield f"{case}.output", largest(lowpass(image, factor) - expected), 1e-5


def check_unet(figures: Figures) -> Iterator[Check]:
    """A prior's network, loaded from a checkpoint in the published layout."""
    prior = small_prior(figures.path, figures.seed)
    output = prior.network(figures.tensors["x"], figures.tensors["t"])
    yield "output", largest(output - figures.tensors["output"]), 1e-4


def check_restorer(figures: Figures) -> Iterator[Check]:
    """A restorer, loaded from a checkpoint in the published layout."""
    shapes = json.loads(figures.setting("state_dict_shapes"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "restorer.pth"
        torch.save(rule_state(shapes, computed(shapes), figures.seed), path)
        restorer = load_restorer(path)
    output = restorer(figures.tensors["input"])
    yield "output", largest(output - figures.tensors["output"]), 1e-5


def check_formats(formats: Mapping[str, dict], seed: int) -> Iterator[Check]:
    """Published checkpoints at full size: built by the rule, loaded, every tensor compared."""
    for file, entry in formats.items():
        shapes = {name: shape for name, (shape, _) in entry["tensors"].items()}
        state = rule_state(shapes, computed(shapes), seed)
        for name, (_, dtype) in entry["tensors"].items():
            state[name] = state[name].to(getattr(torch, dtype))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file
            torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
            began = time.perf_counter()
            network = load_full_size(path, entry)
            seconds = time.perf_counter() - began
        loaded = network.state_dict()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        what = f"{file}, {parameters / 1e6:.1f} M parameters in {seconds:.1f} s"
        if len(loaded) != len(state):
            raise NotUnderstoodError(f"{file}: {len(state)} tensors, and {len(loaded)} were loaded")
        # In the file's order: spandrel calls some otherwise.
        yield what, max(map(difference, loaded.values(), state.values())), 0


def load_full_size(path: Path, entry: Mapping) -> nn.Module:
    """The network of a published prior or restorer."""
    if not any(name.startswith("time_embed.") for name in entry["tensors"]):
        return load_restorer(path).network
    names = {"size": "image_size", "head_channels": "num_head_channels"}
    return load_prior(path, **{a: entry[b] for a, b in names.items() if b in entry}).network


def computed(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The tensors that a SwinIR computes instead of learning, at the sizes that the shapes tell."""
    found = {}
    for name, (first, *others) in shapes.items():
        kind = name.rpartition(".")[2]
        if kind not in ("relative_position_index", "attn_mask"):
            continue
        window = round(others[0] ** 0.5)
        size = window * round(first**0.5) if kind == "attn_mask" else window * 2
        probe = SwinIR(img_size=size, window_size=window, embed_dim=6, depths=[2], num_heads=[1])
        buffers = probe.state_dict().items()
        found[name] = next(tensor for key, tensor in buffers if key.endswith(kind))
    return found


def difference(a: Tensor, b: Tensor) -> float:
    return largest(a.double() - b.double()) if a.shape == b.shape else float("inf")


def checks_of(path: Path, seed: int | None) -> Iterator[Check]:
    """The comparisons that a file is for.

    Args:
        path: of the file.
        seed: of the weights; None for the one in the file's metadata, else 0.

    Raises:
        NotUnderstoodError: if there are none.
    """
    if path.suffix == ".json":
        formats = json.loads(path.read_text(encoding="utf-8"))
        if bfrffusion.is_checkpoint(formats):
            yield from bfrffusion.check_checkpoint(path, seed or 0)
        else:
            yield from check_formats(formats, seed or 0)
        return
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    seed = int(metadata.get("seed", 0)) if seed is None else seed
    figures, names = Figures(path, tensors, metadata, seed), tensors.keys()
    if bfrffusion.has_figures(set(names)):
        yield from bfrffusion.check_figures(path, tensors, metadata, seed)
    elif names >= {"x", "t", "output"}:
        yield from check_unet(figures)
    elif names >= {"reference", "noise", "initial", "samples", "final"}:
        yield from check_sampler(figures)
    elif names >= {"input", "output"}:
        yield from check_restorer(figures)
    elif any(name.endswith(".input") for name in names):
        yield from check_lowpass(figures)
    else:
        missing(f"check for {', '.join(sorted(names))}")


@torch.no_grad()
def check_folder(folder: Path, seed: int | None = None) -> bool:
    """Checks every file of figures in a folder, and prints what it finds.

    Returns:
        Whether there was a file, and all were understood and within tolerance.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
    if not files:
        print(f"There are no figures in {folder}.")
    good = bool(files)
    for path in files:
        print(path.name)
        try:
            for what, error, tolerance in checks_of(path, seed):
                passed = error <= tolerance  # NaN does not pass
                good = good and passed
                verdict = "ok" if passed else "BEYOND"
                print(f"  {what:64} {error:10.2e}  of {tolerance:.0e}  {verdict}")
        except Exception as error:  # whatever a file can hold: the others are checked too
            good = False
            print(f"  NOT UNDERSTOOD: {type(error).__name__}: {error}")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, help="of the weights; the file's own, else 0")
    args = parser.parse_args()
    if not args.folder.is_dir():
        parser.error(f"{args.folder} is no folder")
    sys.exit(0 if check_folder(args.folder, args.seed) else 1)


if __name__ == "__main__":
    main()
