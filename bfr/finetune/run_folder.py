"""The folder of a run: its state in one file, its log, its pictures and its best restorer.

One module on purpose: what one method writes, the others must find, compare and delete.

::

    state.pt               all that is needed to resume
    state.json             what identifies the run and how far it is, to read
    best.safetensors       the best restorer so far, where one is better than the base
    restorer.safetensors   the result, where the command line asked for it
    log.jsonl              one line per step, and one per validation
    loss.png               the log, drawn
    samples/step_000100.png   the strip of each validation

A run begins in an empty folder and saves its state before anything else. So a folder with a
state is a run's own, and nothing in any other folder is ever touched. Of the weights in it, only
those that say they come from this run are replaced or deleted.

The state is one file that is replaced by one rename: whenever the run is killed, a whole state
is there, and what is newer in the other files is cut off on resuming. The order, patches and
dropout of a step follow from the seed and the step alone, so no state of random numbers is kept.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FaceRestorationError, InputError, OutputError
from ..files.checkpoint import read_checkpoint, write_checkpoint
from ..files.lock import LOCK, only_writer
from ..files.photos import Photo
from ..files.whole import atomic_path, check_writable, is_leftover, remove_leftovers
from ..files.writing import write_photo
from ..restore.restorer import Restorer
from .identity import check_same
from .save import read_provenance, save_restorer

log = logging.getLogger(__name__)

STATE, FACTS, BEST, RESULT, LOG, LOSS, SAMPLES = (
    "state.pt",
    "state.json",
    "best.safetensors",
    "restorer.safetensors",
    "log.jsonl",
    "loss.png",
    "samples",
)
_EARLIER = "state.safetensors"  # the state as the first versions wrote it
_SAMPLE = re.compile(r"step_(\d{6,})\.png")
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini", LOCK, f"{LOCK}.holder"}
_TO_READ = ("step", "run", "diverged")  # what state.json shows of the state
_STATE = {"run": dict, "step": int, "validations": list, "modules": dict, "best": dict}
_STATE |= {"diverged": str}
_RUN = {"base": str, "settings": dict}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run's folder, as one of several processes uses it: only the first one writes.

    Attributes:
        folder: where it is.
        writes: whether this process writes.
    """

    folder: Path
    writes: bool = True

    def lock(self) -> AbstractContextManager[None]:
        """Holds the folder, so that no two runs are mixed in it.

        Raises:
            InputError: if the folder holds something else than a run.
            BusyError: if another process works there.
            OutputError: if it cannot be written to.
        """
        if not self.writes:
            return nullcontext()
        check_writable(self.folder)
        if not (self.folder / STATE).is_file():
            self.read()  # which names a run of an earlier version
            self._check_empty()
        return only_writer(self.folder)

    def open(
        self, identity: Mapping[str, Any], resume: bool | None, wait: Callable[[], None]
    ) -> dict[str, Any] | None:
        """Makes the folder, or finds the run in it.

        Args:
            identity: of `identify`.
            resume: True resumes, False starts again in its place, None resumes where there is a
                run.
            wait: returns when all processes have called it.

        Returns:
            The state to resume from; None to begin.

        Raises:
            InputError: if the folder holds another run, something else, or nothing to resume.
            CorruptWeightsError: if its state was damaged.
            OutputError: if it cannot be written to; also of all methods that write.
        """
        if self.writes:
            check_writable(self.folder)
        state = self.read()
        wait()  # until all have read: now the first may write
        if state is None:
            if resume:
                raise InputError(
                    f"{self.folder} must hold a run to resume, got none. Start one there."
                )
            self._check_empty()
        else:
            self._check_weights(state["run"], identity)
            if resume is not False:
                check_same(state["run"], identity, self.folder, bool(state["diverged"]))
            else:
                self.clear()
                state = None
        if self.writes:
            check_writable(self.folder / SAMPLES)
            for folder in (self.folder, self.folder / SAMPLES):
                remove_leftovers(folder, locked=True)
        return state

    def read(self) -> dict[str, Any] | None:
        """The state; None where there is no run.

        Raises:
            InputError: if it is the state of something else, or of an earlier version.
            CorruptWeightsError: if the file was damaged.
        """
        path = self.folder / STATE
        if not path.is_file():
            if (self.folder / _EARLIER).is_file():
                raise InputError(
                    f"{self.folder} must hold a run of this version, got one of an earlier "
                    f"version, which cannot be resumed. Choose another folder; {BEST} in this "
                    "one, if there is one, is a restorer like any other."
                )
            return None
        state = read_checkpoint(path)
        if not (_is_state(state, _STATE) and _is_state(state["run"], _RUN)):
            raise InputError(
                f"{path} must be the state of a fine-tuning run, got a checkpoint of something "
                "else. Choose another folder."
            )
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the state as a whole."""
        if not self.writes:
            return
        write_checkpoint(self.folder / STATE, state)
        facts = {name: state[name] for name in _TO_READ if name in state}
        with atomic_path(self.folder / FACTS) as partial:
            partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    def keep_best(self, restorer: Restorer, about: Mapping[str, str]) -> None:
        """Replaces the best restorer."""
        if self.writes:
            save_restorer(self.folder / BEST, restorer, about)

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
        if not path.is_file():
            return
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                line["step"] = int(line["step"])
            except (ValueError, TypeError, KeyError):
                log.warning("A line of %s was cut off and is ignored.", path)
            else:
                yield line

    def rewind(self, step: int, validated: int) -> None:
        """Removes log lines and pictures that are newer than the saved state.

        Args:
            step: the last one whose line stays.
            validated: the last one whose validation, a line with a "gain", stays.
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
        for number, path in self._samples():
            if number > validated:
                path.unlink(missing_ok=True)

    def draw(self, name: str, picture: Tensor) -> None:
        """Writes a picture, 1×3×H×W in [0, 1]."""
        if self.writes:
            write_photo(self.folder / name, Photo(picture))

    def clear(self) -> None:
        """Deletes the run, the state last: a folder without a state must be empty."""
        if not self.writes:
            return
        files = (self.folder / name for name in (BEST, RESULT, LOG, LOSS, FACTS, STATE))
        for path in (*(path for _, path in self._samples()), *files):
            path.unlink(missing_ok=True)

    def _samples(self) -> list[tuple[int, Path]]:
        """The pictures of validations, with their steps."""
        named = [(_SAMPLE.fullmatch(path.name), path) for path in (self.folder / SAMPLES).glob("*")]
        return [(int(found[1]), path) for found, path in named if found]

    def _check_empty(self) -> None:
        """Refuses to begin a run where anything else is."""
        for path in sorted(self.folder.iterdir()) if self.writes else ():
            empty = path.name == SAMPLES and path.is_dir() and not any(path.iterdir())
            if not (empty or path.name in _LITTER or is_leftover(path.name)):
                raise InputError(
                    f"A new run needs an empty folder, got {self.folder}, which has "
                    f"{path.name!r} in it and is no run. Choose another folder."
                )

    def _check_weights(self, run: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Refuses to go on where weights would be replaced that are not this run's own."""
        for name in (BEST, RESULT):
            path = self.folder / name
            if not path.is_file():
                continue
            try:
                about = read_provenance(path)
            except FaceRestorationError:
                about = {}
            if about.get("base_sha256") != run["base"]:
                raise InputError(
                    f"{path} must come from the run in this folder, got other weights. Move them "
                    "away, or choose another folder."
                )
            if about.get("sha256") == wanted["base"]:
                raise InputError(
                    f"The restorer to tune must lie outside of its run, got {path}, which the run "
                    "would replace. Copy it elsewhere, or choose another folder."
                )


def _is_state(content: Mapping[str, Any], kinds: Mapping[str, type]) -> bool:
    return all(isinstance(content.get(name), kind) for name, kind in kinds.items())
