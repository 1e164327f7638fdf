"""The command ``finetune``: words, exit codes, what is told and what is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bfr.cli import finetune as training
from bfr.cli import main, recipe
from bfr.errors import InputError
from bfr.faces import detect, retinaface
from bfr.files.checksums import network_sha256
from bfr.files.photos import Photo
from bfr.files.writing import write_photo
from bfr.finetune import learner, loop, plan
from bfr.finetune.held_back import split
from bfr.finetune.loop import Finetuned
from bfr.finetune.save import provenance, save_restorer
from bfr.finetune.settings import PRESETS, FinetuneSettings, adjusted
from bfr.pairs.folder import PairSet
from bfr.records import FaceSet
from bfr.restore.load import load_restorer
from bfr.runtime import processes
from tests.finetune.test_loop import by_distance
from tests.finetune_sets import SIZE, faces, pairs_folder, tiny_restorer
from tests.portraits import face_at

TINY = "--batch 2 --micro-batch 1 --patch 16 --perceptual 0 --adversarial 0 --held-back .3".split()


def run(*words: object) -> int:
    try:
        return main.main(["finetune", *map(str, words), "--device", "cpu"])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    return pairs_folder(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    save_restorer(path, tiny_restorer(scale=0.01))
    return path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the core would be given; it comes to a base that nothing beats.

    No step is timed: that would take whole recipes, some of which do not suit the tiny restorer.
    """
    seen: dict[str, Any] = {}

    def stand_in(restorer: Any, pairs: PairSet, out: Path, settings: Any, **options: Any):
        seen.update(options, restorer=restorer, pairs=pairs, out=out, settings=settings)
        if "raise" in seen:
            raise seen["raise"]
        if "terminate" in seen:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)  # until the handler raises
        picture = torch.zeros(1, 3, 8, 8)
        out.mkdir(parents=True, exist_ok=True)
        about = provenance("0", split(pairs, settings.held_back)[0], settings, step=0)
        return Finetuned(restorer, False, 0, 2, True, about, "WARNING: the base.", picture, picture)

    monkeypatch.setattr(loop, "finetune", stand_in)
    monkeypatch.setattr(plan, "time_steps", lambda *_, **__: plan.Pace(60 / 7, 0.0))
    return seen


def test_a_run_from_end_to_end(
    pairs: PairSet,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """The result is the best one, whole, with its provenance; once more there is nothing to do."""
    monkeypatch.setattr(learner, "judge", by_distance)
    out = tmp_path / "run"
    words = [pairs.folder, "-o", out, "--restorer", base, *TINY, "--steps", 16, "--lr", 0.01]
    assert run(*words, "--validate-every", 8) == 0
    told = capsys.readouterr()
    path = out / training.RESULT
    assert told.out.splitlines()[-1] == str(path) and "BETTER than the base" in told.out
    tuned = load_restorer(path)
    assert network_sha256(tuned.network) == network_sha256(
        load_restorer(out / "best.safetensors").network
    )
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["base_sha256"] == network_sha256(load_restorer(base).network)
    assert "pairs of damaged faces" in metadata["provenance"] and metadata["size"] == str(SIZE)

    assert run(*words, "--validate-every", 8, "--resume", "--half") == 0
    assert load_file(path)["intro.weight"].dtype == torch.float16
    assert run(*words, "--resume", "--seed", 3) == 2
    assert "seed was 0 and is 3" in capsys.readouterr().err


@pytest.mark.usefixtures("given")
def test_a_base_that_nothing_beats_is_not_written_again(
    pairs: PairSet, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / training.RESULT
    path.write_bytes(b"of an earlier part of this run")
    words = [pairs.folder, "-o", tmp_path, "--restorer", base, *TINY]
    assert run(*words) == 1 and not path.exists()
    told = capsys.readouterr()
    assert "WARNING" in told.out and "--keep-worse" in told.err
    assert run(*words, "--keep-worse") == 0
    with safe_open(path, "pt") as file:
        assert "0 of 500 steps on 5 pairs" in file.metadata()["provenance"]


def test_settings_of_the_words(pairs: PairSet, base: Path, tmp_path: Path, given: dict[str, Any]):
    words = "--steps 40 --batch 6 --micro-batch 3 --patch 96 --lr .001 --weight-decay .1 "
    words += "--clip 2 --ema .9 --pixel 2 --perceptual 0 --adversarial .5 --held-back .2 --seed 7 "
    words += "--schedule constant --distance pyramid --no-flips --precision bfloat16 "
    words += "--checkpointing --code .1 --feature .2 --identity 3 --learned .25 "
    words += "--validate-every 5 --save-every 6 --no-resume --tensorboard --keep-worse"
    clean = tmp_path / "clean"
    out = tmp_path / "run"
    run(pairs.folder, "-o", out, "--restorer", base, *words.split(), "--clean", clean)
    quick = PRESETS["quick"]
    assert given["settings"] == replace(
        quick, steps=40, batch=6, micro_batch=3, patch=96, lr=0.001, weight_decay=0.1, clip=2,
        lr_end=quick.lr_end * 0.001 / quick.lr, ema=0.9, pixel=2, perceptual=0, adversarial=0.5,
        held_back=0.2, seed=7, schedule="constant", distance="pyramid", flips=False,
        precision="bfloat16", checkpointing=True, code=0.1, feature=0.2,
        identity=3, learned=0.25,
    )  # fmt: skip
    assert (given["validate_every"], given["save_every"], given["resume"]) == (5, 6, False)
    assert given["tensorboard"] and given["keep_worse"] and given["clean"] == clean
    assert given["pairs"] == pairs and given["out"] == out and given["evaluation"] is None


def test_damage_is_learned_from_the_pairs(
    base: Path, tmp_path: Path, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    pairs = pairs_folder(tmp_path / "pairs", 3, size=64)
    words = [pairs.folder, "-o", tmp_path / "run", "--restorer", base, "--learn-damage"]
    run(*words, "--clean", tmp_path)
    assert len(given["damage"]) == 3
    assert given["damage"].describe() in capsys.readouterr().err
    assert run(*words) == 2 and "--clean FOLDER" in capsys.readouterr().err


def settings_of(given: dict[str, Any], *words: object) -> FinetuneSettings:
    assert run(*words) == 1
    return given["settings"]


def test_presets(pairs: PairSet, base: Path, tmp_path: Path, given: dict[str, Any]):
    """A preset is the core's as it stands; a new length or batch moves what belongs to it."""
    words = [pairs.folder, "-o", tmp_path, "--restorer", base]
    assert settings_of(given, *words) == PRESETS["quick"], "which suits a NAFNet"
    assert given["resume"] is None
    assert settings_of(given, *words, "--patch", "whole") == PRESETS["quick"]
    for word, name in recipe.RECIPE_WORDS.items():
        assert settings_of(given, *words, "--preset", word) == PRESETS[name]
    longer = settings_of(given, *words, "--preset", "codeformer", "--steps", 400)
    assert longer == adjusted(PRESETS["CodeFormer (paper)"], steps=400) and longer.milestones == (
        350,
        380,
    )
    odd = settings_of(given, *words, "--preset", "swinir", "--batch", 6)
    assert (odd.batch, odd.micro_batch) == (6, 3)


def test_the_steps_can_follow_from_the_time(
    pairs: PairSet,
    base: Path,
    tmp_path: Path,
    given: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
):
    words = [pairs.folder, "-o", tmp_path / "run", "--restorer", base, "--minutes", 3]
    assert settings_of(given, *words).steps == 21
    told = capsys.readouterr().err
    assert "21 steps" in told and "GB" in told and "3 min" in told
    assert run(*words, "--steps", 3) == 2


def test_interrupting_tells_how_to_go_on(
    pairs: PairSet,
    base: Path,
    tmp_path: Path,
    given: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
):
    given["raise"] = KeyboardInterrupt()
    assert run(pairs.folder, "-o", tmp_path / "run", "--restorer", base) == 130
    told = capsys.readouterr().err
    assert "run the same again" in told and str(tmp_path / "run") in told
    del given["raise"]
    given["terminate"] = True
    before = signal.getsignal(signal.SIGTERM)
    assert run(pairs.folder, "-o", tmp_path / "run", "--restorer", base) == 143
    assert "run the same again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    given["raise"] = InputError("no such thing")
    assert run(pairs.folder, "-o", tmp_path / "run", "--restorer", base) == 2


def test_photographs_to_evaluate(
    pairs: PairSet,
    base: Path,
    tmp_path: Path,
    given: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Their faces are cut out at the restorer's size; what shows none is told."""

    def detect_faces(images: Any, detector: Any, **_: object) -> FaceSet:
        count = round(float(images[0, 0, 0, 0]) * 10)
        found = [face_at(40.0, 40.0, 22.0, 5.0)] * count
        return FaceSet((tuple(found),), (images.shape[2], images.shape[3]))

    monkeypatch.setattr(detect, "detect_faces", detect_faces)
    monkeypatch.setattr(retinaface, "load_detector", lambda path: torch.nn.Identity())
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, image, count in zip("abc", faces(3, size=96), (2, 0, 1), strict=True):
        image[0, 0, 0] = count / 10
        write_photo(photos / f"{name}.png", Photo(image[None]))
    (photos / "d.png").write_bytes(b"\x89PNG")
    words = [pairs.folder, "-o", tmp_path / "run", "--restorer", base, "--evaluation"]
    assert run(*words, photos) == 1
    assert given["evaluation"].shape == (3, 3, SIZE, SIZE)
    told = capsys.readouterr().err
    assert "3 faces to evaluate in 4 photographs" in told
    assert "b.png: no faces" in told and "d.png: failed" in told
    assert run(*words, photos / "b.png") == 2
    assert "must show faces, got none in 1" in capsys.readouterr().err


def test_one_of_several_processes(
    pairs: PairSet,
    base: Path,
    tmp_path: Path,
    given: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """It takes its device, and leaves telling and writing to the first."""
    mine = processes.Share(1, 2, "meta", lambda: None)
    monkeypatch.setattr(processes, "launched_share", lambda cpu: mine)
    code = main.main(["finetune", str(pairs.folder), "-o", str(tmp_path), "--restorer", str(base)])
    assert code == 1
    assert given["share"] is mine and given["device"].type == "meta" and given["say"] is None
    told = capsys.readouterr()
    assert told.out == told.err == ""


def test_bad_usage(pairs: PairSet, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "run"
    words = [pairs.folder, "-o", out, "--restorer", base]
    cases: list[list[object]] = [
        [],
        [pairs.folder],
        [tmp_path / "empty", "-o", out],
        [tmp_path / "absent", "-o", out],
        [*words[:3], "--restorer", "no-such-restorer"],
        [*words, "--preset", "magic"],
        [*words, "--preset", "codeformer"],
        [*words, "--batch", "5", "--micro-batch", "2"],
        [*words, "--patch", "8"],
        [*words, "--patch", "half"],
        [*words, "--held-back", ".6"],
        [*words, "--steps", "-1"],
        [*words, "--validate-every", "0"],
        [*words, "--precision", "float8"],
        [*words, "--evaluation", tmp_path / "empty"],
        [*words, "--resume"],
    ]
    for case in cases:
        assert run(*case) == 2, case
        told = capsys.readouterr().err
        assert told.strip() and "Traceback" not in told, case
    assert not (out / training.RESULT).exists()


def test_help_does_not_wait_for_torch(root: Path):
    code = (
        "import sys; from bfr.cli import main\n"
        "for command in ('finetune', 'evaluate'):\n"
        "    try: main.main([command, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stderr.split() == ["False"], done.stderr
    assert "the paper's" in " ".join(done.stdout.split())


def test_the_result_is_written_as_onnx_too(
    pairs: PairSet, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from bfr.restore import onnx_export

    written: list[Path] = []
    monkeypatch.setattr(
        onnx_export, "export_onnx", lambda path, restorer, about: written.append(path)
    )
    words = (pairs.folder, "-o", tmp_path / "run", "--restorer", base, *TINY, "--steps", 2)
    assert run(*words, "--keep-worse", "--onnx", tmp_path / "a.onnx") == 0
    assert written == [tmp_path / "a.onnx"]


def test_a_wrong_onnx_file_is_refused_before_training(
    pairs: PairSet, base: Path, tmp_path: Path, given: dict[str, Any]
):
    words = (pairs.folder, "-o", tmp_path / "run", "--restorer", base)
    assert run(*words, "--onnx", tmp_path / "a.pth") == 2
    (tmp_path / "photo.onnx").write_bytes(b"something else")
    assert run(*words, "--onnx", tmp_path / "photo.onnx") == 2
    assert not given and (tmp_path / "photo.onnx").read_bytes() == b"something else"
