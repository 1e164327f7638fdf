"""Scores of pyiqa, by a stand-in for it: how it is called, and what is told."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from bfr.errors import InputError, MissingPackageError
from bfr.files.photos import read_photo
from bfr.quality.pyiqa_scores import load_score


class Metric:
    """What pyiqa 0.1.16 makes: called with one face or two, or for "fid" with two folders."""

    def __init__(self, name: str):
        self.lower_better = name in ("fid", "lpips")
        self.metric_mode = "FR" if name == "lpips" else "NR"
        self.name = name

    def __call__(self, face: Any, reference: Any = None, **options: object) -> Any:
        if self.name == "fid":
            assert options == {"num_workers": 0, "verbose": False}
            first, second = (sorted(Path(folder).iterdir()) for folder in (face, reference))
            reds = [float(read_photo(path).pixels[0, 0, 0, 0]) for path in (*first, *second)]
            return sum(reds)
        assert face.shape == (1, 3, 8, 8) and (reference is None) == (self.metric_mode == "NR")
        distance = 0 if reference is None else reference.mean()
        return (face.mean() - distance).reshape(1, 1)


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("pyiqa")
    module.list_models = lambda: ["fid", "lpips", "musiq", "musiq-ava", "broken"]

    def create_metric(name: str, device: torch.device) -> Metric:
        if name == "broken":
            raise ConnectionError("no route")
        return Metric(name)

    module.create_metric = create_metric
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    return module


def faces(count: int = 3) -> Tensor:
    return torch.arange(count)[:, None, None, None].expand(-1, 3, 8, 8) / 5.0


@pytest.mark.usefixtures("pyiqa")
def test_scores_of_each_face(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        score = load_score("musiq")
    assert "downloads" in caplog.text and "forbid commercial use" in caplog.text
    assert not (score.lower_is_better or score.needs_reference or score.whole)
    torch.testing.assert_close(score.measure(faces(), faces()), torch.tensor([0.0, 0.2, 0.4]))
    score = load_score("lpips")
    assert score.lower_is_better and score.needs_reference
    torch.testing.assert_close(score.measure(faces(), faces() / 2), torch.tensor([0.0, 0.1, 0.2]))


@pytest.mark.usefixtures("pyiqa")
def test_a_score_of_all_faces():
    score = load_score("fid")
    assert score.whole and score.needs_reference and score.lower_is_better
    assert score.measure(faces(), faces()).tolist() == [pytest.approx(1.2)]


@pytest.mark.usefixtures("pyiqa")
def test_scores_that_cannot_be_loaded():
    with pytest.raises(InputError, match=r"such as musiq.*list_models"):
        load_score("musik")
    with pytest.raises(InputError, match=r"musiq, maniqa, fid"):
        load_score("0")
    with pytest.raises(InputError, match=r"broken.*ConnectionError: no route"):
        load_score("broken")


def test_without_pyiqa(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(MissingPackageError, match=r"pip install pyiqa.*forbid commercial use"):
        load_score("musiq")
