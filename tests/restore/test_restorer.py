"""Restoring batches of faces: sizes, settings, precision, memory, progress."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from benchmarks.published.rule_weights import fill_by_rule
from bfr.errors import (
    CancelledError,
    InputError,
    WeightsError,
    WrongArchitectureError,
)
from bfr.image.lowpass import lowpass
from bfr.restore.restorer import restore_faces
from tests.restorers import Network, crops, darker, describe, nafnet


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces go through the network as many at once as on an accelerator."""
    monkeypatch.setattr("bfr.restore.restorer.at_once", lambda batch_size, device: batch_size)


def test_result_is_the_networks():
    faces = crops(3, 32)
    restored = restore_faces(faces, describe(Network(darker)))
    assert torch.allclose(restored, darker(faces), atol=1e-6)


def test_another_size_is_resized_there_and_back():
    faces, restorer = crops(2, 128), describe(nafnet(), "NAFNet")
    assert restorer.size == 256

    def resize(x: Tensor, size: int) -> Tensor:
        return F.interpolate(x, (size, size), mode="bicubic", antialias=True)

    for given in (faces, resize(faces, 512).clamp(0, 1)):
        size = given.shape[-1]
        with torch.no_grad():
            expected = resize(restorer.network(resize(given, 256)), size).clamp(0, 1)
        restored = restore_faces(given, replace(restorer, precision="float32"))
        assert restored.shape == given.shape
        assert torch.allclose(restored, expected, atol=1e-6)


def test_strength_blends_from_the_crop():
    faces, restorer = crops(2, 32), describe(Network(darker))
    full = restore_faces(faces, restorer)
    assert torch.equal(restore_faces(faces, restorer, strength=0.0), faces)
    half = restore_faces(faces, restorer, strength=0.5)
    assert torch.allclose(half, (faces + full) / 2, atol=1e-6)


def test_lock_keeps_the_crops_low_frequencies():
    faces = 0.25 + crops(2, 64) / 2
    restorer = describe(Network(lambda x: 0.5 * x.flip(3) + 0.2))
    free = restore_faces(faces, restorer)
    locked = restore_faces(faces, restorer, lock=1.0, lock_factor=8)
    expected = free + lowpass(faces, 8) - lowpass(free, 8)
    assert 0 < expected.min() < expected.max() < 1, "nothing is clamped here"
    assert torch.allclose(locked, expected, atol=1e-6)
    half = restore_faces(faces, restorer, lock=0.5, lock_factor=8)
    assert torch.allclose(half, (free + locked) / 2, atol=1e-6)
    blended = restore_faces(faces, restorer, lock=1.0, lock_factor=8, strength=0.3)
    assert torch.allclose(blended, faces + 0.3 * (locked - faces), atol=1e-6)


def test_result_is_clamped_once_at_the_end():
    faces = torch.full((1, 3, 16, 16), 0.5)
    bright = describe(Network(lambda x: x + 1), "NAFNet", size=16)
    assert restore_faces(faces, bright).max() == 1
    assert torch.allclose(restore_faces(faces, bright, strength=0.25), faces + 0.25)


@pytest.mark.usefixtures("accelerated")
def test_a_batch_is_its_singles():
    faces, restorer = crops(5, 64), describe(nafnet(), "NAFNet", size=64)
    restorer = replace(restorer, precision="float32")
    together = restore_faces(faces, restorer, batch_size=5)
    singles = torch.cat([restore_faces(face[None], restorer) for face in faces])
    assert torch.allclose(together, singles, atol=1e-6)
    assert torch.allclose(restore_faces(faces, restorer, batch_size=2), together, atol=1e-6)


def test_a_processor_takes_faces_one_by_one():
    network = Network(darker)
    restore_faces(crops(3, 16), describe(network), batch_size=8)
    assert network.batches == [1, 1, 1]


def test_half_precision_rounds_no_weights():
    restorer, faces = describe(nafnet(), "NAFNet", size=64), crops(2, 64)
    before = {name: tensor.clone() for name, tensor in restorer.network.state_dict().items()}
    exact = restore_faces(faces, replace(restorer, precision="float32"))
    half = restore_faces(faces, replace(restorer, precision="bfloat16"))
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().mean() < 0.05
    for name, tensor in restorer.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_what_overflows_in_half_precision_is_computed_again_in_full():
    class Overflowing(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input * 1e30) / 1e30  # beyond float16

    network = Overflowing(16, 16, bias=False)
    nn.init.eye_(network.weight)
    restorer = replace(describe(network, "NAFNet", size=16), precision="float16")
    faces = crops(1, 16)
    assert torch.allclose(restore_faces(faces, restorer), faces, atol=1e-5)


@pytest.mark.usefixtures("accelerated")
def test_progress_counts_faces():
    steps: list[tuple[int, int]] = []
    previews: list[Tensor] = []

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        steps.append((done, total))
        assert preview is not None
        previews.append(preview)

    faces = crops(5, 16)
    restored = restore_faces(faces, describe(Network(darker)), batch_size=2, on_step=on_step)
    assert steps == [(2, 5), (4, 5), (5, 5)]
    assert torch.equal(torch.cat(previews), restored)


def test_cancelling_stops_at_once():
    network = Network(darker)

    def cancel(done: int, total: int, preview: Tensor | None) -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        restore_faces(crops(4, 16), describe(network), batch_size=1, on_step=cancel)
    assert network.batches == [1]


@pytest.mark.usefixtures("accelerated")
def test_out_of_memory_halves_the_batch_and_goes_on():
    network, faces = Network(darker, limit=2), crops(11, 16)
    restored = restore_faces(faces, describe(network), batch_size=8)
    assert torch.allclose(restored, darker(faces), atol=1e-6)
    assert network.batches == [8, 4, 2, 2, 2, 2, 2, 1], "it stays small"


def test_out_of_memory_for_one_face():
    with pytest.raises(torch.OutOfMemoryError, match="single face") as caught:
        restore_faces(crops(3, 16), describe(Network(darker, limit=0)))
    assert "7 GiB" in str(caught.value)


@pytest.mark.usefixtures("accelerated")
def test_the_processors_own_words_for_out_of_memory():
    def greedy(x: Tensor) -> Tensor:
        return darker(x) + torch.empty(2**60 if len(x) > 1 else 1, dtype=torch.uint8)[0] * 0

    network = Network(greedy)
    restored = restore_faces(crops(3, 16), describe(network))
    assert restored.shape == (3, 3, 16, 16)
    assert network.batches == [3, 1, 1, 1]


@pytest.mark.usefixtures("accelerated")
def test_other_errors_are_not_taken_for_memory():
    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("boom")

    network = Network(fail)
    with pytest.raises(RuntimeError, match="boom"):
        restore_faces(crops(4, 16), describe(network))
    assert network.batches == [4]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_an_error_and_no_black_face(value: float):
    restorer = describe(Network(lambda x: x * value), "NAFNet", size=16)
    with pytest.raises(WeightsError, match="NaN"):
        restore_faces(crops(1, 16), restorer)


def test_input_is_not_written_to():
    faces = crops(2, 16)
    before = faces.clone()
    restore_faces(faces, describe(Network(lambda x: x.mul_(0.5))), lock=0.5)
    assert torch.equal(faces, before)


def test_no_faces():
    network = Network(darker)
    restored = restore_faces(torch.zeros(0, 3, 512, 512), describe(network, "NAFNet"))
    assert restored.shape == (0, 3, 512, 512)
    assert network.batches == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_network(dtype: torch.dtype):
    faces, network = crops(1, 64), nafnet()
    full = restore_faces(faces, describe(network, "NAFNet", size=64))
    restorer = describe(network, "NAFNet", size=64).to(dtype=dtype)
    half = restore_faces(faces, restorer)
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 0.1


def test_drop_path_is_off():
    network = fill_by_rule(
        SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=8, upsampler="",
               mlp_ratio=2, upscale=1, drop_path_rate=0.5)
    )  # fmt: skip
    restorer, faces = describe(network, "SwinIR"), crops(2, 16)
    restorer.network.train()
    first = restore_faces(faces, restorer)
    assert torch.equal(restore_faces(faces, restorer), first)


def test_gradients_flow_for_training():
    restorer, faces = describe(nafnet(), "NAFNet"), crops(1, 32)
    restorer(faces).sum().backward()
    assert restorer.network.intro.weight.grad is not None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fidelity": 1.1},
        {"strength": -0.1},
        {"strength": float("nan")},
        {"lock": 2.0},
        {"batch_size": 0},
        {"lock": 0.5, "lock_factor": 5},
        {"lock": 0.5, "lock_factor": 0},
    ],
)
def test_settings_out_of_range(wrong: dict):
    network = Network(darker)
    with pytest.raises(InputError):
        restore_faces(crops(1, 32), describe(network), **wrong)
    assert network.batches == []


def test_crops_that_are_none():
    restorer = describe(nafnet(), "NAFNet")
    with pytest.raises(InputError, match="square"):
        restore_faces(torch.zeros(1, 3, 32, 48), restorer)
    with pytest.raises(InputError, match="finite"):
        restore_faces(torch.full((1, 3, 32, 32), float("nan")), restorer)
    with pytest.raises(InputError, match="B×3×H×W"):
        restore_faces(torch.zeros(1, 32, 32, 3), restorer)


def test_a_network_that_changes_the_size_is_refused():
    restorer = describe(Network(lambda x: x[..., ::2, ::2]), "NAFNet", size=32)
    with pytest.raises(WrongArchitectureError, match="16, 16"):
        restore_faces(crops(1, 32), restorer)
