"""Fine-tuning: never worse, the same after any interruption, and the same on any number of
processes."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pair_folders import write_pairs
from bfr.errors import (
    BusyError,
    CancelledError,
    CorruptWeightsError,
    InputError,
    OutOfMemoryError,
    OutputError,
    WeightsError,
    WrongArchitectureError,
)
from bfr.faces.identity import Identity
from bfr.files.lock import only_writer
from bfr.files.photos import read_photo
from bfr.files.weights import read_state_dict
from bfr.finetune import learner, look
from bfr.finetune import run as module
from bfr.finetune.guard import Verdict, judge
from bfr.finetune.loop import Finetuned, finetune
from bfr.finetune.run_folder import RunFolder
from bfr.finetune.save import save_restorer
from bfr.finetune.settings import CODEBOOK, FinetuneSettings
from bfr.image.plots import curves
from bfr.pairs.folder import PairSet
from bfr.quality.niqe import niqe
from bfr.restore.load import load_restorer
from bfr.restore.restorer import Restorer
from bfr.runtime.processes import Share, launched_share
from tests.finetune_sets import (
    PLAIN,
    QUICK,
    SIZE,
    darker,
    faces,
    pairs_folder,
    tiny_restorer,
)
from tests.forks import CONTEXT, begin, together
from tests.pair_sets import restorer as strange_restorer

ALL = replace(QUICK, steps=6)
"""Everything that has a state: GAN, average, weight decay, patches, flips, the clip."""
STRICT = {"validate_every": 3, "save_every": 2}


@pytest.fixture(scope="module", autouse=True)
def quick_plots():
    """A plot takes longer than the steps it shows: here just its data become a picture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "curves", _data_as_picture)
        yield


def by_distance(figures: Any, base: Any) -> Verdict:
    """Smooth noise is no face, and the targets are right here: they decide what is better."""
    gain = 1 - sum(figures["distance"]) / sum(base["distance"])
    return Verdict(gain > 0, gain, 0.0, len(base["distance"]))


def judge_by_distance(patch: pytest.MonkeyPatch) -> None:
    """By the distance alone; what else is measured costs little."""
    patch.setattr(learner, "judge", by_distance)
    patch.setattr(look, "SIZE", 64)
    patch.setattr(look, "niqe", lambda faces: faces.double().std((1, 2, 3)))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    patch.setattr(module, "load_identity", lambda: Identity(network))


@pytest.fixture(autouse=True)
def judged_by_distance(monkeypatch: pytest.MonkeyPatch):
    judge_by_distance(monkeypatch)


def _data_as_picture(series: dict[str, Any], title: str = "", **_: object) -> Tensor:
    sums = [float(sum(steps) + sum(values)) for steps, values in series.values()]
    return torch.tensor(sums, dtype=torch.float64).frac().abs().expand(1, 3, 4, -1).float()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    return pairs_folder(tmp_path_factory.mktemp("set"))


def tune(pairs: PairSet, run: Path, settings: FinetuneSettings = ALL, **options: Any) -> Finetuned:
    options = {"restorer": tiny_restorer(), **STRICT, **options}
    return finetune(pairs=pairs, run=run, settings=settings, **options)


def weights(restorer: Restorer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in restorer.network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether all is equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def apart(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference; a hundredth of it for faces, as half precision may restore them."""
    scales = {k: 0.01 if k.startswith(" faces") else 1.0 for k in first}
    return max(scales[k] * float((first[k] - second[k]).abs().max()) for k in first)


def state(run: Path) -> dict[str, Tensor]:
    """All tensors of a run's state by their places, with the step."""
    kept = RunFolder(run).read()
    assert kept is not None
    return dict(flat(kept), step=torch.tensor(kept["step"]))


def flat(content: Any, place: str = "") -> dict[str, Tensor]:
    if isinstance(content, Tensor):
        return {place: content}
    inside = content.items() if isinstance(content, dict) else ()
    found: dict[str, Tensor] = {}
    for name, item in inside:
        found |= flat(item, f"{place} {name}")
    return found


def log_of(run: Path) -> list[dict[str, Any]]:
    return list(RunFolder(run).lines())


class Stop:
    """Stops a run by an error after so many steps."""

    def __init__(self, after: int, error: BaseException):
        self.after, self.error = after, error

    def __call__(self, done: int, total: int, preview: Tensor | None) -> None:
        if done >= self.after:
            raise self.error


@pytest.fixture(scope="module")
def _unbroken() -> dict[str, tuple[Path, Finetuned]]:
    return {}


@pytest.fixture
def unbroken(
    pairs: PairSet, tmp_path_factory: pytest.TempPathFactory, _unbroken: dict[str, Any]
) -> tuple[Path, Finetuned]:
    """A run without interruption, made once."""
    if not _unbroken:
        run = tmp_path_factory.mktemp("unbroken")
        _unbroken["run"] = run, tune(pairs, run)
    return _unbroken["run"]


@pytest.fixture
def finished(tmp_path: Path, unbroken: tuple[Path, Finetuned]) -> Path:
    """A copy of the unbroken run's folder."""
    return shutil.copytree(unbroken[0], tmp_path / "finished")


# Resuming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 3, 5, 6])
def test_a_resumed_run_equals_an_unbroken_one(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned], after: int
):
    stopped = tune(pairs, tmp_path, on_step=Stop(after, CancelledError("enough")))
    assert not stopped.finished and stopped.steps == after
    resumed, (run, whole) = tune(pairs, tmp_path, resume=True), unbroken
    assert resumed.finished and resumed.steps == 6
    assert same(state(tmp_path), state(run))
    assert same(weights(resumed.restorer), weights(whole.restorer))
    assert log_of(tmp_path) == log_of(run)
    assert (resumed.best_step, resumed.report) == (whole.best_step, whole.report)
    assert "INTERRUPTED" in stopped.report.split("\n")[0] and "INTERRUPTED" not in resumed.report
    assert torch.equal(resumed.strip, whole.strip) and torch.equal(resumed.plot, whole.plot)


def test_any_other_error_saves_and_goes_on_up(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned]
):
    for error in (ZeroDivisionError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            tune(pairs, tmp_path, on_step=Stop(5, error))
        assert state(tmp_path)["step"] == 5, "and not 4, the last that was due"
    tune(pairs, tmp_path)
    assert same(state(tmp_path), state(unbroken[0]))


def test_a_step_that_is_half_done_is_not_saved(
    pairs: PairSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unbroken: tuple[Path, Finetuned],
):
    follow, calls = learner.follow, []

    def interrupted(*arguments: Any) -> None:
        calls.append(follow(*arguments))
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(learner, "follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(pairs, tmp_path)
    assert state(tmp_path)["step"] == 3
    monkeypatch.setattr(learner, "follow", follow)
    tune(pairs, tmp_path)
    assert same(state(tmp_path), state(unbroken[0]))


def test_an_interrupted_validation_is_made_up_for(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned]
):
    class InValidation(Stop):
        def __call__(self, done: int, total: int, preview: Tensor | None) -> None:
            self.seen = [*getattr(self, "seen", []), done]
            if self.seen.count(3) == 2:
                raise self.error

    stopped = tune(pairs, tmp_path, on_step=InValidation(3, CancelledError()))
    assert stopped.steps == 3 and [line["step"] for line in log_of(tmp_path)] == [0, 1, 2, 3]
    tune(pairs, tmp_path)
    assert log_of(tmp_path) == log_of(unbroken[0])


def test_cancelling_before_the_base_is_scored(pairs: PairSet, tmp_path: Path):
    base = tiny_restorer()
    stopped = tune(pairs, tmp_path, restorer=base, on_step=Stop(0, CancelledError()))
    assert (stopped.improved, stopped.steps, stopped.finished) == (False, 0, False)
    assert same(weights(stopped.restorer), weights(base)) and "not scored" in stopped.report


LONGER = replace(ALL, steps=10)


def tune_and_tell(pairs: PairSet, run: Path, steps: Connection) -> None:
    """Sends each step as it is done, in a process of its own."""
    judge_by_distance(pytest.MonkeyPatch())
    tune(pairs, run, LONGER, on_step=lambda done, *_: steps.send(done))


@pytest.fixture
def one_thread():
    """More threads add in another order, and so round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_killed_at_any_moment(pairs: PairSet, tmp_path: Path):
    """With kill -9 at most the steps since the last save are lost."""
    run, begun, kills = tmp_path / "run", 0, 0
    for wait in (0.0, 0.3):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        process = begin(tune_and_tell, pairs, run, theirs)
        theirs.close()
        seen = ours.recv()  # it has begun to work
        assert seen >= begun - 1, "goes on where it was"
        time.sleep(wait)
        process.kill()
        with contextlib.suppress(EOFError):
            while True:
                seen = max(seen, ours.recv())
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if (run / "state.pt").exists():
            begun = int(state(run)["step"])
            assert begun >= seen - STRICT["save_every"]
    assert kills
    tune(pairs, run, LONGER)
    tune(pairs, tmp_path / "unbroken", LONGER)
    assert same(state(run), state(tmp_path / "unbroken"))
    assert log_of(run) == log_of(tmp_path / "unbroken")


def test_a_finished_run_is_read_again(pairs: PairSet, unbroken: tuple[Path, Finetuned]):
    run, whole = unbroken
    before = (run / "state.pt").stat().st_mtime_ns
    again = tune(pairs, run)
    assert same(weights(again.restorer), weights(whole.restorer)) and again.report == whole.report
    assert (run / "state.pt").stat().st_mtime_ns == before


def test_another_run_is_not_gone_on_with(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned]
):
    run, _ = unbroken
    for options, word in (
        ({"settings": replace(ALL, lr=0.5, steps=7)}, "settings lr was 0.001 and is 0.5"),
        ({"settings": replace(ALL, lr=0.5, steps=7)}, "settings steps was 6 and is 7"),
        ({"restorer": tiny_restorer(1)}, "base was"),
        ({"evaluation": faces(2, 5)}, "evaluation was not given"),
        ({"pairs": pairs_folder(tmp_path / "more", 7)}, "pairs was 6 and is 7"),
    ):
        with pytest.raises(InputError, match=word):
            tune(**{"pairs": pairs, "run": run, "resume": True, **options})
    with pytest.raises(InputError, match="run to resume"):
        tune(pairs, tmp_path / "empty", resume=True)


def test_what_changes_rounding_alone_may_change(pairs: PairSet, tmp_path: Path, unbroken: Any):
    tune(pairs, tmp_path, on_step=Stop(2, CancelledError()))
    resumed = tune(pairs, tmp_path, replace(ALL, micro_batch=4))
    assert apart(state(tmp_path), state(unbroken[0])) < 1e-4
    assert resumed.finished


def test_beginning_anew_leaves_nothing_of_before(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned]
):
    tune(pairs, tmp_path, replace(PLAIN, steps=9, lr=0.01), validate_every=9)
    assert (tmp_path / "samples" / "step_000009.png").exists()
    tune(pairs, tmp_path, resume=False)
    assert same(state(tmp_path), state(unbroken[0])) and log_of(tmp_path) == log_of(unbroken[0])
    assert not (tmp_path / "samples" / "step_000009.png").exists()


@pytest.mark.parametrize("resume", [None, False])
@pytest.mark.parametrize(
    "name",
    ["best.safetensors", "restorer.safetensors", "log.jsonl", "loss.png", "state.json", "x.txt"],
)
def test_a_folder_with_anything_else_is_refused(
    pairs: PairSet, tmp_path: Path, name: str, resume: bool | None
):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(InputError, match=name):
        tune(pairs, tmp_path, resume=resume)
    assert (tmp_path / name).read_bytes() == b"precious" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("resume", [None, True, False])
def test_foreign_weights_in_a_run_are_never_replaced(
    pairs: PairSet, finished: Path, resume: bool | None
):
    path = finished / "restorer.safetensors"
    save_restorer(path, tiny_restorer(7))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"restorer\.safetensors"):
        tune(pairs, finished, resume=resume)
    assert path.read_bytes() == before and (finished / "best.safetensors").exists()


def test_a_run_does_not_replace_the_restorer_that_it_begins_with(pairs: PairSet, finished: Path):
    path = finished / "best.safetensors"
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"best\.safetensors.*replace"):
        tune(pairs, finished, restorer=load_restorer(path), resume=False)
    assert path.read_bytes() == before


def test_a_run_among_the_clean_faces_is_refused(pairs: PairSet, tmp_path: Path):
    # Its pictures would be clean faces, and when it is resumed they would be others.
    with pytest.raises(InputError, match="clean"):
        tune(pairs, tmp_path / "faces" / "run", clean=tmp_path / "faces")
    assert not (tmp_path / "faces").exists()


def test_two_runs_never_mix(pairs: PairSet, tmp_path: Path):
    short = replace(ALL, steps=1)
    with only_writer(tmp_path), pytest.raises(BusyError):
        tune(pairs, tmp_path, short)
    assert tune(pairs, tmp_path, short).finished
    with only_writer(tmp_path), pytest.raises(BusyError):
        tune(pairs, tmp_path, short, resume=False)
    assert tune(pairs, tmp_path, short, resume=True).finished


def test_a_run_from_before_some_terms_goes_on_without_them(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned]
):
    tune(pairs, tmp_path, on_step=Stop(3, CancelledError()))
    folder = RunFolder(tmp_path)
    begun = folder.read()
    assert begun is not None
    for term in ("identity", "pattern"):
        assert begun["run"]["settings"].pop(term) == 0
    folder.save(begun)
    resumed = tune(pairs, tmp_path, replace(ALL, identity=10.0, pattern=2.0))
    assert resumed.finished and same(weights(resumed.restorer), weights(unbroken[1].restorer))
    with pytest.raises(InputError, match=r"settings identity was 0\.0 and is 10\.0"):
        tune(pairs, unbroken[0], replace(ALL, identity=10.0))


def test_a_run_of_an_earlier_version_is_named(pairs: PairSet, tmp_path: Path):
    (tmp_path / "state.safetensors").write_bytes(b"old")
    for resume in (None, True, False):
        with pytest.raises(InputError, match="earlier version"):
            tune(pairs, tmp_path, resume=resume)
    assert (tmp_path / "state.safetensors").read_bytes() == b"old"


@pytest.mark.parametrize("process", ["", "01234567-1-"])
def test_what_a_killed_process_left_is_swept_up(pairs: PairSet, tmp_path: Path, process: str):
    left = tmp_path / f".{process}{'0a' * 16}.part"
    for _ in range(2):
        left.write_bytes(b"half")
        tune(pairs, tmp_path, on_step=Stop(1, CancelledError()))
        assert not left.exists()


# Learning ---------------------------------------------------------------------------------------


def hazy(target: Tensor) -> Tensor:
    """Damage without any harm to the coarse shape: a fine pattern on everything."""
    pattern = torch.tensor([1.0, -1.0]).repeat(SIZE // 2)
    return (target + 0.1 * pattern * pattern[:, None]).clamp(0, 1)


def test_it_learns_what_can_be_learnt(tmp_path: Path):
    pairs = pairs_folder(tmp_path / "pairs", 12, hazy)
    base = tiny_restorer(scale=0.01)
    tuned = tune(
        pairs,
        tmp_path / "run",
        replace(PLAIN, steps=40, lr=5e-3),
        restorer=base,
        validate_every=20,
        evaluation=hazy(faces(3, 77)),
    )
    assert tuned.improved and tuned.best_step > 0 and tuned.report.startswith("BETTER")
    clean = faces(4, 99)
    with torch.no_grad():
        before, after = (
            F.mse_loss(restorer.network(hazy(clean)), clean) for restorer in (base, tuned.restorer)
        )
    assert after < 0.5 * before
    losses = [line["pixel"] for line in log_of(tmp_path / "run") if "pixel" in line]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.fixture(scope="module")
def adverse(tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    """Pairs whose targets are noise: what is learnt from them is worse than nothing."""
    noise = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    damaged = darker(faces(6))
    return write_pairs(tmp_path_factory.mktemp("adverse"), damaged, damaged, noise)


def test_never_worse(adverse: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learner, "judge", judge)
    monkeypatch.setattr(look, "niqe", niqe)
    base, settings = tiny_restorer(), replace(PLAIN, steps=10, lr=0.02)
    result = tune(adverse, tmp_path, settings, restorer=base, validate_every=5)
    assert not result.improved and result.best_step == 0 and result.finished
    assert same(weights(result.restorer), weights(base))
    assert result.report.startswith("NO BETTER")
    assert not (tmp_path / "best.safetensors").exists()
    asked = tune(adverse, tmp_path, settings, restorer=base, validate_every=5, keep_worse=True)
    assert not asked.improved and asked.best_step == 10 and "NO BETTER" in asked.report
    assert result.about == {} and "10 of 10 steps" in asked.about["provenance"]
    assert not same(weights(asked.restorer), weights(base))


def test_the_best_is_in_a_file_of_its_own(pairs: PairSet, unbroken: tuple[Path, Finetuned]):
    run, tuned = unbroken
    assert tuned.improved
    loaded = load_restorer(run / "best.safetensors")
    assert tuned.about.items() <= read_state_dict(run / "best.safetensors")[1].items()
    assert same(weights(loaded), weights(tuned.restorer)) and loaded.size == SIZE


def test_no_steps_change_nothing(pairs: PairSet, tmp_path: Path):
    base = tiny_restorer()
    result = tune(pairs, tmp_path, replace(ALL, steps=0), restorer=base)
    assert result.finished and not result.improved and result.steps == 0
    assert same(weights(result.restorer), weights(base))


def test_the_callers_restorer_is_never_changed(pairs: PairSet, tmp_path: Path):
    base = tiny_restorer()
    base.network.requires_grad_(False)
    before, evaluation = weights(base), faces(2)
    kept = evaluation.clone()
    short = replace(ALL, steps=3)
    tuned = tune(pairs, tmp_path, short, restorer=base, evaluation=evaluation)
    assert same(weights(base), before) and torch.equal(evaluation, kept)
    assert not base.network.training and not tuned.restorer.network.training
    assert not any(p.requires_grad or p.grad is not None for p in base.network.parameters())
    mine = {p.data_ptr() for p in base.network.parameters()}
    assert not mine & {p.data_ptr() for p in tuned.restorer.network.parameters()}


def test_it_learns_under_inference_mode(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned]
):
    """As ComfyUI runs its nodes: the network and the tensors are made there."""
    with torch.inference_mode():
        tuned = tune(pairs, tmp_path, restorer=tiny_restorer())
        assert torch.is_inference_mode_enabled()
    assert same(weights(tuned.restorer), weights(unbroken[1].restorer))
    assert not any(p.is_inference() for p in tuned.restorer.network.parameters())


def test_micro_batches_make_one_batch(pairs: PairSet, tmp_path: Path):
    parts = tune(pairs, tmp_path / "parts", replace(ALL, steps=3, micro_batch=1))
    whole = tune(pairs, tmp_path / "whole", replace(ALL, steps=3, micro_batch=4))
    assert parts.finished and whole.finished
    assert apart(state(tmp_path / "parts"), state(tmp_path / "whole")) < 1e-4


def test_precision(pairs: PairSet, tmp_path: Path):
    for precision in ("bfloat16", "float16"):
        settings = replace(ALL, steps=2, precision=precision)
        tuned = tune(pairs, tmp_path / precision, settings, keep_worse=True)
        assert tuned.finished and tuned.restorer.dtype == torch.float32
        kept = RunFolder(tmp_path / precision).read()
        assert kept is not None and kept["step"] == 2
        assert bool(kept["scaler"]) == (precision == "float16")
        assert apart(weights(tuned.restorer), weights(tiny_restorer())) > 0, "it has learnt"


def test_a_finished_run_keeps_little(pairs: PairSet, tmp_path: Path):
    tune(pairs, tmp_path, on_step=Stop(3, CancelledError()))
    unfinished = (tmp_path / "state.pt").stat().st_size
    tune(pairs, tmp_path)
    assert (tmp_path / "state.pt").stat().st_size < 0.6 * unfinished


def test_a_base_in_half_precision_comes_back_as_such(pairs: PairSet, tmp_path: Path):
    base = tiny_restorer()
    base.network.half()
    tuned = tune(pairs, tmp_path, replace(ALL, steps=2), restorer=base)
    assert tuned.restorer.dtype == torch.float16 and base.dtype == torch.float16


def test_without_pairs_held_back_the_report_says_so(pairs: PairSet, tmp_path: Path):
    report = tune(pairs, tmp_path, replace(ALL, steps=1, held_back=0.0)).report
    assert "Trained with 6 pairs" in report
    assert "6 faces trained with" in report and "held back" not in report


def test_the_random_numbers_of_others_are_left_alone(pairs: PairSet, tmp_path: Path):
    base = tiny_restorer()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    finetune(base, pairs, tmp_path, replace(ALL, steps=2))
    assert torch.equal(torch.rand(3), wanted)


# Seeing it --------------------------------------------------------------------------------------


def test_progress(pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bfr.runtime.progress._PAUSE", 0.0)
    told: list[tuple[int, int, Tensor | None]] = []
    lines: list[str] = []
    tune(pairs, tmp_path, say=lines.append, on_step=lambda *values: told.append(values))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][:2] == (6, 6) and {total for _, total, _ in told} == {6}
    shown = [(done, preview.shape) for done, _, preview in told if preview is not None]
    assert [done for done, _ in shown] == [0, 3, 6] and all(s[:2] == (1, 3) for _, s in shown)
    assert any("loss" in line and "left" in line for line in lines)
    names = {path.name for path in (tmp_path / "samples").iterdir()}
    assert names == {"step_000000.png", "step_000003.png", "step_000006.png"}
    assert (tmp_path / "loss.png").is_file()
    facts = json.loads((tmp_path / "state.json").read_text())
    assert facts["step"] == 6 and facts["run"]["settings"]["lr"] == ALL.lr


def test_the_plot_is_drawn(pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "curves", curves)
    tuned = tune(pairs, tmp_path, replace(ALL, steps=2), validate_every=2)
    assert tuned.plot.shape == (1, 3, 540, 960)
    assert torch.equal(read_photo(tmp_path / "loss.png").pixels, tuned.plot)


def test_tensorboard_is_asked_for_by_name(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        tune(pairs, tmp_path, tensorboard=True)


# Bad input --------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch):
    """From the sixth step on, the loss is NaN where the learning rate is that of `ALL`."""
    original = learner.make_objective

    def make(restorer: Any, settings: FinetuneSettings, *arguments: Any) -> Any:
        objective, calls = original(restorer, settings, *arguments), []
        terms = objective.terms

        def broken(batch: Any) -> Any:
            calls.append(batch)
            losses, restored = terms(batch)
            if len(calls) > 10 and settings.lr == ALL.lr:
                losses["pixel"] = losses["pixel"] * torch.nan
            return losses, restored

        objective.terms = broken
        return objective

    monkeypatch.setattr(learner, "make_objective", make)


@pytest.mark.usefixtures("poisoned")
def test_a_run_that_diverges_returns_what_it_had_found(pairs: PairSet, tmp_path: Path):
    tuned = tune(pairs, tmp_path)
    assert (tuned.steps, tuned.finished, tuned.improved, tuned.best_step) == (5, False, True, 3)
    first = tuned.report.splitlines()[0]
    assert first.startswith("DIVERGED") and "face-" in first and "step 6" in first
    assert same(weights(tuned.restorer), weights(load_restorer(tmp_path / "best.safetensors")))
    saved = state(tmp_path)
    assert saved["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())
    again = tune(pairs, tmp_path, resume=True)
    assert not again.finished and again.report.startswith("DIVERGED"), "it is not tried again"
    with pytest.raises(InputError, match="seed was 0 and is 1"):
        tune(pairs, tmp_path, replace(ALL, seed=1, lr=1e-4))


def test_faces_that_are_no_longer_finite_end_a_run_with_what_it_had_found(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    restore, calls = module.restore, []

    def overflowing(restorer: Restorer, *arguments: Any) -> Any:
        calls.append(restorer)
        if len(calls) == 3:
            raise WeightsError("Restored faces must be finite.")
        return restore(restorer, *arguments)

    monkeypatch.setattr(module, "restore", overflowing)
    tuned = tune(pairs, tmp_path)
    assert tuned.report.startswith("DIVERGED") and (tuned.improved, tuned.best_step) == (True, 3)


@pytest.mark.usefixtures("poisoned")
def test_a_run_that_diverged_goes_on_with_another_rate(pairs: PairSet, tmp_path: Path):
    tune(pairs, tmp_path)
    slower = replace(ALL, lr=1e-4, lr_end=1e-5)
    tuned = tune(pairs, tmp_path, slower)
    assert tuned.finished and tuned.steps == 6 and "DIVERGED" not in tuned.report
    settings = json.loads((tmp_path / "state.json").read_text())["run"]["settings"]
    assert settings["lr"] == 1e-4
    assert tune(pairs, tmp_path, slower).finished


@pytest.mark.parametrize("what", ["modules", "optimizers"])
def test_a_state_that_does_not_fit_is_named(pairs: PairSet, tmp_path: Path, what: str):
    tune(pairs, tmp_path, on_step=Stop(2, CancelledError()))
    run = RunFolder(tmp_path)
    saved = run.read()
    assert saved is not None and saved["modules"]
    run.save({**saved, what: {"network": {"x": torch.zeros(1)}} if what == "modules" else None})
    with pytest.raises(CorruptWeightsError, match="state"):
        tune(pairs, tmp_path, resume=True)


def test_a_restorer_that_cannot_be_trained(pairs: PairSet, tmp_path: Path):
    with pytest.raises(WrongArchitectureError, match="must be one of"):
        tune(pairs, tmp_path, restorer=strange_restorer())
    with pytest.raises(WrongArchitectureError, match="regression"):
        tune(pairs, tmp_path, replace(ALL, objective=CODEBOOK))
    assert not (tmp_path / "state.pt").exists()


def test_memory_that_runs_out_is_named(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def exhausted(batch: object) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    original = learner.make_objective

    def objective_of(*arguments: Any) -> Any:
        objective = original(*arguments)
        objective.terms = exhausted
        return objective

    monkeypatch.setattr(learner, "make_objective", objective_of)
    with pytest.raises(OutOfMemoryError, match="micro_batch or patch"):
        tune(pairs, tmp_path)
    assert state(tmp_path)["step"] == 0


def test_a_full_disk_leaves_the_last_state(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tune(pairs, tmp_path, on_step=Stop(2, CancelledError()))
    before = state(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bfr.files.checkpoint.torch.save", full)
    with pytest.raises(OutputError, match="No space left"):
        tune(pairs, tmp_path)
    monkeypatch.undo()
    assert same(state(tmp_path), before)
    assert not list(tmp_path.glob(".*.part"))


def test_more_processes_than_micro_batches(pairs: PairSet, tmp_path: Path):
    with pytest.raises(InputError, match="2 for 3 processes"):
        tune(pairs, tmp_path, share=Share(0, 3))


def tune_together(pairs: PairSet, run: Path) -> None:
    judge_by_distance(pytest.MonkeyPatch())
    share = launched_share(cpu=True)
    tuned = tune(pairs, run, share=share)
    torch.save(tuned.restorer.network.state_dict(), f"{run}.{share.rank}")


def test_two_processes_do_the_work_of_one(
    pairs: PairSet, tmp_path: Path, unbroken: tuple[Path, Finetuned]
):
    pytest.importorskip("accelerate")
    together(2, tune_together, pairs, tmp_path / "run")
    first, second = (torch.load(f"{tmp_path}/run.{rank}", weights_only=True) for rank in (0, 1))
    assert same(first, second), "all processes know the result"
    run, whole = unbroken
    assert apart(first, weights(whole.restorer)) < 1e-4
    assert apart(state(tmp_path / "run"), state(run)) < 1e-4
    assert [line["step"] for line in log_of(tmp_path / "run")] == [
        line["step"] for line in log_of(run)
    ]
