"""The check of a folder of published figures: what it passes, and what it must not pass."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import parity
from benchmarks.parity import check_folder
from benchmarks.parity_figures import NotUnderstoodError
from benchmarks.parity_sampler import published_steps
from benchmarks.published import GOLDEN
from benchmarks.published.priors import published_unet
from bfr.prior.schedule import Schedule, respace

NAMES = ("lowpass", "swinir", "unet_plain", "unet_openai", "sampler_plain")


@pytest.fixture
def figures(tmp_path: Path) -> Callable[..., Path]:
    """Copies golden files of these names into a folder."""

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copy(GOLDEN / f"{name}.safetensors", tmp_path)
        return tmp_path

    return copy


def edit(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], object]) -> None:
    """Changes a file's tensors and metadata in place."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parity
def test_all_published_figures_pass(figures: Callable[..., Path], capsys):
    assert check_folder(figures(*NAMES, "unet_difface", "sampler_difface"))
    printed = capsys.readouterr().out
    for name in (*NAMES, "unet_difface", "sampler_difface"):
        assert f"{name}.safetensors" in printed
    assert printed.count(" ok") == 8 + 1 + 3 + 2 * 4


@pytest.mark.parametrize(
    ("name", "tensor", "by"),
    [
        ("lowpass", "size32_factor4.down", 3e-5),
        ("lowpass", "size96_factor16.output", 3e-5),
        ("unet_plain", "output", 3e-4),
        ("swinir", "output", 3e-5),
        ("sampler_plain", "initial", 3e-3),
        ("sampler_plain", "samples", 3e-3),
        ("sampler_plain", "final", 3e-3),
        ("sampler_plain", "timestep_map", 1),
    ],
)
def test_one_wrong_figure_does_not_pass(
    name: str, tensor: str, by: float, figures: Callable[..., Path], capsys
):
    folder = figures(name, "unet_plain")

    def spoil(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        tensors[tensor].view(-1)[-1] += by

    edit(folder / f"{name}.safetensors", spoil)
    assert not check_folder(folder)
    assert capsys.readouterr().out.count("BEYOND") == 1


def test_nan_does_not_pass(figures: Callable[..., Path]):
    folder = figures("unet_plain")
    edit(folder / "unet_plain.safetensors", lambda t, m: t["output"].fill_(torch.nan))
    assert not check_folder(folder)


@pytest.mark.parametrize("name", ["unet_plain", "swinir", "sampler_plain"])
def test_weights_of_another_seed_do_not_pass(name: str, figures: Callable[..., Path]):
    folder = figures(name, "unet_plain")
    if name != "unet_plain":
        edit(folder / "unet_plain.safetensors", lambda t, m: m.update(seed="0"))
    assert not check_folder(folder, seed=1)
    edit(folder / f"{name}.safetensors", lambda t, m: m.update(seed="1"))
    assert not check_folder(folder)
    assert check_folder(folder, seed=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("start", "9"),
        ("constraint_stop", "5"),
        ("lowpass_factor", "4"),
        ("respacing", "200"),
        ("variance", "fixed_small"),
        ("train_steps", "900"),
        ("net", "none"),
    ],
)
def test_settings_are_read_from_the_metadata(
    setting: str, value: str, figures: Callable[..., Path]
):
    folder = figures("sampler_plain", "unet_plain")  # which passes, see above
    edit(folder / "sampler_plain.safetensors", lambda t, m: m.update({setting: value}))
    assert not check_folder(folder)


def test_published_notation():
    small = Schedule(steps=300)
    sections = published_steps(small, "10,15,20").timesteps
    assert [int(((sections >= a) & (sections < a + 100)).sum()) for a in (0, 100, 200)] == [
        *(10, 15, 20)
    ]
    assert published_steps(small, "ddim50").timesteps.tolist() == list(range(0, 300, 6))
    assert torch.equal(published_steps(small, "50").timesteps, respace(small, 50).timesteps)


@pytest.mark.parametrize("notation", ["", "many", "ddim7.5", "ddim999", "ddim5,5", "600,10", "0,5"])
def test_notation_that_divides_nothing(notation: str):
    with pytest.raises(NotUnderstoodError):
        published_steps(Schedule(), notation)


def test_published_notation_of_the_same_steps(figures: Callable[..., Path]):
    """'250' in the notation that needs a schedule of just these steps."""
    folder = figures("sampler_plain", "unet_plain")
    edit(folder / "sampler_plain.safetensors", lambda t, m: m.update(respacing="250 "))
    assert check_folder(folder)


def test_files_that_are_not_understood(figures: Callable[..., Path], capsys):
    folder = figures("unet_plain")
    assert check_folder(folder)
    for name, write in {
        "other.safetensors": lambda path: save_file({"a": torch.zeros(1)}, path),
        "cut.safetensors": lambda path: path.write_bytes(b"\x10"),
        "other.json": lambda path: path.write_text('{"a": 1}'),
        "unet_b.safetensors": lambda path: save_file(
            load_file(folder / "unet_plain.safetensors"), path
        ),
    }.items():
        write(folder / name)
        assert not check_folder(folder), name
        printed = capsys.readouterr().out
        assert "NOT UNDERSTOOD" in printed
        assert " ok" in printed, "the others are checked too"
        (folder / name).unlink()


def test_an_empty_folder_does_not_pass(tmp_path: Path, capsys):
    (tmp_path / "README.md").write_text("nothing")
    assert not check_folder(tmp_path)
    assert "no figures" in capsys.readouterr().out


def test_formats(tmp_path: Path, capsys):
    published = published_unet("difface")
    entry = {
        "image_size": 32,
        "num_head_channels": 32,
        "tensors": {name: [shape, "float16"] for name, shape in published.shapes.items()},
    }
    path = tmp_path / "checkpoint_formats.json"
    path.write_text(json.dumps({"small.pth": entry}))
    assert check_folder(tmp_path)
    assert "2.0 M parameters" in capsys.readouterr().out
    del entry["tensors"]["out.2.bias"]
    path.write_text(json.dumps({"small.pth": entry}))
    assert not check_folder(tmp_path)


@pytest.mark.parametrize(("seed", "code"), [("0", 0), ("3", 1)])
def test_as_a_program(
    seed: str, code: int, figures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys
):
    arguments = ["parity.py", str(figures("unet_plain")), "--seed", seed]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(parity.__file__, run_name="__main__")
    assert end.value.code == code
    assert ("BEYOND" in capsys.readouterr().out) == (code == 1)
