"""What only an accelerator can show: the same results there, in all precisions, and tuning.

``make test-gpu`` runs these with the benchmarks; elsewhere they are skipped, and say so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bfr.errors import CancelledError
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.retinaface import load_detector
from bfr.finetune.loop import finetune
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.restore.load import load_restorer
from bfr.restore.restorer import restore_faces
from bfr.runtime.precision import convert, suited_precision
from tests.finetune_sets import QUICK, pairs_folder, tiny_restorer
from tests.portraits import astronaut, only

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]
CUDA = torch.device("cuda")


@pytest.fixture
def face() -> torch.Tensor:
    image, found = astronaut()
    return align_faces(image, only(found, image), 256)[0]


@pytest.mark.parametrize(
    ("precision", "apart"), [("float32", 1e-3), ("auto", 1 / 255), ("float16", 1 / 255)]
)
def test_a_face_is_restored_as_on_the_processor(face, precision: str, apart: float):
    here = restore_faces(face, load_restorer(precision="float32"))
    there = restore_faces(face, load_restorer(precision=precision).to(CUDA))
    assert there.device == here.device
    assert float((here - there).abs().mean()) < apart
    assert float((here - face).abs().mean()) > apart, "the restorer must change the face"


def test_many_faces_at_once_are_as_each_alone(face):
    restorer = load_restorer(precision="float32").to(CUDA)
    many = restore_faces(face.repeat(5, 1, 1, 1), restorer, batch_size=5)
    alone = restore_faces(face, restorer)
    assert float((many - alone).abs().mean()) < 1e-3


def test_faces_are_found_where_the_processor_finds_them():
    image, _ = astronaut()
    here, there = (detect_faces(image, load_detector().to(each)) for each in ("cpu", CUDA))
    (one,), (other,) = here.faces[0], there.faces[0]
    assert torch.allclose(torch.tensor(one.landmarks), torch.tensor(other.landmarks), atol=0.5)


def test_pseudo_targets_are_those_of_the_processor(face):
    prior = load_prior()
    settings = Guidance().settings(prior)
    here = sample_targets(face, prior, settings).targets
    convert(prior.network, suited_precision(CUDA), CUDA)
    there = sample_targets(face, prior, settings).targets
    assert float((here - there).abs().mean()) < 2 / 255


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_tunes_and_resumes(tmp_path: Path, precision: str):
    pairs, base = pairs_folder(tmp_path / "pairs"), tiny_restorer()
    settings = replace(QUICK, precision=precision, perceptual=0.0)

    def stop(done: int, total: int, preview: object) -> None:
        if done == 2:
            raise CancelledError("enough")

    run = tmp_path / "run"
    assert not finetune(base, pairs, run, settings, device=CUDA, on_step=stop).finished
    tuned = finetune(base, pairs, run, settings, device=CUDA, keep_worse=True)
    assert tuned.finished and tuned.restorer.device.type == "cpu"
    assert tuned.restorer.sha256 != base.sha256
