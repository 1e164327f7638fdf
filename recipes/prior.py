"""Recipe of the embedded prior, a diffusion model of clean 256 px faces: from them to a file.

    python -m recipes.aligned DATA FACES                    align the portraits at 256 px
    python -m recipes.prior train FACES RUN [--minutes M]
    python -m recipes.prior evaluate DATA RUN [--grid FOLDER]
    python -m recipes.prior export RUN weights/prior.safetensors

The network is the U-Net of the published priors, four pixels square folded into channels, so
that 256 px cost what 128 px would with half the fold. It predicts the clean face: with so few
channels for so many pixels that is easier than to predict the noise (Li and He 2025, "Back to
Basics"). Only noise levels that sampling visits are trained. The loss is the squared error of
the clean face weighed by 1 / σ², as of a velocity, but never more than `MOST_WEIGHT`. Where
sampling from a guess begins (`LOW`), the person is compared, too: the mean of all faces that may
lie behind the noise, which errors alone ask for, is a little of somebody else.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from bfr.faces.identity import Identity, load_identity
from bfr.faces.retinaface import load_detector
from bfr.prior.constraint import Constraint
from bfr.prior.load import load_prior, save_prior
from bfr.prior.prior import Prior, predict
from bfr.prior.sample import sample_targets
from bfr.prior.schedule import Schedule, noised, respace
from bfr.prior.settings import SampleSettings
from bfr.prior.unet import UNet, UNetConfig
from bfr.quality.likeness import psnr

from .aligned import SIZE, draw_faces, held_out_faces
from .frame import (
    Commands,
    half_precision,
    load_average,
    load_batches,
    pick_device,
    record_checksums,
    resume,
    train_for,
    weights_of,
)
from .grids import worst_first, write_versions
from .groups import by_group
from .matrices import MatrixOptimizer
from .restorer_losses import person_loss

log = logging.getLogger(__name__)
NETWORK = UNetConfig(
    model_channels=64,
    channels=(64, 96, 192, 256),
    blocks=(0, 1, 1, 1),
    attention=(False, False, True, True),
    patch=4,
    detail=32,
)
HIGHEST_STEP = 640
SHIFT = 25  # training steps; without it, sampled faces keep a grain, and edges get rough
MOST_WEIGHT = 25.0
SHOW_EVERY = 500
LEVELS = (5, 20, 50, 100, 200, 360, 500, 599)  # training steps whose noise is measured and shown
LOW = 200  # training steps; guesses are noised to no more by default
LOW_SHARE = 0.4  # of the faces of a batch
IDENTITY_WEIGHT = 0.15  # its gradient is about half as long as that of the errors
GREY = 0.25  # share of the faces shown in black and white, or tinted like an old print


def build_prior() -> UNet:
    """The embedded prior's network with random weights."""
    return UNet(NETWORK)


def as_prior(network: UNet) -> Prior:
    """The prior that a network of this recipe is."""
    return Prior(
        network,
        SIZE,
        Schedule(),
        prediction="sample",
        variance="fixed_small",
        highest_step=HIGHEST_STEP - 1,
        shift=SHIFT,
        name="prior",
    )


class PriorFaces(IterableDataset):
    """Endless clean faces in [-1, 1] with a channel that says what counts, 4×S×S.

    Black-and-white ones are among them. What a crop mirrors at its photograph's border does not
    count (0), so that no one learns to draw it.
    """

    def __init__(self, faces: Path, seed: int):
        self.faces, self.seed = faces, seed

    def __iter__(self):
        rng = np.random.default_rng(self.seed)
        for face, inside in draw_faces(self.faces, rng):
            if rng.random() < GREY:
                tint = torch.tensor([1.0, 0.96, 0.88]) ** float(rng.choice([0, rng.random()]))
                face = face.mean(0) * tint[:, None, None]
            yield torch.cat([face * 2 - 1, inside])


def draw_steps(count: int) -> Tensor:
    """Training steps B for a batch: the first ones below `LOW`, the others of all levels."""
    low = round(LOW_SHARE * count)
    return torch.cat([torch.randint(LOW, (low,)), torch.randint(HIGHEST_STEP, (count - low,))])


def denoising_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    faces: Tensor,
    alphas_cumprod: Tensor,
    identity: Identity,
) -> Tensor:
    """Weighed squared error of the predicted clean faces at random noise levels, and the person's.

    Args:
        network: predicts the clean face from the noisy one and its step.
        faces: B×4×S×S of `PriorFaces`.
        alphas_cumprod: ᾱ of each step, float32.
        identity: compares the people of the faces with little noise.
    """
    faces, inside = faces.split((3, 1), 1)
    t = draw_steps(len(faces)).to(faces.device)
    signal = alphas_cumprod[t][:, None, None, None]
    noisy = signal.sqrt() * faces + (1 - signal).sqrt() * torch.randn_like(faces)
    predicted = network(noisy, t).float()
    weight = (1 / (1 - signal)).clamp(max=MOST_WEIGHT) * inside
    errors = (weight * (predicted - faces).square()).mean()
    low = t < LOW
    shown, clean = (each[low] / 2 + 0.5 for each in (predicted, faces))
    return errors + IDENTITY_WEIGHT * person_loss(shown.clamp(0, 1), clean, identity)


def train(faces: Path, run: Path, args: argparse.Namespace) -> None:
    """Trains until the run's minutes are over, following a cosine over exactly that time."""
    device = pick_device()
    network, average = build_prior().to(device), build_prior().to(device)
    optimizer = MatrixOptimizer(network, args.lr)
    parts = {"network": network, "average": average, "optimizer": optimizer}
    start = None if args.start is None else lambda: weights_of(args.start)
    step, spent = resume(run, parts, start)
    torch.manual_seed(step)
    loader = load_batches(PriorFaces(faces, step), args.batch, args.workers)
    alphas_cumprod = Schedule().alphas_cumprod.float().to(device)
    forward = torch.compile(network, dynamic=False) if args.compile else network
    identity = load_identity()
    identity.network.to(device)

    def predict_clean(noisy: Tensor, steps: Tensor) -> Tensor:
        with half_precision(device, args.bfloat16):
            return forward(noisy, steps)

    def loss_of(batch: Tensor) -> Tensor:
        return denoising_loss(predict_clean, batch.to(device), alphas_cumprod, identity)

    shown = next(iter(DataLoader(PriorFaces(faces, 0), 8)))[:, :3].to(device)

    def draw(step: int) -> None:
        if step % SHOW_EVERY == 0:
            versions, titles = denoise(as_prior(average), shown / 2 + 0.5)
            write_versions(run / "samples" / f"{step:06d}.png", versions, titles)

    limits = {"step": step, "spent": spent, "minutes": args.minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 200, "decay": 0.997, "clip": 1.0, "every": 100}
    train_for(run, parts, loader, loss_of, **limits, **rates, on_save=draw)


@torch.no_grad()
def denoise(prior: Prior, clean: Tensor) -> tuple[list[Tensor], list[str]]:
    """Clean faces N×3×S×S in [0, 1], then what the prior makes of them at `LEVELS` of noise."""
    steps = respace(prior.schedule, prior.schedule.steps)
    generator = torch.Generator().manual_seed(0)
    versions = [clean]
    for step in LEVELS:
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        noisy = noised(clean * 2 - 1, float(steps.alphas_cumprod[step]), noise)
        parts = [predict(prior, part, steps, step).clean / 2 + 0.5 for part in noisy.split(4)]
        versions.append(torch.cat(parts))
    return versions, ["clean", *(f"step {step}" for step in LEVELS)]


def evaluate(data: Path, run: Path | None, grids: Path | None) -> None:
    """Logs how well held-out faces are denoised; draws 24 of them, and faces out of nothing.

    Args:
        data: the data folder.
        run: of the training; None for the embedded weights.
        grids: folder for `denoised.png` and `sampled.png`; None draws none.
    """
    prior = load_prior() if run is None else as_prior(load_average(run, build_prior()))
    clean, names = held_out_faces(data, load_detector())
    kinds = {kind: [n.startswith(kind) for n in names] for kind in ("congress", "portrait")}
    versions, titles = denoise(prior, clean)
    quality = [psnr(denoised, clean) for denoised in versions[1:]]
    for title, each in zip(titles[1:], quality, strict=True):
        means = ", ".join(f"{k} {each[torch.tensor(of)].mean():.2f}" for k, of in kinds.items())
        log.info("%s: %.2f dB (%s; worst %.2f)", title, each.mean(), means, each.min())
        log.info("  by lightness of the skin: %s", by_group(each, clean))
    if grids is not None:
        shown = worst_first(torch.stack(quality).mean(0))
        write_versions(grids / "denoised.png", [faces[shown] for faces in versions], titles)
        free = Constraint(strength=0.0, start=HIGHEST_STEP // 4)
        nothing = SampleSettings(free, sampler="dpm-solver++", calls=25)
        grey = torch.full((24, 3, SIZE, SIZE), 0.5)
        drawn = sample_targets(grey, prior, nothing).targets
        write_versions(grids / "sampled.png", [drawn], ["out of nothing"], across=8)


def export(run: Path, file: Path) -> None:
    """Writes the averaged network in half precision, with its provenance."""
    provenance = "trained by recipes/prior.py; data in weights/README.md"
    metadata = {"licence": "Apache-2.0", "provenance": provenance}
    save_prior(file, as_prior(load_average(run, build_prior()).half()), metadata)
    record_checksums(file.parent)


def main(arguments: Sequence[str] | None = None) -> None:
    commands = Commands(__doc__)
    training = commands.add_training("train", "faces", "run", minutes=90, batch=16, lr=1e-3)
    training.add_argument("--start", type=Path, help="a run or weights file to go on from")
    training.add_argument("--compile", action="store_true", help="faster after some minutes")
    commands.add_speed(training)
    commands.add("evaluate", "data", "run?").add_argument("--grid", type=Path)
    commands.add("export", "run", "file")
    args = commands.parse(arguments)
    if args.command == "train":
        train(args.faces, args.run, args)
    elif args.command == "evaluate":
        evaluate(args.data, args.run, args.grid)
    else:
        export(args.run, args.file)


if __name__ == "__main__":
    main()
