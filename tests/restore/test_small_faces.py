"""Faces smaller than a restorer has learned go through it smaller; all others as they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bfr.image.geometry import face_template
from bfr.records import Face
from bfr.restore.restorer import Restorer
from bfr.restore.settings import RestoreSettings
from bfr.restore.small_faces import fitting_sizes
from bfr.restore.stages import restore_crops


def face(side: float) -> Face:
    """A face whose aligned crop is ``side`` pixels of its photograph."""
    points = (face_template(256) * side / 256).tolist()
    return Face((0, 0, side, side), 0.9, tuple((x, y) for x, y in points))


class Sizes(nn.Module):
    """Writes down the sizes of what goes through it, and returns it."""

    def __init__(self):
        super().__init__()
        self.seen: list[int] = []

    def forward(self, faces: Tensor) -> Tensor:
        self.seen += [faces.shape[-1]] * len(faces)
        return faces


def restorer(architecture: str, network: nn.Module) -> Restorer:
    return Restorer(
        network, size=256, architecture=architecture, call=lambda network, faces, _: network(faces)
    )


@pytest.mark.parametrize(("side", "size"), [(300, 256), (64, 256), (40, 160), (32, 128), (5, 64)])
def test_a_small_face_is_enlarged_no_more_than_the_restorer_knows(side: int, size: int):
    assert fitting_sizes([face(side)], restorer("NAFNet", nn.Identity())) == [size]


def test_a_network_of_one_size_keeps_it():
    assert fitting_sizes([face(30)], restorer("GFPGAN", nn.Identity())) == [256]
    assert fitting_sizes([face(30)], Restorer(nn.Identity())) == [None]


def test_only_the_small_face_of_a_photograph_changes():
    """The others come out to the last bit as without it, and each at its own place."""
    crops, faces = torch.rand(3, 3, 256, 256), [face(200), face(40), face(90)]
    done: list[tuple[int, int]] = []
    sizes = Sizes()
    made = restorer("NAFNet", sizes)
    people = restore_crops(
        crops, faces, made, RestoreSettings(), None, lambda *at: done.append(at[:2]), fit=True
    )
    assert sorted(sizes.seen) == [160, 256, 256]
    for index in (0, 2):
        assert torch.equal(people.crops[index], crops[index])
    assert not torch.equal(people.crops[1], crops[1])
    assert (people.crops[1] - crops[1]).mean().abs() < 0.01
    assert done[-1][0] == done[-1][1] and [at for at, _ in done] == sorted(at for at, _ in done)


def test_a_clip_keeps_one_size():
    sizes = Sizes()
    made = restorer("NAFNet", sizes)
    restore_crops(torch.rand(1, 3, 256, 256), [face(40)], made, RestoreSettings(), None, None)
    assert sizes.seen == [256]
