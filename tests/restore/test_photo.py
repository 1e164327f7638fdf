"""The whole chain, with stand-ins for the two networks."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from bfr.errors import CancelledError, InputError, OutOfMemoryError
from bfr.faces import person
from bfr.records import Face, FaceSet
from bfr.restore import photo, stages
from bfr.restore.enlarge import resample
from bfr.restore.keep_person import KeptPeople
from bfr.restore.photo import restore_photo
from bfr.restore.restorer import Restorer
from bfr.restore.settings import RestoreSettings

FACE = Face(
    box=(30.0, 25.0, 80.0, 90.0),
    score=0.9,
    landmarks=((43.0, 50.0), (67.0, 51.0), (55.0, 64.0), (45.0, 76.0), (65.0, 76.5)),
)
SMALL = Face(
    box=(120.0, 20.0, 145.0, 50.0),
    score=0.8,
    landmarks=((127.0, 32.0), (138.0, 32.0), (132.0, 38.0), (128.0, 43.0), (137.0, 43.0)),
)
NETWORK = cast(Any, Restorer(nn.Identity(), size=64))


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 120, 160, generator=generator)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Faces that are found and a restorer that makes negatives; records how both were called."""
    calls: dict[str, Any] = {"faces": ((FACE, SMALL), ())}

    def detect_faces(images: Tensor, detector: nn.Module, **options: Any) -> FaceSet:
        calls["detect"] = options
        options["on_step"](len(images), len(images), None)
        return FaceSet(calls["faces"], (images.shape[2], images.shape[3]))

    def restore_faces(crops: Tensor, restorer: nn.Module, **options: Any) -> Tensor:
        calls["restore"], calls["crops"] = options, crops
        for i in range(len(crops)):
            options["on_step"](i + 1, len(crops), None)
        return calls.get("restored", lambda crops: 1 - crops)(crops)

    def set_aside(images: Tensor, faces: FaceSet, detector: nn.Module) -> tuple[FaceSet, FaceSet]:
        first = FaceSet(tuple(found[:1] for found in faces.faces), faces.image_size)
        others = FaceSet(tuple(found[1:] for found in faces.faces), faces.image_size)
        return first, others

    monkeypatch.setattr(photo, "set_aside", set_aside)
    monkeypatch.setattr(photo, "detect_faces", detect_faces)
    monkeypatch.setattr(stages, "restore_faces", restore_faces)
    return calls


def test_restores_faces_and_nothing_else(images: Tensor, chain: dict[str, Any]):
    before = images.clone()
    result = restore_photo(images, NETWORK, NETWORK)
    assert torch.equal(images, before), "the input was written to"
    assert result.images.shape == images.shape
    assert result.masks.shape == (2, 1, 120, 160)
    assert result.crops.shape == (2, 3, 64, 64)
    assert result.faces.faces == ((FACE, SMALL), ())
    outside = result.masks.expand_as(images) == 0
    assert torch.equal(result.images[outside], images[outside])
    for face in (FACE, SMALL):
        x, y = (round(value) for value in face.landmarks[2])
        assert result.masks[0, 0, y, x] > 0.5
        assert not torch.equal(result.images[0, :, y, x], images[0, :, y, x])


def test_an_image_without_faces_comes_back_as_it_is(images: Tensor, chain: dict[str, Any]):
    result = restore_photo(images, NETWORK, NETWORK)
    assert torch.equal(result.images[1], images[1])
    assert not result.masks[1].any()
    chain["faces"] = ((), ())
    result = restore_photo(images, NETWORK, NETWORK)
    assert torch.equal(result.images, images)
    assert result.crops.shape == (0, 3, 64, 64)


def test_a_batch_equals_its_images_one_by_one(images: Tensor, chain: dict[str, Any]):
    images = torch.cat([images[:1], images[:1].flip(2)])
    chain["faces"] = ((FACE,), (FACE, SMALL))
    both = restore_photo(images, NETWORK, NETWORK).images
    for i in range(2):
        chain["faces"] = (((FACE,), (FACE, SMALL))[i],)
        alone = restore_photo(images[i : i + 1], NETWORK, NETWORK).images
        torch.testing.assert_close(both[i : i + 1], alone, rtol=0, atol=1e-6)


def test_a_grey_photograph_stays_grey(images: Tensor, chain: dict[str, Any]):
    tint = torch.tensor([1.0, 0.6, 0.4])[:, None, None]
    chain["restored"] = lambda crops: crops * tint
    chain["faces"] = ((FACE,), (FACE,))
    grey = images[:1].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    mixed = torch.cat([grey, images[1:]])
    settings = RestoreSettings(colour="none")
    result = restore_photo(mixed, NETWORK, NETWORK, settings).images
    assert torch.equal(result[0, 0], result[0, 1]) and torch.equal(result[0, 0], result[0, 2])
    assert not torch.equal(result[0], grey[0])
    assert (result[1, 0] - result[1, 2]).abs().max() > 0.1
    again = restore_photo(mixed.clone(), NETWORK, NETWORK, settings, in_place=True).images
    assert torch.equal(again, result), "restored in place"


def test_settings_reach_the_stages(images: Tensor, chain: dict[str, Any]):
    settings = RestoreSettings(
        score=0.7, min_size=20, crop_size=96, fidelity=0.2, strength=0.4, lock=0.3, batch_size=3
    )
    result = restore_photo(images, NETWORK, NETWORK, settings)
    assert result.crops.shape[-2:] == (96, 96)
    detect, restore = chain["detect"], chain["restore"]
    assert (detect["score"], detect["min_size"]) == (0.7, 20)
    assert [restore[name] for name in ("fidelity", "lock", "batch_size")] == [0.2, 0.3, 3]
    assert result.masks.max() == pytest.approx(0.4), "strength blends in the photograph"


def test_a_restorer_of_any_size_gets_512(images: Tensor, chain: dict[str, Any]):
    anything = Restorer(nn.Identity())
    assert restore_photo(images, NETWORK, anything).crops.shape[-2:] == (512, 512)


def test_progress_rises_to_its_end(images: Tensor, chain: dict[str, Any]):
    steps: list[tuple[int, int]] = []
    restore_photo(images, NETWORK, NETWORK, on_step=lambda *step: steps.append(step[:2]))
    done = [step for step, _ in steps]
    assert done == sorted(done)
    assert steps[-1] == (20, 20) and {total for _, total in steps} == {20}
    assert done.count(20) == 1, "done is told once"


def test_raising_from_progress_cancels(images: Tensor, chain: dict[str, Any]):
    def cancel(done: int, total: int, preview: Tensor | None) -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        restore_photo(images, NETWORK, NETWORK, on_step=cancel)
    assert "crops" not in chain


def test_a_parsing_mask_needs_a_parser(images: Tensor, chain: dict[str, Any]):
    with pytest.raises(InputError, match="parser"):
        restore_photo(images, NETWORK, NETWORK, RestoreSettings(mask="parsing"))
    assert "detect" not in chain, "told before the work"


@pytest.mark.parametrize(("enlarge", "factor"), [(1, 1), (2, 2), (4, 4), ("auto", 2)])
def test_the_photograph_is_enlarged_and_only_the_faces_restored(
    images: Tensor, chain: dict[str, Any], enlarge: int | str, factor: int
):
    result = restore_photo(images, NETWORK, NETWORK, RestoreSettings(enlarge=enlarge))
    assert result.factor == factor
    assert result.images.shape == (2, 3, 120 * factor, 160 * factor)
    assert result.masks.shape == (2, 1, 120 * factor, 160 * factor)
    outside = result.masks.expand_as(result.images) == 0
    large = resample(images, factor) if factor > 1 else images
    assert torch.equal(result.images[outside], large[outside])
    x, y = (round(factor * value) for value in FACE.landmarks[2])
    assert result.masks[0, 0, y, x] > 0.5
    assert result.faces.faces[0][0] == FACE, "in pixels of the photograph as it came"


def test_what_would_not_fit_is_refused_before_restoring(
    images: Tensor, chain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bfr.restore.enlarge.free_bytes", lambda device: 1000)
    with pytest.raises(OutOfMemoryError):
        restore_photo(images, NETWORK, NETWORK, RestoreSettings(enlarge=2))
    assert "crops" not in chain


def test_an_unknown_factor_is_refused(images: Tensor, chain: dict[str, Any]):
    for wrong in (3, "2x", 0):
        with pytest.raises(InputError, match=str(wrong)):
            restore_photo(images, NETWORK, NETWORK, RestoreSettings(enlarge=wrong))
    assert "detect" not in chain, "told before the work"


def test_doubtful_faces_are_left_alone_unless_they_are_asked_for(
    images: Tensor, chain: dict[str, Any]
):
    sure = restore_photo(images, NETWORK, NETWORK, RestoreSettings(doubtful=False))
    assert sure.faces.faces == ((FACE,), ()) and sure.left.faces == ((SMALL,), ())
    x, y = (round(value) for value in SMALL.landmarks[2])
    assert torch.equal(sure.images[0, :, y, x], images[0, :, y, x])
    everything = restore_photo(images, NETWORK, NETWORK)
    assert everything.faces.faces[0] == (FACE, SMALL) and not everything.left.count


def test_faces_are_chosen_by_number_or_paint(images: Tensor, chain: dict[str, Any]):
    second = RestoreSettings(numbers=(2,), doubtful=False)
    chosen = restore_photo(images, NETWORK, NETWORK, second)
    assert chosen.faces.faces == ((SMALL,), ()), "doubtful or not"
    in_rows = RestoreSettings(numbers=(2,), numbering="rows")
    assert restore_photo(images, NETWORK, NETWORK, in_rows).faces.faces == ((SMALL,), ())
    mask = torch.zeros(1, 1, 120, 160)
    assert restore_photo(images, NETWORK, NETWORK, wanted=mask).faces.count == 2, "unpainted"
    mask[..., 20:50, 120:145] = 1
    painted = restore_photo(images, NETWORK, NETWORK, wanted=mask)
    assert painted.faces.faces == ((SMALL,), ())
    with pytest.raises(InputError, match="7"):
        restore_photo(images, NETWORK, NETWORK, RestoreSettings(numbers=(7,)))


def test_one_person_alone_is_restored(
    images: Tensor, chain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(person, "distances_to", lambda *_: [[0.7, 0.3], []])
    who, identity = person.Person(torch.zeros(1, 128)), cast(Any, "a network")
    monkeypatch.setattr(
        stages, "keep_person", lambda crops, made, *_: KeptPeople(made, (1.0,), (0,))
    )
    one = restore_photo(images, NETWORK, NETWORK, identity=identity, person=who)
    assert one.faces.faces == ((SMALL,), ()) and len(one.crops) == 1
    assert one.resemblance == person.Resemblance(((0.3,), ()), ((0.7,), ()))
    x, y = (round(value) for value in FACE.landmarks[2])
    assert torch.equal(one.images[0, :, y, x], images[0, :, y, x])
    assert restore_photo(images, NETWORK, NETWORK).resemblance is None
    with pytest.raises(InputError, match="recognition network"):
        restore_photo(images, NETWORK, NETWORK, person=who)


def test_the_background_is_cleaned_under_the_faces(images: Tensor, chain: dict[str, Any]):
    """Where no face is pasted stands what the network makes of the photograph; faces are found
    and cut as it came."""

    class Darker:
        scale, input_channels, output_channels = 1, 3, 3
        device, dtype = torch.device("cpu"), torch.float32

        def __call__(self, image: Tensor, /) -> Tensor:
            return image / 2

    before = images.clone()
    plain = restore_photo(images, NETWORK, NETWORK, cleaner=Darker())
    cuts = chain["crops"].clone()
    result = restore_photo(
        images, NETWORK, NETWORK, RestoreSettings(background=0.5), cleaner=Darker()
    )
    assert torch.equal(images, before) and torch.equal(chain["crops"], cuts)
    outside = result.masks.expand_as(images) == 0
    torch.testing.assert_close(result.images[outside], 0.75 * images[outside])
    assert torch.equal(plain.images[outside], images[outside])


@pytest.mark.parametrize("background", [-0.1, 1.1, float("nan")])
def test_a_background_out_of_its_range_is_refused(images: Tensor, background: float):
    with pytest.raises(InputError, match="background"):
        restore_photo(images, NETWORK, NETWORK, RestoreSettings(background=background))
