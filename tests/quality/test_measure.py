"""Figures of faces: which there are, and that they are the metrics' own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bfr.errors import InputError
from bfr.faces.identity import LIMIT, Identity
from bfr.faces.retinaface import Detector
from bfr.image.geometry import face_template
from bfr.quality import face_batch, measure, metrics, render
from bfr.quality.face_batch import Tools
from bfr.quality.likeness import consistency_psnr, psnr, ssim
from bfr.quality.measure import measure_faces, measure_sets
from bfr.quality.metrics import HIGHER, LOWER
from bfr.quality.niqe import niqe
from bfr.quality.perceptual import load_distance
from bfr.quality.pyiqa_scores import Score
from bfr.quality.tables import compare
from bfr.quality.texture import sharpness
from tests.small_faces import faces

DETECTOR = Detector(torch.nn.Identity())


KEYS = ["psnr", "ssim", "distance", "likeness", "landmarks", "niqe", "sharpness"]


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Stands in for finding landmarks, and keeps the batches that were searched."""
    seen: list[Tensor] = []

    def find_landmarks(images: Tensor, detector: Detector) -> Tensor:
        seen.append(images)
        found = torch.zeros(len(images), 5, 2, dtype=torch.float64)
        found[:, 1, 0], found[:, 2, 0] = 10, 5
        found[:, :, 1] = 10 * images.double().mean((1, 2, 3))[:, None]
        found[images.flatten(1).std(1) < 0.01] = math.nan
        return found

    monkeypatch.setattr(face_batch, "find_landmarks", find_landmarks)
    return seen


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for NIQE, which takes its time."""
    monkeypatch.setattr(metrics, "niqe", lambda images: images.mean((1, 2, 3)))


@pytest.mark.usefixtures("moved")
def test_every_figure_is_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "AT_ONCE", 2)
    clean = faces(3)
    restored, given = (clean * 0.9 + 0.05), clean.roll(2, 3)
    distance = load_distance("pyramid")
    steps: list[tuple[int, int]] = []
    table = measure_faces(
        restored,
        reference=clean,
        given=given,
        detector=DETECTOR,
        distance=distance,
        on_step=lambda done, total, preview: steps.append((done, total)),
    )
    assert [column.key for column in table.columns] == KEYS
    assert table.names == ("1", "2", "3")
    assert steps == [(2, 3), (3, 3)]
    expected = {
        "psnr": psnr(restored, clean),
        "ssim": ssim(restored, clean),
        "distance": distance.measure(restored, clean),
        "likeness": consistency_psnr(restored, given, 2),
        "landmarks": 100 * (restored - clean).double().mean((1, 2, 3)).abs(),
        "niqe": niqe(restored),
        "sharpness": sharpness(restored),
    }
    for column in table.columns:
        values = torch.tensor(table.values[column.key], dtype=torch.float64)
        torch.testing.assert_close(values, expected[column.key].double(), equal_nan=True)
        assert column.better == (
            LOWER if column.key in ("distance", "landmarks", "niqe") else HIGHER
        )
    assert table.of_face(2)["psnr"] == table.values["psnr"][2]


@pytest.mark.usefixtures("quick")
def test_there_are_only_figures_of_what_is_given(moved: list[Tensor]):
    clean, distance = faces(), load_distance("pyramid")

    def keys(**given) -> list[str]:
        return [column.key for column in measure_faces(clean, **given).columns]

    assert keys() == keys(distance=distance) == keys(detector=DETECTOR) == KEYS[-2:]
    assert keys(reference=clean) == ["psnr", "ssim", "niqe", "sharpness"]
    assert keys(given=clean) == ["likeness", "niqe", "sharpness"]
    assert keys(given=clean, detector=DETECTOR) == KEYS[3:]
    table = measure_faces(clean, given=clean, detector=DETECTOR)
    assert "the input's" in table.columns[1].title
    other = 1 - clean
    table = measure_faces(clean, given=clean, reference=other, detector=DETECTOR)
    assert torch.equal(moved[-1], other), "the reference counts, if there is one"
    assert "the reference's" in table.columns[-3].title


@pytest.mark.usefixtures("quick")
def test_a_reference_is_searched_once_for_all_that_is_compared(moved: list[Tensor]):
    clean = faces()
    ways = {"a": clean * 0.9, "b": clean * 0.8, "c": clean * 0.7}
    measured = measure_sets(ways, reference=clean, tools=Tools(DETECTOR))
    assert sum(torch.equal(images, clean) for images in moved) == 1 and len(moved) == 4
    assert measured["b"] == measure_faces(ways["b"], reference=clean, detector=DETECTOR)


@pytest.mark.usefixtures("quick")
def test_scores_of_pyiqa_join_the_table(monkeypatch: pytest.MonkeyPatch):
    clean, restored = faces(11), faces(11) * 0.5
    sizes: list[int] = []

    def load_score(name: str, device: object) -> Score:
        def run(images: Tensor, reference: Tensor | None) -> Tensor:
            sizes.append(len(images))
            return images.mean((1, 2, 3)) if name == "psnr" else images.mean()[None]

        return Score(name, name == "fid", name == "fid", name == "fid", run)

    monkeypatch.setattr(measure, "load_score", load_score)
    extra = ["psnr", "fid", "psnr"]
    table = measure_faces(restored, reference=clean, extra=extra)
    assert [column.key for column in table.columns][-2:] == ["pyiqa_psnr", "pyiqa_fid"]
    assert sizes == [8, 3, 11], "once of each face, and once of all together"
    assert len(table.values["pyiqa_psnr"]) == 11 and len(table.values["pyiqa_fid"]) == 1
    fid = table.columns[-1]
    assert table.mean(fid) == pytest.approx(float(restored.mean())) and fid.better == LOWER
    assert "pyiqa_fid" not in table.of_face(0)
    both = compare({"a": table, "b": measure_faces(clean, reference=clean, extra=extra)})
    assert render.rows(both, str)[-1][-1] == "", "a score of all faces says nothing of each"
    assert "fid" not in render.as_csv(both) and '"pyiqa_fid": 0.' in render.as_json(both)
    with pytest.raises(InputError, match="fid"):
        measure_faces(restored, extra=["fid"])


def test_what_cannot_be_measured_is_refused():
    clean = faces()
    cases: list[tuple[Tensor, Any, str]] = [
        (torch.zeros(0, 3, 64, 64), {}, "square, aligned faces"),
        (clean[..., :32], {}, "Align"),
        (clean, {"reference": clean[:2]}, "expected 3 of 64.*got 2 of 64"),
        (clean, {"given": F.interpolate(clean, (32, 32))}, "expected 3 of 64.*got 3 of 32"),
        (clean + 0.5, {}, r"in \[0, 1\]"),
        (clean, {"reference": clean * math.nan}, "finite"),
        (clean, {"names": ["a"]}, "names"),
    ]
    for restored, given, message in cases:
        with pytest.raises(InputError, match=message):
            measure_faces(restored, **given)


@pytest.mark.usefixtures("quick")
def test_faces_are_measured_as_they_are_in_any_mode():
    clean = faces()
    before = clean.clone()
    expected = measure_faces(clean, reference=1 - clean)
    with torch.inference_mode():
        assert measure_faces(clean, reference=1 - clean) == expected
    assert torch.equal(clean, before)
    singles = [measure_faces(face[None], reference=1 - face[None]) for face in clean]
    for key, values in expected.values.items():
        together = [single.values[key][0] for single in singles]
        assert together == pytest.approx(list(values), rel=1e-9, nan_ok=True)


class Mean(torch.nn.Module):
    """Stands in for the recognition network: a face's mean colours are its person."""

    def forward(self, chips: Tensor) -> Tensor:
        return chips.mean((2, 3))


@pytest.mark.usefixtures("quick", "moved")
def test_identity_is_absent_where_no_face_can_be_read():
    template = tuple((x, y) for x, y in face_template(64).tolist())
    identity = Identity(Mean(), "means", 64, template, LIMIT / 0.2)
    clean = faces()
    restored = torch.cat([clean[:1], clean[1:2] * 0.5, torch.full_like(clean[:1], 0.5)])
    tools = Tools(DETECTOR, identity=identity)
    tables = measure_sets({"a": restored, "b": clean}, given=clean, tools=tools, shown=["identity"])
    own, other, absent = tables["a"].values["identity"]
    assert own == pytest.approx(0, abs=1e-6) and other > LIMIT and math.isnan(absent)
    both = compare(tables)
    (passed,), (gap,) = both.passes(), both.gaps()
    assert "1 of 2 faces (a)" in passed and "2 of 2 faces (b)" in passed and "0.6" in passed
    assert "1 of 3 faces" in gap and passed in render.as_text(both)
