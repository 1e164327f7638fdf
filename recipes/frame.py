"""The frame of every recipe: its commands, its run folder, its training loop and its export.

A run folder holds `state.pt`, a dict of state dicts and numbers that `torch.load` reads with
``weights_only``; calling the same command again resumes from it.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from bfr.files.checksums import file_sha256
from bfr.files.integrity import CHECKSUMS
from bfr.files.manifest import EMBEDDED_DIR
from bfr.files.weights import read_state_dict, write_state_dict
from bfr.files.whole import atomic_path
from bfr.finetune.learner import follow

log = logging.getLogger(__name__)
STATE = "state.pt"


class Commands:
    """The command line of a recipe, with one sub-command per step.

    Args:
        text: the recipe's docstring, shown by ``--help``.
    """

    def __init__(self, text: str | None):
        self.parser = argparse.ArgumentParser(
            description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self._commands = self.parser.add_subparsers(dest="command", required=True)

    def add(self, name: str, *paths: str) -> argparse.ArgumentParser:
        """Adds a command with its paths; a ``?`` behind a path's name makes it optional."""
        command = self._commands.add_parser(name)
        for path in paths:
            nargs = "?" if path.endswith("?") else None
            command.add_argument(path.rstrip("?"), type=Path, nargs=nargs)
        return command

    def add_training(self, name: str, *paths: str, **defaults: float) -> argparse.ArgumentParser:
        """Adds a training command; the defaults are those of `minutes`, `batch` and `lr`."""
        command = self.add(name, *paths)
        for option in ("minutes", "lr"):
            command.add_argument(f"--{option}", type=float, default=defaults[option])
        command.add_argument("--steps", type=int, default=10**9)
        command.add_argument("--batch", type=int, default=int(defaults["batch"]))
        return command

    @staticmethod
    def add_speed(training: argparse.ArgumentParser) -> None:
        """Adds the options of a training whose samples are drawn by processes of their own."""
        training.add_argument("--workers", type=int, default=1)
        training.add_argument("--bfloat16", action="store_true", help="faster where in hardware")

    def parse(self, arguments: Iterable[str] | None) -> argparse.Namespace:
        """Parses the arguments, and turns logging on."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        return self.parser.parse_args(None if arguments is None else list(arguments))


def pick_device() -> torch.device:
    """An accelerator if torch finds one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision(device: torch.device, bfloat16: bool) -> torch.autocast:
    """Computes in bfloat16 what bears it, where that is asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def cosine(progress: float, floor: float = 0.02) -> float:
    """Learning-rate factor falling from 1 to `floor` as progress goes from 0 to 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def save_state(run: Path, parts: dict[str, Any], **numbers: float) -> None:
    """Writes the state dicts of the parts, and the numbers, to the run folder."""
    states = {name: part.state_dict() for name, part in parts.items()}
    with atomic_path(run / STATE) as path:
        torch.save({**states, **numbers}, path)


def load_state(run: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """Restores the parts from the run folder; returns all that is stored, {} if nothing is."""
    if not (run / STATE).exists():
        return {}
    state = torch.load(run / STATE, weights_only=True, map_location="cpu")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state


def resume(
    run: Path,
    parts: dict[str, Any],
    start: Callable[[], Mapping[str, Tensor]] | None = None,
) -> tuple[int, float]:
    """Resumes a run, or begins one, whose average starts as its network.

    Args:
        run: its folder, made if it is not there.
        parts: of `train_for`.
        start: gives the weights to begin with; None leaves the network's own.

    Returns:
        The steps done before, and the seconds spent on them.
    """
    run.mkdir(parents=True, exist_ok=True)
    state = load_state(run, parts)
    if not state:
        if start is not None:
            parts["network"].load_state_dict(start())
        parts["average"].load_state_dict(parts["network"].state_dict())
    return state.get("step", 0), state.get("spent", 0.0)


def load_batches(samples: IterableDataset, batch: int | None, workers: int) -> DataLoader:
    """Batches of endless samples, drawn by processes of one thread; None if they are batches."""
    return DataLoader(
        samples,
        batch,
        num_workers=workers,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )


def load_average(run: Path, network: nn.Module) -> Any:
    """Fills a network with a run's averaged weights; in evaluation mode."""
    network.load_state_dict(_average(run))
    return network.eval()


def weights_of(start: Path) -> dict[str, Tensor]:
    """The float32 weights of a run's average, or of a file."""
    if start.is_dir():
        return _average(start)
    return {name: tensor.float() for name, tensor in read_state_dict(start)[0].items()}


def _average(run: Path) -> dict[str, Tensor]:
    return torch.load(run / STATE, weights_only=True, map_location="cpu")["average"]


def write_weights(file: Path, state: Mapping[str, Tensor], recipe: str, **facts: object) -> None:
    """Writes finished weights with their provenance.

    Args:
        file: a safetensors file, usually in `weights/`.
        state: the tensors by name.
        recipe: the recipe's module, such as "restorer".
        facts: further metadata, such as the architecture.
    """
    metadata = {
        **{name: str(fact) for name, fact in facts.items()},
        "licence": "Apache-2.0",
        "provenance": f"trained by recipes/{recipe}.py; data in weights/README.md",
    }
    write_state_dict(file, state, metadata)
    record_checksums(file.parent)


def record_checksums(folder: Path) -> None:
    """Rewrites the embedded weights' checksums; does nothing in another folder."""
    if folder.resolve() != EMBEDDED_DIR:
        return
    lines = [f"{file_sha256(file)}  {file.name}\n" for file in sorted(folder.glob("*.safetensors"))]
    with atomic_path(CHECKSUMS) as partial:
        partial.write_text("".join(lines), encoding="ascii")


def train_for(
    run: Path,
    parts: dict[str, Any],
    batches: Iterable[Any],
    loss_of: Callable[[Any], Tensor],
    *,
    step: int,
    spent: float,
    minutes: float,
    steps: int,
    lr: float,
    warm_up: int,
    decay: float,
    clip: float,
    every: int,
    on_save: Callable[[int], None] | None = None,
) -> None:
    """Trains for the given minutes or steps, on a cosine schedule over exactly that time.

    Args:
        run: the folder where the state is saved.
        parts: the `network`, its `average` and the `optimizer`.
        batches: endless batches, each given to `loss_of`.
        loss_of: computes the loss of a batch.
        step: steps done before.
        spent: seconds spent before.
        minutes: the whole run's time, resumed parts included.
        steps: the whole run's number of steps.
        lr: the highest learning rate.
        warm_up: steps over which the rate rises to it.
        decay: the moving average's decay, at the end.
        clip: the largest norm of the gradient.
        every: steps between saves; the loss is logged ten times as often.
        on_save: called with the step after each save.
    """
    network, average, optimizer = parts["network"], parts["average"], parts["optimizer"]
    began, running = time.time() - spent, 0.0
    for batch in batches:
        spent = time.time() - began
        progress = min(1.0, spent / (60 * minutes))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / warm_up) * cosine(progress)
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        step += 1
        follow(average, network, min(decay, 1 - 1 / (step / 5 + 1)))
        running = 0.98 * running + 0.02 * loss.item() if running else loss.item()
        done = progress >= 1 or step >= steps
        if step % max(1, every // 10) == 0 or done:
            log.info("step %d, %.1f min, loss %.5f", step, spent / 60, running)
        if step % every == 0 or done:
            save_state(run, parts, step=step, spent=spent)
            if on_save is not None:
                on_save(step)
        if done:
            break
