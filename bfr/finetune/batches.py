"""The dataset: which pairs are held back, and the batch of each step.

A batch is a pure function of the seed and the step. So a resumed run sees what an unbroken one
sees, and several processes agree on who reads what without talking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ..damage.learned import LearnedDamage, draw_pair
from ..errors import ImageError, InputError
from ..files.photos import read_photo
from ..image.resize import resize_square
from ..pairs.folder import PairSet, read_image
from ..pairs.lines import check_image_file
from ..pairs.pair import Pair
from .clean_faces import UNREADABLE, clean_faces, header_size
from .held_back import split
from .objective import Batch
from .settings import FinetuneSettings


class TrainingSet:
    """The pairs to train with, the pairs to score with, and the batches of all steps.

    Attributes:
        pairs: the folder.
        settings: the recipe.
        clean: files of clean aligned faces; may be empty.
        damage: that clean faces get, to be learned from like pairs; None to show them to the
            discriminator alone.
        train: the pairs to train with.
        held: the pairs held back to be scored; empty if the settings say so.
        size: side in pixels of all images.

    Args:
        pairs: the folder, of which the ``kept`` pairs are used.
        settings: the recipe.
        clean: a folder of clean aligned faces, searched with its sub-folders; None for none.
        size: side in pixels that the restorer needs; None for any.
        damage: as above.

    Raises:
        InputError: if there are too few pairs, or their sizes do not fit one another, the
            restorer or the patch.
        ImageError: if an image is missing or damaged.
    """

    def __init__(
        self,
        pairs: PairSet,
        settings: FinetuneSettings,
        clean: Path | None = None,
        size: int | None = None,
        damage: LearnedDamage | None = None,
    ):
        self.pairs, self.settings = pairs, settings
        self.train, self.held = split(pairs, settings.held_back)
        self.size = _common_size(pairs, size)
        if settings.patch is not None and settings.patch > self.size:
            raise InputError(
                f"patch must be at most the pairs' side of {self.size} pixels, got "
                f"{settings.patch}. Lower it, or train on whole pairs."
            )
        self.clean = () if clean is None else clean_faces(clean)
        if damage is not None and not self.clean:
            raise InputError(
                "Learned damage needs clean faces to be put on, got none. Name a folder of clean "
                "aligned faces, or train without learned damage."
            )
        self.damage = damage

    def names(self, step: int) -> list[str]:
        """The names of the pairs in a step's batch."""
        numbers = self._numbers(step, range(self.settings.batch))
        return [self._pair(n).name for n in numbers if not self._made(n)]

    def micro(self, step: int, index: int) -> Batch:
        """Micro-batch number ``index`` of a step, from the disk.

        Each image is B×3×S×S RGB in [0, 1] on the CPU, S being the patch or the pairs' size. A
        degraded face and its target are cut and mirrored alike; the guess is mirrored with them.

        Raises:
            ImageError: if an image is missing or damaged.
        """
        first = index * self.settings.micro_batch
        lq, target, real, guess, corners, names = [], [], [], [], [], []
        for n in self._numbers(step, range(first, first + self.settings.micro_batch)):
            whole_lq, whole_target, whole = self._sample(n)
            lq.append(self._cut(whole_lq, "cut", n))
            target.append(self._cut(whole_target, "cut", n))
            if self.clean:
                real.append(self._cut(self._clean("clean", n), "cut clean", n))
            if whole is not None:
                y, x, mirrored = self._window("cut", n)
                guess.append(whole.flip(-1) if mirrored else whole)
                corners.append((y, self.size - self._side - x if mirrored else x))
                names.append("" if self._made(n) else f"{self._pair(n).name} {mirrored}")
        return Batch(
            torch.cat(lq),
            torch.cat(target),
            torch.cat(real) if real else None,
            torch.cat(guess) if guess else None,
            torch.tensor(corners) if corners else None,
            tuple(names),
        )

    def _sample(self, n: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sample n whole: damaged face, target, and who it is if the identity term is on."""
        if self._made(n):
            face = self._clean("damaged", n)
            assert self.damage is not None
            seed = int(torch.randint(2**31, (), generator=self._random(f"damage {n}")))
            face, damaged = (one[None] for one in draw_pair(face[0], self.damage, seed))
            return damaged, face, face if self.settings.identity else None
        pair = self._pair(n)
        damaged, target = (read_image(self.pairs.folder, kind, pair) for kind in ("lq", "target"))
        if not self.settings.identity:
            return damaged, target, None
        return damaged, target, self._resized(read_image(self.pairs.folder, "guess", pair))

    def _made(self, n: int) -> bool:
        """True if sample n is a clean face with learned damage."""
        return self.damage is not None and self._made_before(n + 1) > self._made_before(n)

    def _made_before(self, n: int) -> int:
        return 0 if self.damage is None else int(n * self.settings.learned)

    def _pair(self, n: int) -> Pair:
        return self.train[self._drawn("pairs", n - self._made_before(n), len(self.train))]

    def _clean(self, what: str, n: int) -> Tensor:
        """One of the clean faces, 1×3×S×S."""
        path = self.clean[self._drawn(what, n, len(self.clean))]
        return self._resized(read_photo(path).pixels)

    def batches(self, steps: Iterable[int], micros: Sequence[int]) -> Generator[list[Batch]]:
        """The micro-batches ``micros`` of each step; the next step's are read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for step in steps:
                now, coming = coming, reader.submit(self._micros, step, micros)
                if now is not None:
                    yield now.result()
            if coming is not None:
                yield coming.result()

    def _micros(self, step: int, micros: Sequence[int]) -> list[Batch]:
        return [self.micro(step, index) for index in micros]

    def _numbers(self, step: int, places: Iterable[int]) -> list[int]:
        """The numbers of a batch's samples, counted over the whole run."""
        return [step * self.settings.batch + place for place in places]

    def _drawn(self, what: str, n: int, count: int) -> int:
        """The index of sample n among ``count``: each once, in random order, then all again."""
        around, place = divmod(n, count)
        order = torch.randperm(count, generator=self._random(f"{what} {around}"))
        return int(order[place])

    def _cut(self, image: Tensor, what: str, n: int) -> Tensor:
        """Sample n's patch of an image, mirrored or not."""
        y, x, mirrored = self._window(what, n)
        patch = image[..., y : y + self._side, x : x + self._side]
        return patch.flip(-1) if mirrored else patch

    @property
    def _side(self) -> int:
        """The side of patches in pixels."""
        return self.settings.patch or self.size

    def _window(self, what: str, n: int) -> tuple[int, int, bool]:
        """The corner of sample n's patch, y and x, and True if the patch is mirrored."""
        random = self._random(f"{what} {n}")
        y, x = torch.randint(self.size - self._side + 1, (2,), generator=random).tolist()
        return y, x, self.settings.flips and bool(torch.rand((), generator=random) < 0.5)

    def _resized(self, face: Tensor) -> Tensor:
        return resize_square(face, self.size).clamp(0, 1)

    def _random(self, what: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.settings.seed} {what}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def _common_size(pairs: PairSet, wanted: int | None) -> int:
    """The side of all images of the kept pairs, from their files' headers."""
    first = pairs.kept[0]
    size = wanted or _size(pairs.path("lq", first))[0]
    for pair in pairs.kept:
        for kind in ("lq", "target"):
            found = _size(pairs.path(kind, pair))
            if found != (size, size):
                needs = "the restorer needs" if wanted else f"{first.name} has"
                raise InputError(
                    f"All faces must be of {size}×{size} pixels, which {needs}, got "
                    f"{found[1]}×{found[0]} for the {kind} image of {pair.name}. Build the set "
                    f"at {size} pixels, or choose another restorer."
                )
    return size


def _size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels, from a file's header."""
    check_image_file(path)
    try:
        return header_size(path)
    except UNREADABLE as error:
        raise ImageError(
            f"{path} must be an image, got something that cannot be read ({error}). Delete it "
            "and build the set again: it is made again."
        ) from error
