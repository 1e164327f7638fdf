"""Who is who: distances of known people, what cannot be compared, and bad files."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from bfr.errors import (
    CorruptWeightsError,
    InputError,
    MissingPackageError,
    MissingWeightsError,
    WrongArchitectureError,
)
from bfr.faces.align import align_faces
from bfr.faces.identity import (
    LIMIT,
    Identity,
    identity_distance,
    identity_loss,
    load_identity,
    readable,
)
from bfr.faces.retinaface import EMBEDDED_DETECTOR
from bfr.image.geometry import face_template
from bfr.image.resize import resize_square
from tests.onnx_files import arcface_file
from tests.portraits import astronaut, only, samples


@pytest.fixture(scope="module")
def identity() -> Identity:
    return load_identity()


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """Eileen Collins, Grace Hopper, and Eileen Collins in another photograph; 256 px."""
    image, face = astronaut()
    return torch.cat([samples(256), align_faces(image, only(face, image), 256)[0]])


def test_one_person_is_close_and_another_is_not(identity: Identity, faces: Tensor):
    same, other = identity_distance(faces[[2, 1]], faces[[0, 0]], identity).tolist()
    assert same < LIMIT < other
    assert identity_distance(faces, faces, identity).tolist() == pytest.approx([0, 0, 0], abs=1e-3)


def test_the_size_of_the_crop_hardly_counts(identity: Identity, faces: Tensor):
    for size, most in ((512, 0.05), (192, 0.1)):
        assert identity_distance(resize_square(faces, size), faces, identity).max() < most


def test_a_batch_equals_its_singles_and_the_input_stays(identity: Identity, faces: Tensor):
    before = faces.clone()
    together = identity.embed(faces)
    assert together.shape == (3, 128)
    singles = torch.cat([identity.embed(face[None]) for face in faces])
    torch.testing.assert_close(together, singles, atol=1e-4, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(identity.embed(faces), together, atol=1e-4, rtol=0)
    assert torch.equal(faces, before)
    assert identity.embed(faces[:0]).shape == (0, 128)


def test_the_loss_pulls_a_face_towards_its_person(identity: Identity, faces: Tensor):
    face = faces[1:2].clone().requires_grad_()
    loss = identity_loss(face, faces[:1], identity)
    (gradient,) = torch.autograd.grad(loss, face)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    nearer = (face - 0.01 * gradient.sign()).detach()
    assert identity_loss(nearer, faces[:1], identity) < loss
    same = identity_loss(faces[:1].clone().requires_grad_(), faces[:1], identity)
    assert same.item() == pytest.approx(0, abs=1e-4)


def test_behind_a_blur_the_loss_asks_for_no_fine_grid(identity: Identity, faces: Tensor):
    def finest(blur: float) -> float:
        face = faces[1:2].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(identity_loss(face, faces[:1], identity, blur), face)
        power = torch.fft.rfft2(gradient).abs().square()
        return float(power[..., 64:192, :].sum() / power.sum())  # periods of less than 4 pixels

    assert 0 < 100 * finest(2 / 256) < finest(0)


def test_the_blur_is_a_gaussian_of_the_picture(identity: Identity, faces: Tensor):
    deviation = 2 / 256 * faces.shape[-1]
    side = 2 * math.ceil(3 * deviation) + 1
    blurred = gaussian_blur2d(faces, (side, side), (deviation, deviation), "reflect")
    seen = identity.embed(faces, 2 / 256)
    torch.testing.assert_close(seen, identity.embed(blurred), atol=1e-4, rtol=0)
    assert (seen - identity.embed(faces)).abs().max() > 1e-3


def test_what_cannot_be_compared_is_absent_and_not_zero(identity: Identity, faces: Tensor):
    known = torch.tensor([True, False, True])
    apart = identity_distance(faces, faces, identity, readable=known)
    assert apart.isnan().tolist() == [False, True, False]


def test_small_turned_and_missing_faces_are_not_readable():
    frontal = face_template(256)
    turned = frontal.clone()
    turned[2, 0] += 0.6 * float(frontal[1, 0] - frontal[0, 0])
    sets = [frontal, frontal * 0.1, turned, torch.full_like(frontal, math.nan)]
    assert readable(torch.stack(sets)).tolist() == [True, False, False, False]
    rolled = torch.stack([-frontal[:, 1], frontal[:, 0]], -1)[None]
    assert readable(rolled).all(), "upright or not"
    assert readable(frontal[None][:0]).shape == (0,)


def test_bad_faces_are_refused(identity: Identity, faces: Tensor):
    with pytest.raises(InputError, match="3 faces and 2"):
        identity_distance(faces, faces[:2], identity)
    with pytest.raises(InputError, match="256×128"):
        identity.embed(faces[:, :, :128])
    with pytest.raises(InputError):
        identity.embed(faces * math.nan)


# Files -------------------------------------------------------------------------------------------


def test_other_networks_are_refused(tmp_path: Path):
    with pytest.raises(WrongArchitectureError):
        load_identity(EMBEDDED_DETECTOR)
    for name in ("absent.safetensors", "absent.onnx"):
        with pytest.raises(MissingWeightsError, match="absent"):
            load_identity(tmp_path / name)


@pytest.mark.parametrize("batch", ["faces", 1])
def test_an_arcface_network_compares_on_the_same_scale(
    tmp_path: Path, faces: Tensor, batch: int | str
):
    arcface = load_identity(arcface_file(tmp_path / "glintr100.onnx", batch=batch))
    chips, embeddings = torch.rand(3, 3, 112, 112), arcface.embed(faces)
    seen = 2 * chips.mean((2, 3)) - 1 + 2
    torch.testing.assert_close(arcface.network(chips), seen / seen.norm(dim=1, keepdim=True))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.full((3,), arcface.scale))
    usual = torch.tensor([[1.0, 0.0], [0.28, math.sqrt(1 - 0.28**2)]])  # the cosine of the limit
    assert (usual[1] - usual[0]).norm() * arcface.scale == pytest.approx(LIMIT)
    assert identity_distance(faces, faces, arcface).max() < 1e-3
    assert arcface.embed(faces[:0]).shape == (0, 3)
    assert arcface.name == "glintr100" and len(arcface.sha256) == 64
    assert arcface.to("cpu").device.type == "cpu"
    with pytest.raises(InputError, match="glintr100"):
        identity_loss(faces, faces, arcface)


def test_bad_onnx_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(WrongArchitectureError, match="640"):
        load_identity(arcface_file(tmp_path / "det_10g.onnx", size=640))
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(CorruptWeightsError, match=r"broken\.onnx"):
        load_identity(tmp_path / "broken.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="onnxruntime"):
        load_identity(arcface_file(tmp_path / "glintr100.onnx"))
