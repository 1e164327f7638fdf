"""Sweeps over two settings: values read, cells planned, and the grid sampled and drawn."""

from __future__ import annotations

import pytest
import torch

from bfr.errors import InputError
from bfr.prior import sweep, sweep_results
from bfr.prior.constraint import Constraint
from bfr.prior.settings import SampleSettings
from tests.priors import tiny_prior


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("low-pass factor", "8, 16,32", (8, 16, 32)),
        ("strength", " 0.5 1 ; 0.25 ", (0.5, 1.0, 0.25)),
        ("sampler", "ddpm, dpm-solver++", ("ddpm", "dpm-solver++")),
        ("seed", "4, 4", (4,)),
        ("none", "whatever", (None,)),
    ],
)
def test_swept_values(name: str, text: str, values: tuple):
    assert sweep.read_axis(name, text).values == values


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("start", "150, many", "8, 16, 32.*'150, many'"),
        ("start", "1.5", "8, 16, 32.*'1.5'"),
        ("strength", "", "0.5.*''"),
        ("sampler", " , ", "ddpm.*' , '"),
        ("batch size", "1", "low-pass factor.*'batch size'"),
    ],
)
def test_what_cannot_be_swept_is_refused(name: str, text: str, message: str):
    with pytest.raises(InputError, match=message):
        sweep.read_axis(name, text)


def test_plan_goes_row_by_row_and_keeps_what_cannot_be():
    across, down = sweep.read_axis("stop", "20, 90"), sweep.read_axis("seed", "5, 6")
    cells = sweep.plan(across, down, {"start": 60, "factor": 8, "freedom": 0.5}, tiny_prior())
    assert [cell.name for cell in cells] == [
        "seed 5, stop 20",
        "seed 5, stop 90",
        "seed 6, stop 20",
        "seed 6, stop 90",
    ]
    third = cells[2]
    assert third.settings is not None and third.settings.seed == 6
    assert third.inputs == {"stop": 20, "seed": 6, "start": 60, "factor": 8, "freedom": 0.5}
    assert cells[1].settings is None and "60 and stop 90" in cells[1].problem


def test_plan_of_nothing_possible_is_refused():
    axes = sweep.read_axis("stop", "90, 95"), sweep.read_axis("none", "")
    with pytest.raises(InputError, match=r"0 of 2.*stop 90"):
        sweep.plan(*axes, {"start": 60}, tiny_prior())
    with pytest.raises(InputError, match="stop for both"):
        sweep.plan(axes[0], axes[0], {"start": 60}, tiny_prior())


def test_cells_share_their_noise_and_the_preview_is_the_grid():
    across, down = sweep.read_axis("low-pass factor", "8, 8"), sweep.read_axis("none", "")
    assert len(across.values) == 1, "one value twice is one column"
    across = sweep.read_axis("low-pass factor", "4, 8")
    prior, guess = tiny_prior(), torch.rand(1, 3, 48, 48, generator=torch.Generator())
    settings = [
        SampleSettings(Constraint(factor=factor, start=4, stop=2, strength=0.0), seed=1)
        for factor in across.values
    ]
    cells = [
        sweep.Cell("4", settings[0]),
        sweep.Cell("8", settings[1]),
        sweep.Cell("7", None, "The factor must divide, or so."),
    ]
    told: list[tuple[int, int, torch.Tensor]] = []
    faces = sweep.sample_cells(guess, prior, cells, 3, lambda *step: told.append(step))
    assert faces[0] is not None and faces[1] is not None
    assert torch.equal(faces[0], faces[1]), "without strength the factor does not matter"
    assert faces[2] is None
    assert [(done, total) for done, total, _ in told] == [(done, 8) for done in range(1, 9)]
    assert told[-1][2].shape == (1, 3, 160, 480)
    assert torch.equal(told[-1][2][..., :160], told[-1][2][..., 160:320])
    figures = sweep_results.measure(guess, faces, prior, None)
    assert figures[0] == figures[1] != "" and figures[2] == ""
    grid = sweep_results.draw(
        faces, cells, figures, sweep.read_axis("seed", "1 2 3"), down, "title"
    )
    assert grid.picture.shape[1] == 3 and grid.picture.shape[3] > 3 * 48 and len(grid.boxes) == 3
    assert sweep_results.report(cells, figures, "title").splitlines()[3] == (
        "7: left out: The factor must divide, or so."
    )
