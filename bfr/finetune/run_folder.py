"""A run's folder: its state in one file, its log, its pictures and its best restorer.

::

    state.safetensors      all tensors; what identifies the run and how far it is, as metadata
    state.json             that metadata again, to read
    best.safetensors       the best restorer so far, where one is better than the base
    log.jsonl              a line a step, and a line a validation
    loss.png               the log, drawn
    samples/step_000100.png   the strip of each validation

The state is one file, so it is replaced by one rename: whenever the run is killed, there is a
whole state, and what is newer in the other files is cut off when the run goes on. The order,
patches and dropout of a step follow from the seed and the step alone, so no state of random
numbers is needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import CorruptWeightsError, InputError, OutputError
from ..files.photos import Photo, write_photo
from ..files.weights import write_state_dict
from ..files.whole import atomic_path, check_writable
from ..restore.restorer import Restorer
from .batches import TrainingSet
from .save import pairs_sha256

log = logging.getLogger(__name__)

STATE, BEST, LOG, LOSS, SAMPLES = (
    "state.safetensors",
    "best.safetensors",
    "log.jsonl",
    "loss.png",
    "samples",
)
_FREE = ("micro_batch", "checkpointing")  # settings that change no more than rounding


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a run's state file holds.

    Attributes:
        tensors: by part and name: "network conv.weight".
        facts: what JSON can hold.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run's folder, as one of several processes uses it: the first one alone writes.

    Attributes:
        folder: where it is.
        writes: whether this process writes.
    """

    folder: Path
    writes: bool = True

    def open(
        self, identity: Mapping[str, Any], resume: bool | None, wait: Callable[[], None]
    ) -> State | None:
        """Makes the folder, or finds the run that it holds.

        Args:
            identity: of `identify`.
            resume: True goes on, False begins anew, None goes on where there is a run.
            wait: returns when all processes have called it.

        Returns:
            The state to go on from; None to begin.

        Raises:
            InputError: if the folder holds another run, or none that could be resumed.
            CorruptWeightsError: if its state was damaged.
            OutputError: if it cannot be written to; also of all methods that write.
        """
        if self.writes:
            check_writable(self.folder)
            check_writable(self.folder / SAMPLES)
        if resume is False:
            self.clear()
        wait()
        state = self.read()
        wait()
        if state is not None:
            check_same(state.facts["run"], identity, self.folder)
        elif resume:
            raise InputError(f"{self.folder} holds no run to resume. Begin one there.")
        elif (self.folder / BEST).exists():
            raise InputError(
                f"{self.folder} holds the {BEST} of an earlier run, whose state is gone. Move it "
                "elsewhere, choose another folder, or begin anew in its place (no resume)."
            )
        else:
            self.clear()
        return state

    def read(self) -> State | None:
        """The state; None where no run was begun.

        Raises:
            CorruptWeightsError: if the file was damaged.
        """
        path = self.folder / STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return State(tensors, json.loads((file.metadata() or {})["state"]))
        except (SafetensorError, KeyError, ValueError) as error:
            raise CorruptWeightsError(
                f"{path} is no state of a run ({error}). Begin the run anew in another folder."
            ) from error

    def save(self, state: State) -> None:
        """Replaces the state as a whole."""
        if not self.writes:
            return
        write_state_dict(self.folder / STATE, state.tensors, {"state": json.dumps(state.facts)})
        with atomic_path(self.folder / "state.json") as partial:
            partial.write_text(json.dumps(state.facts, indent=1) + "\n", encoding="utf-8")

    def add(self, line: Mapping[str, Any]) -> None:
        """Appends a line to the log."""
        if not self.writes:
            return
        path = self.folder / LOG
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(
                f"Cannot write {path}: {error.strerror or error}. Check that the disk is not full."
            ) from error

    def lines(self) -> Iterator[dict[str, Any]]:
        """The log's lines; one that was cut off in writing is left out."""
        path = self.folder / LOG
        for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                yield json.loads(text)
            except ValueError:
                log.warning("A line of %s was cut off and does not count.", path)

    def rewind(self, step: int, validated: int) -> None:
        """Cuts off what the log and the pictures have of later than the state.

        Args:
            step: the last whose line stays.
            validated: the last whose validation, a line with a "gain", stays.
        """
        if not self.writes:
            return
        kept = [
            json.dumps(line) + "\n"
            for line in self.lines()
            if line["step"] <= (validated if "gain" in line else step)
        ]
        with atomic_path(self.folder / LOG) as partial:
            partial.write_text("".join(kept), encoding="utf-8")
        for path in (self.folder / SAMPLES).glob("step_*.png"):
            if int(path.stem.removeprefix("step_")) > validated:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Deletes what an earlier run left."""
        if not self.writes:
            return
        pictures = (self.folder / SAMPLES).glob("step_*.png")
        files = (self.folder / name for name in (STATE, "state.json", BEST, LOG, LOSS))
        for path in (*files, *pictures):
            path.unlink(missing_ok=True)

    def draw(self, name: str, picture: Tensor) -> None:
        """Writes a picture, 1×3×H×W in [0, 1]."""
        if self.writes:
            write_photo(self.folder / name, Photo(picture))


def identify(
    restorer: Restorer, data: TrainingSet, evaluation: Tensor | None, distance: str
) -> dict[str, Any]:
    """What must stay as it is in a run: all that its numbers depend on, but for rounding.

    Args:
        restorer: the base.
        data: pairs, settings and clean faces.
        evaluation: N×3×S×S faces that are scored, or None.
        distance: the name of the perceptual distance.
    """
    settings = data.settings.as_dict()
    clean = "".join(f"{path.name} {path.stat().st_size}\n" for path in data.clean)
    shown = None if evaluation is None else evaluation.detach().cpu().float().contiguous()
    return {
        "settings": {name: value for name, value in settings.items() if name not in _FREE},
        "distance": distance,
        "base": restorer.sha256,
        "pairs": len(data.pairs.kept),
        "pairs' checksum": pairs_sha256(data.pairs.kept),
        "clean faces": _sha256(clean.encode()) if clean else None,
        "evaluation": None if shown is None else _sha256(shown.numpy().tobytes()),
    }


def check_same(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Checks that a run that goes on is the one that was begun.

    Raises:
        InputError: naming all that differs.
    """
    stored, wanted = _flat(stored), _flat(json.loads(json.dumps(wanted)))
    differing = [
        f"{name} was {_short(stored.get(name))} and is {_short(wanted.get(name))}"
        for name in sorted(stored.keys() | wanted.keys())
        if stored.get(name) != wanted.get(name)
    ]
    if differing:
        raise InputError(
            f"{folder} holds another run, which cannot go on like this: {'; '.join(differing)}. "
            "Give it what it was begun with, or choose a new folder (a new run may begin with "
            f"this one's {BEST} as its restorer)."
        )


def pack(
    modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> dict[str, Tensor]:
    """All tensors of networks and optimizers on the CPU, copied, by part and name."""
    tensors = {
        f"{part} {name}": tensor
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    for part, optimizer in optimizers.items():
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{part} {number} {name}": value for name, value in values.items()}
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }


def unpack(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
) -> None:
    """Puts back what `pack` took."""
    for part, module in modules.items():
        module.load_state_dict(part_of(tensors, part))
    for part, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part_of(tensors, part).items():
            number, value = name.split(" ")
            state.setdefault(int(number), {})[value] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part, by their own names."""
    return {
        name.removeprefix(f"{part} "): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{part} ")
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name} ")
        else:
            flat[prefix + name] = value
    return flat


def _short(value: Any) -> str:
    return value[:10] if isinstance(value, str) else "not given" if value is None else str(value)
