"""How targets are sampled: the fingerprint that pairs folders keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bfr.files.checksums import network_sha256
from bfr.prior.constraint import Constraint
from bfr.prior.settings import SampleSettings, fingerprint
from bfr.prior.soft import SoftHold
from tests.priors import ideal_prior, tiny_prior

SETTINGS = SampleSettings(Constraint(4, 0.5, 12, 3), steps=20, sampler="ddim", eta=0.5, calls=6)


def test_folders_of_earlier_versions_still_count_as_done():
    prior = ideal_prior()
    assert fingerprint(replace(prior, sha256="abc", shift=3), SETTINGS) == {
        "prior": {
            "name": "ideal",
            "sha256": "abc",
            "dtype": "float32",
            "size": 32,
            "schedule": {"shape": "linear", "steps": 1000, "first": 1e-4, "last": 0.02},
            "prediction": "sample",
            "variance": "fixed_small",
            "clip": True,
        },
        "constraint": {"factor": 4, "strength": 0.5, "start": 12, "stop": 3},
        "steps": 20,
        "sampler": "ddim",
        "calls": 6,
        "eta": 0.5,
    }
    made_in_code = fingerprint(prior, SETTINGS)["prior"]
    assert (
        made_in_code.keys() == fingerprint(replace(prior, sha256="abc"), SETTINGS)["prior"].keys()
    )
    assert made_in_code["sha256"] == network_sha256(prior.network)
    soft = replace(SETTINGS, constraint=SoftHold(4, start=12))
    assert "edges" not in fingerprint(prior, soft)["constraint"]
    firm = replace(soft, constraint=SoftHold(4, start=12, edges=0.5))
    assert fingerprint(prior, firm) != fingerprint(prior, soft)


@pytest.mark.parametrize(
    "change", [{"shift": 3}, {"highest_step": 500}, {"size": 64}, {"clip": False}]
)
def test_a_change_of_a_prior_made_in_code_changes_the_fingerprint(change: dict):
    prior = tiny_prior()
    assert fingerprint(replace(prior, **change), SETTINGS) != fingerprint(prior, SETTINGS)


def test_what_changes_no_target_is_no_part_of_the_fingerprint():
    prior, same = ideal_prior(), replace(SETTINGS, seed=5, batch_size=1)
    assert fingerprint(prior, same) == fingerprint(prior, SETTINGS)
    ddpm = replace(SETTINGS, sampler="ddpm", calls=None)
    assert fingerprint(prior, replace(ddpm, eta=0.1)) == fingerprint(prior, ddpm)
    assert fingerprint(prior, replace(ddpm, calls=12)) == fingerprint(prior, ddpm), "all steps"
