"""What a step's batch holds, and which pairs are held back."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from bfr.damage.learn import learn_damage
from bfr.errors import ImageError, InputError
from bfr.files.photos import Photo
from bfr.files.writing import write_photo
from bfr.finetune.batches import TrainingSet
from bfr.finetune.held_back import MOST_HELD, split
from bfr.pairs.folder import REJECTED, PairSet, read_image, read_pairs
from tests.finetune_sets import PLAIN, QUICK, SIZE, darker, faces, pairs_folder

WHOLE = replace(PLAIN, flips=False)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    return pairs_folder(tmp_path_factory.mktemp("pairs"), 10)


def test_each_pair_comes_once_before_any_comes_again(pairs: PairSet):
    data = TrainingSet(pairs, replace(WHOLE, batch=4, held_back=0.3))
    names = [name for step in range(14) for name in data.names(step)]
    count = len(data.train)
    first, second = names[:count], names[count : 2 * count]
    assert set(first) == set(second) == {pair.name for pair in data.train}
    assert first != second, "in another order"
    assert max(Counter(names).values()) - min(Counter(names).values()) <= 1


def test_a_batch_follows_from_seed_and_step(pairs: PairSet):
    data, again = TrainingSet(pairs, QUICK), TrainingSet(pairs, QUICK)
    again.micro(0, 0)
    for step in (7, 2):
        first, second = data.micro(step, 1), again.micro(step, 1)
        assert torch.equal(first.lq, second.lq) and torch.equal(first.target, second.target)
    other = TrainingSet(pairs, replace(QUICK, seed=1))
    assert not torch.equal(other.micro(7, 1).lq, data.micro(7, 1).lq)
    assert not torch.equal(data.micro(8, 1).lq, data.micro(7, 1).lq)


def test_micro_batches_make_the_batch(pairs: PairSet):
    small, large = (TrainingSet(pairs, replace(QUICK, micro_batch=n)) for n in (1, 4))
    parts = torch.cat([small.micro(3, index).lq for index in range(4)])
    assert torch.equal(parts, large.micro(3, 0).lq)


def test_images_are_those_of_the_pairs(pairs: PairSet):
    data = TrainingSet(pairs, WHOLE)
    batch, by_name = data.micro(1, 0), {pair.name: pair for pair in data.train}
    for number, name in enumerate(data.names(1)[: WHOLE.micro_batch]):
        for kind, images in (("lq", batch.lq), ("target", batch.target)):
            assert torch.equal(images[number], read_image(pairs.folder, kind, by_name[name])[0])
    assert batch.real is None


def test_clean_faces_get_the_learned_damage(pairs: PairSet, tmp_path: Path):
    clean = faces(3, seed=9)
    for number, face in enumerate(clean):
        write_photo(tmp_path / f"{number}.png", Photo(face[None]))
    large = faces(2, seed=1, size=64)
    damage = learn_damage(large, darker(large))
    settings = replace(WHOLE, batch=8, micro_batch=8, learned=0.25, identity=1.0)
    data = TrainingSet(pairs, settings, tmp_path, damage=damage)
    batch, made = data.micro(0, 0), []
    for number, (lq, target) in enumerate(zip(batch.lq, batch.target, strict=True)):
        if (clean - target).abs().amax((1, 2, 3)).min() < 1 / 255:
            made.append(number)
            assert torch.equal(batch.guess[number], target)  # pyright: ignore[reportOptionalSubscript]
            assert 0.5 < float(lq.mean() / target.mean()) < 0.9, "as dark as the others"
    assert made == [3, 7] and len(data.names(0)) == 6
    names = [name for step in range(5) for name in data.names(step)]
    assert set(names[: len(data.train)]) == {pair.name for pair in data.train}, "each comes once"
    assert torch.equal(
        batch.lq, TrainingSet(pairs, settings, tmp_path, damage=damage).micro(0, 0).lq
    )
    with pytest.raises(InputError, match="clean faces"):
        TrainingSet(pairs, settings, damage=damage)


def test_guesses_of_one_name_are_the_same(pairs: PairSet):
    data, seen = TrainingSet(pairs, replace(QUICK, identity=1.0)), {}
    for step in range(12):
        shown = data.micro(step, 0)
        assert shown.guess is not None and len(shown.names) == len(shown.guess)
        for name, guess in zip(shown.names, shown.guess, strict=True):
            assert name and torch.equal(seen.setdefault(name, guess), guess)
    assert len(seen) > len(data.train), "mirrored faces are others"


def test_a_patch_lies_in_its_guess(pairs: PairSet):
    data = TrainingSet(pairs, replace(QUICK, patch=16, batch=32, micro_batch=32, identity=1.0))
    batch, places = data.micro(0, 0), set()
    assert batch.guess is not None and batch.corners is not None
    for lq, guess, (y, x) in zip(batch.lq, batch.guess, batch.corners.tolist(), strict=True):
        places.add((y, x))  # the guesses of this set are its degraded faces
        assert torch.equal(guess[:, y : y + 16, x : x + 16], lq)
    assert len(places) > 8
    assert TrainingSet(pairs, QUICK).micro(0, 0).guess is None


def test_a_face_and_its_target_are_cut_and_mirrored_alike(pairs: PairSet):
    data = TrainingSet(pairs, replace(QUICK, patch=16, batch=64, micro_batch=64))
    batch = data.micro(0, 0)
    assert batch.lq.shape == batch.target.shape == (64, 3, 16, 16)
    assert (darker(batch.target) - batch.lq).abs().max() < 1 / 255
    mirrored, places = 0, set()
    by_name = {pair.name: pair for pair in data.train}
    for number, name in enumerate(data.names(0)):
        whole = read_image(pairs.folder, "lq", by_name[name])[0]
        windows = {(y, x): whole[:, y : y + 16, x : x + 16] for y in range(17) for x in range(17)}
        straight = [at for at, window in windows.items() if torch.equal(window, batch.lq[number])]
        turned = [
            at for at, window in windows.items() if torch.equal(window.flip(-1), batch.lq[number])
        ]
        assert len(straight) + len(turned) == 1
        mirrored += len(turned)
        places.update(straight + turned)
    assert 16 <= mirrored <= 48
    ys, xs = ({at[axis] for at in places} for axis in (0, 1))
    assert min(ys) <= 1 and max(ys) >= 15 and min(xs) <= 1 and max(xs) >= 15


def test_batches_are_those_of_the_steps(pairs: PairSet):
    data = TrainingSet(pairs, QUICK)
    found = list(data.batches(range(3, 6), [1]))
    assert [len(batches) for batches in found] == [1, 1, 1]
    for step, (batch,) in zip(range(3, 6), found, strict=True):
        assert torch.equal(batch.lq, data.micro(step, 1).lq)
    assert list(data.batches(range(0), [0, 1])) == []
    half = data.batches(range(100), [0])
    next(half)
    half.close()


def test_clean_faces_come_at_the_size_of_the_pairs(pairs: PairSet, tmp_path: Path):
    for number, size in enumerate((SIZE, 50, 64)):
        (tmp_path / "more").mkdir(exist_ok=True)
        write_photo(tmp_path / "more" / f"{number}.jpg", Photo(faces(1, number, size)))
    data = TrainingSet(pairs, replace(QUICK, batch=6, micro_batch=6), clean=tmp_path)
    real = data.micro(0, 0).real
    assert real is not None and real.shape == (6, 3, 16, 16)
    assert real.min() >= 0 and real.max() <= 1
    assert len({float(face.mean()) for face in real}) > 3
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="clean aligned faces, got none"):
        TrainingSet(pairs, QUICK, clean=tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_a_clean_face_that_cannot_be_used_is_named_before_the_run(pairs: PairSet, tmp_path: Path):
    write_photo(tmp_path / "a.png", Photo(faces(1, 0, 50)))
    (tmp_path / "folder.png").mkdir()
    path = tmp_path / "b.png"
    for make in (
        lambda: write_photo(path, Photo(torch.zeros(1, 3, 40, 50))),
        path.touch,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(tmp_path / "nowhere.png"),
    ):
        make()
        with pytest.raises(ImageError, match=r"b\.png"):
            TrainingSet(pairs, QUICK, clean=tmp_path)
        path.unlink()
    assert len(TrainingSet(pairs, QUICK, clean=tmp_path).clean) == 1


# Holding back -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "held"), [(2, 1), (3, 1), (10, 3), (40, 13)])
def test_some_are_held_back_and_some_are_trained_with(tmp_path: Path, count: int, held: int):
    """How many follows from the names; at least one of either."""
    train, out = split(pairs_folder(tmp_path, count), 0.3)
    assert len(out) == held and len(train) == count - held
    assert not {pair.name for pair in train} & {pair.name for pair in out}


def test_what_was_trained_with_is_never_held_back_later(tmp_path: Path):
    whole = pairs_folder(tmp_path, 200)
    trained: set[str] = set()
    for count in range(2, 201, 22):
        train, held = split(PairSet(whole.folder, whole.pairs[:count]), 0.3)
        assert not trained & {pair.name for pair in held}
        trained |= {pair.name for pair in train}
        assert len(held) <= MOST_HELD
    assert len(split(whole, 0.3)[1]) == MOST_HELD


def test_none_are_held_back_if_one_says_so(pairs: PairSet):
    train, held = split(pairs, 0.0)
    assert train == pairs.kept and held == ()


def test_rejected_pairs_do_not_count(pairs: PairSet):
    some = tuple(replace(pair, status=REJECTED) for pair in pairs.pairs[:4]) + pairs.pairs[4:]
    train, held = split(PairSet(pairs.folder, some), 0.3)
    assert {pair.name for pair in train + held} == {pair.name for pair in pairs.pairs[4:]}


# Bad input --------------------------------------------------------------------------------------


def test_too_few_pairs(pairs: PairSet):
    with pytest.raises(InputError, match="got 0"):
        split(PairSet(pairs.folder, ()), 0.1)
    unfinished = tuple(replace(pair, target={}) for pair in pairs.pairs)
    with pytest.raises(InputError, match="got 10, of which 10"):
        split(PairSet(pairs.folder, unfinished), 0.1)
    alone = PairSet(pairs.folder, pairs.pairs[:1])
    with pytest.raises(InputError, match="held_back to 0"):
        split(alone, 0.1)
    assert len(split(alone, 0.0)[0]) == 1


def test_sizes_that_do_not_fit(pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"64×64 pixels.*32×32.*face-0"):
        TrainingSet(pairs, PLAIN, size=64)
    with pytest.raises(InputError, match="patch"):
        TrainingSet(pairs, replace(PLAIN, patch=64))
    mixed = pairs_folder(tmp_path, 3)
    write_photo(mixed.path("target", mixed.pairs[1]), Photo(faces(1, size=40)))
    with pytest.raises(InputError, match=r"40×40 for the target image of face-1"):
        TrainingSet(mixed, PLAIN)
    mixed.path("target", mixed.pairs[1]).write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"face-1"):
        TrainingSet(mixed, PLAIN)
    with monkeypatch.context() as small:  # a header that claims more than Pillow takes
        small.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(ImageError, match="must be an image"):
            TrainingSet(mixed, PLAIN)
    mixed.path("target", mixed.pairs[1]).unlink()
    with pytest.raises(ImageError, match=r"face-1"):
        TrainingSet(read_pairs(tmp_path), PLAIN)


@pytest.mark.parametrize(
    "make", [os.symlink, lambda _, path: os.mkfifo(path)], ids=["link", "pipe"]
)
def test_an_image_that_leads_elsewhere_is_not_opened(tmp_path: Path, make: Callable[..., None]):
    if sys.platform == "win32":
        pytest.skip("links need rights, and there are no such pipes")
    pairs = pairs_folder(tmp_path / "pairs", 3)
    path = pairs.path("lq", pairs.pairs[1])
    path.rename(tmp_path / "elsewhere.png")
    make(tmp_path / "elsewhere.png", path)
    with pytest.raises(ImageError, match=r"link|pipe"):
        TrainingSet(pairs, PLAIN)
