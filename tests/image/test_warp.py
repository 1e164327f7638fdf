import math

import torch

from bfr.image.geometry import quarter_turn_matrix
from bfr.image.warp import sample, sampling_grid


def pixels(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_the_identity_reads_each_pixel_from_itself():
    image, same = pixels(5, 9), torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    grid = sampling_grid(same, (5, 9), (5, 9), image.device)
    for mode in ("bilinear", "bicubic"):
        assert (sample(image, grid, mode, "border") - image).abs().max() < 1e-5


def test_a_quarter_turn_is_a_quarter_turn():
    image = pixels(6, 9)
    turned = torch.rot90(image, 1, (-2, -1))
    back = quarter_turn_matrix((9, 6), -1)
    grid = sampling_grid(back, (9, 6), (6, 9), image.device)
    assert (sample(image, grid, "bilinear", "border") - turned).abs().max() < 1e-5


def test_it_is_kornias_warp():
    from kornia.geometry.transform import warp_affine

    image, angle = pixels(40, 60), math.radians(20)
    turn = [[math.cos(angle), -math.sin(angle), 7.5], [math.sin(angle), math.cos(angle), -3.0]]
    matrix = torch.tensor(turn, dtype=torch.float64)
    grid = sampling_grid(matrix, (30, 30), (40, 60), image.device)
    theirs = torch.linalg.inv(torch.cat([matrix, torch.tensor([[0, 0, 1.0]]).double()]))[None, :2]
    expected = warp_affine(image, theirs.float(), (30, 30), "bicubic", "border", True)
    assert (sample(image, grid, "bicubic", "border") - expected).abs().max() < 1e-3
