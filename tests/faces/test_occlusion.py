"""What lies in front of a face: found, kept to the bit, and told; XSeg files and bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bfr.errors import (
    CorruptWeightsError,
    InputError,
    MissingWeightsError,
    WrongArchitectureError,
)
from bfr.faces.align import align_faces
from bfr.faces.occlusion import (
    LEAST_SHARE,
    Occlusion,
    covered_shares,
    find_in_front,
    load_occlusion,
)
from bfr.faces.paste import paste_faces
from bfr.faces.retinaface import EMBEDDED_DETECTOR
from bfr.image.resize import resize_square
from bfr.records import Alignment
from tests.onnx_files import mask_file, restorer_file
from tests.portraits import astronaut, only

SIZE = 256
BAR = (..., slice(150, 182), slice(20, 236))
"""A broad bar across the mouth of a crop."""


@pytest.fixture(scope="module")
def occlusion() -> Occlusion:
    return load_occlusion()


@pytest.fixture(scope="module")
def face() -> tuple[Tensor, Tensor, Alignment]:
    """A photograph, its aligned face, and where that belongs."""
    image, found = astronaut()
    return image, *align_faces(image, only(found, image), SIZE)


def barred(crop: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """A crop with a bar of one colour across the mouth."""
    covered = crop.clone()
    covered[BAR] = torch.tensor(colour)[:, None, None]
    return covered


class Half(nn.Module):
    """A network that sees something in front of the left half."""

    def forward(self, faces: Tensor) -> Tensor:
        found = torch.zeros_like(faces[:, :1])
        found[..., : faces.shape[-1] // 2] = 0.9
        return found


class Bare(nn.Module):
    """A network that is sure of nothing."""

    def forward(self, faces: Tensor) -> Tensor:
        return torch.full_like(faces[:, :1], 0.3)


@pytest.mark.parametrize("colour", [(0.1, 0.5, 0.2), (0.9, 0.9, 0.9), (0.75, 0.55, 0.45)])
def test_a_bar_in_front_of_a_face_is_found(occlusion: Occlusion, face, colour):
    """Green, white, and in the colour of skin."""
    crop = face[1]
    found = find_in_front(barred(crop, colour), occlusion) > 0.5
    there = torch.zeros_like(found)
    there[BAR] = True
    assert (found & there).sum() / (found | there).sum() > 0.7


def test_a_bare_face_has_nothing_in_front(occlusion: Occlusion, face):
    crop = face[1]
    (bare,) = covered_shares(find_in_front(crop, occlusion))
    (covered,) = covered_shares(find_in_front(barred(crop, (0.1, 0.5, 0.2)), occlusion))
    assert bare < LEAST_SHARE < 0.05 < covered


@pytest.mark.parametrize("size", [96, 512])
def test_masks_have_the_size_of_the_crops(occlusion: Occlusion, face, size: int):
    covered = resize_square(barred(face[1], (0.1, 0.5, 0.2)), size).clamp(0, 1)
    found = find_in_front(covered, occlusion)
    assert found.shape == (1, 1, size, size) and found.dtype == torch.float32
    assert found.min() == 0 and found.max() == 1, "sure to the last bit"


def test_a_mirrored_face_gives_the_mirrored_mask(occlusion: Occlusion, face):
    crop = barred(face[1], (0.2, 0.3, 0.9))
    crop[..., :, 140:] = face[1][..., :, 140:]
    mirrored = find_in_front(crop.flip(-1), occlusion).flip(-1)
    torch.testing.assert_close(mirrored, find_in_front(crop, occlusion), rtol=0, atol=1e-4)


def test_a_batch_equals_its_singles(occlusion: Occlusion, face):
    crops = torch.cat([face[1], barred(face[1], (0.9, 0.9, 0.9)), face[1].flip(-1)])
    together = find_in_front(crops, occlusion)
    singles = torch.cat([find_in_front(crop[None], occlusion) for crop in crops])
    torch.testing.assert_close(together, singles, atol=1e-4, rtol=0)
    assert find_in_front(crops[:0], occlusion).shape == (0, 1, SIZE, SIZE)


def test_nothing_found_changes_nothing(face):
    image, crop, alignment = face
    plain = paste_faces(image, 1 - crop, alignment)
    kept = paste_faces(image, 1 - crop, alignment, in_front=Occlusion(Bare(), size=64))
    assert torch.equal(plain[0], kept[0]) and torch.equal(plain[1], kept[1])
    assert not torch.equal(plain[0], image)


@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_in_front_stays_to_the_bit(face, scale: int):
    """In the photograph and in an enlarged one; the other half of the face is pasted as before."""
    image, crop, alignment = face
    image = torch.nn.functional.interpolate(image, scale_factor=scale)
    occlusion = Occlusion(Half(), size=64)
    plain, masks = paste_faces(image, 1 - crop, alignment, colour="none")
    kept, shown = paste_faces(image, 1 - crop, alignment, colour="none", in_front=occlusion)
    hidden = (masks > 0) & (shown == 0)
    assert hidden.sum() > 0.3 * (masks > 0).sum() and (shown > 0.9).any()
    assert torch.equal(kept[hidden.expand_as(kept)], image[hidden.expand_as(kept)])
    assert not torch.equal(plain[hidden.expand_as(kept)], image[hidden.expand_as(kept)])


def test_a_face_behind_something_whole_is_left_alone(face):
    image, crop, alignment = face
    in_front = torch.ones(1, 1, SIZE, SIZE)
    pasted, masks = paste_faces(image, 1 - crop, alignment, in_front=in_front, grain=1.0)
    assert torch.equal(pasted, image) and masks.max() == 0
    assert covered_shares(in_front) == (pytest.approx(1),)


def test_masks_that_do_not_fit_are_refused(face):
    image, crop, alignment = face
    with pytest.raises(InputError, match="in_front"):
        paste_faces(image, crop, alignment, in_front=torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="square"):
        find_in_front(torch.rand(1, 3, 8, 9), Occlusion(Half(), size=64))
    with pytest.raises(InputError, match="Bare"):
        find_in_front(crop, Bare())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("batch", ["faces", 1])
def test_xseg_files_see_blue_first_and_mark_the_face(tmp_path: Path, batch: int | str):
    """This one takes for face what is bright in its first channel."""
    occlusion = load_occlusion(mask_file(tmp_path / "xseg_1.onnx", batch=batch))
    blue, red = torch.zeros(2, 1, 3, 300, 300)
    blue[:, 2], red[:, 0] = 1, 1
    found = find_in_front(torch.cat([blue, red, blue]), occlusion)
    assert found.shape == (3, 1, 300, 300) and occlusion.name == "xseg_1"
    assert found.mean((1, 2, 3)).tolist() == [0, 1, 0]


def test_other_files_are_refused_by_name(tmp_path: Path):
    with pytest.raises(MissingWeightsError, match=r"none\.onnx"):
        load_occlusion(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07 not a network")
    with pytest.raises(CorruptWeightsError, match=r"broken\.onnx"):
        load_occlusion(tmp_path / "broken.onnx")
    with pytest.raises(WrongArchitectureError, match=r"gpen\.onnx"):
        load_occlusion(restorer_file(tmp_path / "gpen.onnx"))
    with pytest.raises(WrongArchitectureError, match="detector"):
        load_occlusion(EMBEDDED_DETECTOR)
    save_file({"weight": torch.full((2,), torch.nan)}, tmp_path / "nan.safetensors")
    with pytest.raises(CorruptWeightsError, match=r"nan\.safetensors"):
        load_occlusion(tmp_path / "nan.safetensors")
