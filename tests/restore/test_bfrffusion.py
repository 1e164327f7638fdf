"""BFRffusion: against the published code's figures, and as a network that users run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.parity import check_folder
from benchmarks.published import GOLDEN
from benchmarks.published.rule_weights import rule_state
from bfr.errors import CancelledError, InputError, WrongArchitectureError
from bfr.restore.bfrffusion import BFRffusion, make_scheduler
from bfr.restore.bfrffusion_checkpoint import build_bfrffusion, is_bfrffusion
from bfr.restore.load import load_restorer
from bfr.restore.restorer import Restorer, restore_faces

FIGURES = GOLDEN / "bfrffusion_narrow.safetensors"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    with safe_open(FIGURES, "pt") as file:
        return rule_state(json.loads(file.metadata()["state_dict_shapes"]))


@pytest.fixture(scope="module")
def network(state: dict[str, Tensor]) -> BFRffusion:
    return build_bfrffusion(state, FIGURES)


@pytest.fixture
def faces() -> Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def face(faces: Tensor) -> Tensor:
    """As small as can be."""
    return faces[:1, :, :, :64]


@pytest.mark.parity
def test_the_published_figures_pass(tmp_path: Path, capsys):
    shutil.copy(FIGURES, tmp_path)
    assert check_folder(tmp_path)
    assert capsys.readouterr().out.count(" ok") == 16


def test_figures_of_other_weights_do_not_pass(tmp_path: Path):
    with safe_open(FIGURES, "pt") as file:
        some = {name: file.get_tensor(name) for name in ("t", "context")}
        save_file(some, tmp_path / FIGURES.name, file.metadata())
    assert not check_folder(tmp_path, seed=1)


def test_the_full_size_checkpoint_fits():
    formats = json.loads((GOLDEN / "bfrffusion_checkpoint.json").read_text("utf-8"))
    (entry,) = formats.values()
    state = {
        name: torch.empty(shape, device="meta") for name, (shape, _) in entry["tensors"].items()
    }
    assert is_bfrffusion(state)
    network = build_bfrffusion(state, Path("full.ckpt"))
    used = entry["parts"]["model.diffusion_model."]["parameters"]
    assert sum(parameter.numel() for parameter in network.unet.parameters()) == used


def test_a_batch_equals_its_singles(network: BFRffusion, faces: Tensor):
    before = faces.clone()
    together = network(faces, steps=2)
    assert together.shape == faces.shape and torch.equal(faces, before)
    singles = torch.cat([network(face[None], steps=2) for face in faces])
    assert torch.allclose(together, singles, atol=1e-4)
    assert not torch.allclose(*together, atol=1e-3), "the result depends on the face"


def test_every_step_is_reported_and_the_total_is_the_steps(network: BFRffusion, face: Tensor):
    seen: list[tuple[int, int]] = []
    network(face, steps=2, on_step=lambda done, total, preview: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_cancelling_stops_at_the_step(network: BFRffusion, face: Tensor):
    seen: list[int] = []

    def stop(done: int, total: int, preview: Tensor | None) -> None:
        seen.append(done)
        raise CancelledError

    with pytest.raises(CancelledError):
        network(face, steps=4, on_step=stop)
    assert seen == [1]


def test_no_residual_stays_in_the_network(network: BFRffusion, face: Tensor):
    x, t = torch.zeros(1, 4, 8, 8), torch.tensor([400])
    context = network.prompt(t)
    before = network.denoise(x, t, context)
    network.predict(x, face, t)
    assert torch.equal(network.denoise(x, t, context), before)


@pytest.mark.parametrize("steps", [0, -1, 3, 30, 501, 1000])
def test_steps_that_the_published_sampler_cannot_take_are_refused(steps: int):
    with pytest.raises(InputError, match=str(steps)):
        make_scheduler(steps)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50, 100, 250, 500])
def test_timesteps_end_at_1_and_are_as_many_as_asked(steps: int):
    timesteps = make_scheduler(steps).timesteps.tolist()
    assert len(timesteps) == steps
    assert timesteps[-1] == 1


def test_a_size_that_is_no_multiple_of_64_is_refused(network: BFRffusion):
    with pytest.raises(InputError, match="96×64"):
        network(torch.rand(1, 3, 64, 96))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("control_model", lambda s: s.pop("control_model.encoder2.attn.temperature")),
        ("cond_stage_model", lambda s: s.update({"cond_stage_model.extra": torch.zeros(1)})),
        (
            "model.diffusion_model",
            lambda s: s.update(
                {"model.diffusion_model.middle_block.0.in_layers.2.bias": torch.zeros(3)}
            ),
        ),
        ("first_stage_model", lambda s: s.pop("first_stage_model.decoder.conv_in.weight")),
        ("first_stage_model", lambda s: s.pop("first_stage_model.encoder.conv_in.weight")),
    ],
)
def test_a_part_that_does_not_fit_is_named(
    part: str, change: Callable[[dict[str, Tensor]], object], state: dict[str, Tensor]
):
    changed = dict(state)
    change(changed)
    with pytest.raises(WrongArchitectureError, match=f"{part}.*file.ckpt"):
        build_bfrffusion(changed, Path("file.ckpt"))


def test_half_precision_weights_become_float32(state: dict[str, Tensor]):
    halved = {name: tensor.half() for name, tensor in state.items()}
    network = build_bfrffusion(halved, FIGURES)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "checkpoint_BFRffusion.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def restorer(checkpoint: Path) -> Restorer:
    return load_restorer(checkpoint)


def test_a_checkpoint_is_a_restorer_like_any_other(restorer: Restorer, network: BFRffusion):
    assert (restorer.architecture, restorer.size) == ("BFRffusion", 512)
    assert not restorer.trainable and not restorer.uses_fidelity
    small = replace(restorer, size=64, watched=lambda n, f, w, s: n(f, steps=2, on_step=s))
    crops = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    seen: list[tuple[int, int]] = []
    restored = restore_faces(crops, small, on_step=lambda d, t, p: seen.append((d, t)))
    assert torch.allclose(restored, network(crops, steps=2).clamp(0, 1), atol=1e-5)
    assert seen == [(50, 100), (100, 100), (100, 100)]


def test_cancelling_a_restorer_stops_within_a_face(restorer: Restorer):
    small = replace(restorer, size=64)
    seen: list[int] = []

    def stop(done: int, total: int, preview: Tensor | None) -> None:
        seen.append(done)
        raise CancelledError

    with pytest.raises(CancelledError):
        restore_faces(torch.rand(1, 3, 64, 64), small, on_step=stop)
    assert seen == [2]


def test_the_number_of_steps_is_chosen_when_it_is_loaded(checkpoint: Path, restorer: Restorer):
    totals: list[int] = []

    def stop(done: int, total: int, preview: Tensor | None) -> None:
        totals.append(total)
        raise CancelledError

    for loaded in (restorer, load_restorer(checkpoint, steps=5)):
        with pytest.raises(CancelledError):
            loaded(torch.rand(1, 3, 64, 64), on_step=stop)
    assert totals == [50, 5]
    with pytest.raises(InputError, match="7"):
        load_restorer(checkpoint, steps=7)
