import pytest
import torch

from bfr.errors import InputError
from bfr.image.tensors import (
    check_images,
    from_uint8,
    luma,
    size_in_words,
    to_uint8,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("photo", "str"),
        (torch.zeros(3, 8, 8), "3×8×8"),
        (torch.zeros(1, 4, 8, 8), "1×4×8×8"),
        (torch.zeros(1, 3, 0, 8), "1×3×0×8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 8, 8), float("nan")), "NaN"),
        (torch.full((1, 3, 8, 8), float("inf")), "infinity"),
    ],
)
def test_what_is_no_batch_of_images_is_refused_by_name(images, words):
    with pytest.raises(InputError, match=f"crops .*{words}"):
        check_images(images, "crops")


def test_a_batch_may_be_empty():
    check_images(torch.zeros(0, 3, 8, 8))


def test_eight_bits_survive_the_way_to_floats_and_back():
    pixels = (noise(2, 5, 7, 3) * 255).round().byte().numpy()
    images = from_uint8(pixels)
    assert images.shape == (2, 3, 5, 7)
    assert images.max() <= 1
    assert (to_uint8(images) == pixels).all()


def test_values_are_rounded_and_clamped_into_eight_bits_without_touching_the_input():
    images = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 2.0]).expand(1, 3, 1, 4).clone()
    before = images.clone()
    assert to_uint8(images)[0, 0, :, 0].tolist() == [0, 0, 1, 255]
    assert torch.equal(images, before)


def test_luma_weighs_the_channels_as_bt601_and_leaves_grey_as_it_is():
    primaries = torch.eye(3)[:, :, None, None]
    assert luma(primaries).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    grey = noise(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert torch.allclose(luma(grey), grey[:, :1])


def test_a_size_is_said_width_first():
    assert size_in_words(480, 640) == "640×480 pixels"
