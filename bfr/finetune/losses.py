"""The losses of the paper's two recipes.

Regression, for any network from image to image: the mean absolute error to the pseudo target, a
perceptual distance, an adversarial loss, and beyond the paper a term against patterns and an
identity term. `Codebook`, for
CodeFormer: it learns to predict the codes of the pseudo target, and to bring the encoder's
features close to them; no image is made.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, WrongArchitectureError
from ..faces.identity import embedded, embedding_loss, load_identity
from ..quality.perceptual import Distance
from ..restore.restorer import CONVENTIONS, Restorer
from .codebook import Codebook
from .discriminator import DetailDiscriminator, UNetDiscriminator, balanced, with_gradient
from .objective import Batch, Objective, in_words
from .settings import CODEBOOK, DETAIL, REGRESSION, FinetuneSettings

_WHOLE = ("GFPGAN", "RestoreFormer", "CodeFormer")  # take faces of their own size only

_PERIOD = 16  # px, of the patterns that a network of four levels can draw
_LEAST = 128  # px, of a side: in smaller pictures a pattern cannot be told from a face
_BLUR = 2 / 256  # that the person is compared through, as a share of a face's side


class Regression(Objective):
    """L1, a perceptual distance and a vanilla GAN (Goodfellow et al. 2014), non-saturating."""

    _seen: Tensor | None = None
    """What the detail discriminator said of the faces of `terms`, for `critic_terms`."""

    def __init__(
        self,
        restorer: Restorer,
        settings: FinetuneSettings,
        distance: Distance,
        device: torch.device | str,
        seed: int,
    ) -> None:
        super().__init__(restorer, settings)
        self.distance = distance
        self.identity = load_identity().to(device) if settings.identity else None
        self._known: dict[str, Tensor] = {}
        if settings.adversarial:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                detail = settings.discriminator == DETAIL
                kind = DetailDiscriminator if detail else UNetDiscriminator
                self.discriminator = kind(settings.discriminator_channels)
            self.discriminator.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        restored = self.restorer(batch.lq).float()  # or float16 would lose the errors' gradients
        terms = self._errors(restored, batch.target)
        if self.discriminator is not None:
            errors = torch.stack(list(terms.values())).sum() if terms else restored.new_zeros(())
            terms["adversarial"] = self._adversarial(restored, errors)
        if self.settings.pattern and min(restored.shape[-2:]) >= _LEAST:
            terms["pattern"] = self.settings.pattern * pattern(restored)
        if self.identity is not None and batch.guess is not None:
            moved = restored.new_tensor(torch.nan)  # of faces that are none: the step is named
            if torch.isfinite(restored).all():
                wanted = self._persons(batch.guess, batch.names)
                moved = embedding_loss(_in_place(restored, batch), wanted, self.identity, _BLUR)
            terms["identity"] = self.settings.identity * moved
        return terms, restored

    def _persons(self, guess: Tensor, names: tuple[str, ...]) -> Tensor:
        """The embeddings of guesses, each computed by itself and only once."""
        assert self.identity is not None
        found = []
        for number, name in enumerate(names or ("",) * len(guess)):
            person = self._known.get(name)
            if person is None:
                person = embedded(guess[number : number + 1], self.identity, _BLUR)
                if name:
                    self._known[name] = person
            found.append(person)
        return torch.cat(found)

    def _adversarial(self, restored: Tensor, errors: Tensor) -> Tensor:
        """Weighted, and small if the discriminator takes the faces for real."""
        assert self.discriminator is not None
        weight = self.settings.adversarial
        if self.settings.discriminator != DETAIL:
            self.discriminator.requires_grad_(False)
            return weight * _bce(self.discriminator(restored), 1.0)
        self.discriminator.requires_grad_(True)
        return balanced(restored, errors, self._fooled, weight)

    def _fooled(self, restored: Tensor) -> Tensor:
        assert self.discriminator is not None
        seen = self._seen = self.discriminator(restored)
        return _bce(seen, 1.0)

    def _errors(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.settings.pixel:
            terms["pixel"] = self.settings.pixel * (restored - target).abs().mean()
        if self.settings.perceptual:
            apart = self.distance.measure(restored, target).mean()
            terms["perceptual"] = self.settings.perceptual * apart
        if self.settings.adversarial and self.settings.discriminator == DETAIL:
            # Its balance asks for their gradients, too.
            return {name: with_gradient(term, restored) for name, term in terms.items()}
        return terms

    def critic_terms(self, batch: Batch, restored: Tensor) -> dict[str, Tensor]:
        if self.discriminator is None:
            return {}
        self.discriminator.requires_grad_(True)
        real = batch.target if batch.real is None else batch.real
        seen, self._seen = self._seen, None
        if seen is None:
            seen = self.discriminator(restored.detach())
        return {
            "critic real": _bce(self.discriminator(real), 1.0),
            "critic restored": _bce(seen, 0.0),
        }

    def describe(self) -> str:
        settings = self.settings
        parts = {
            "L1": settings.pixel,
            f"{self.distance.name} distance": settings.perceptual,
            f"GAN ({settings.discriminator} of {settings.discriminator_channels} channels)": (
                settings.adversarial
            ),
            "pattern": settings.pattern,
            "identity against the guess": settings.identity,
        }
        return in_words(parts, self.frozen)


def pattern(images: Tensor) -> Tensor:
    """The strength of the pattern that repeats all over each picture.

    Networks that halve and double their pictures draw faint grids, whose periods are powers of
    two, and an adversary that asks for detail makes them grow. In the mean of all squares of 16
    pixels a face is gone, and a grid is left.

    Args:
        images: B×3×H×W, both sides at least 16.

    Returns:
        The mean absolute value of that mean, of detail finer than 5 pixels; a scalar.
    """
    with torch.autocast(images.device.type, enabled=False):
        (rows, smooth_rows), (columns, smooth_columns) = (
            tuple(matrix.to(images) for matrix in _folding(side)) for side in images.shape[-2:]
        )
        left = rows @ images @ columns.mT - smooth_rows @ images @ smooth_columns.mT
        return left.abs().mean()


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # ComfyUI's nodes run in it; the matrices serve training
def _folding(size: int) -> tuple[Tensor, Tensor]:
    """The matrix that takes the mean of all periods of an axis, and the same of means of five."""
    axis = torch.eye(size, dtype=torch.float64)
    smooth = F.avg_pool1d(F.pad(axis.T[None], (2, 2), mode="reflect"), 5, 1)[0].T
    whole = size - size % _PERIOD
    fold = axis[:whole].view(-1, _PERIOD, size).mean(0)
    return fold, fold @ smooth


def make_objective(
    restorer: Restorer,
    settings: FinetuneSettings,
    distance: Distance,
    device: torch.device | str,
    seed: int,
) -> Objective:
    """Prepares a restorer for training and returns its losses.

    Sets ``requires_grad`` of its parameters. Call it with the base's weights, before those of a
    run are loaded: the codebook recipe keeps a copy of the encoder as it is now.

    Args:
        restorer: the copy to train, on ``device``, made outside of inference mode.
        settings: the recipe.
        distance: of `load_distance`; the codebook recipe does not use it.
        device: where the discriminator is put.
        seed: of the discriminator's weights.

    Raises:
        WrongArchitectureError: for a network that cannot be trained, or not by this recipe.
        InputError: for patches that it cannot take.
    """
    kind, name = restorer.architecture, restorer.architecture
    if kind not in CONVENTIONS:
        raise WrongArchitectureError(
            f"A restorer to tune must be one of {', '.join(CONVENTIONS)}, got {name}. Choose "
            "another one."
        )
    if (kind == "CodeFormer") != (settings.objective == CODEBOOK):
        fitting = CODEBOOK if kind == "CodeFormer" else REGRESSION
        raise WrongArchitectureError(
            f"The objective for {name} must be {fitting!r}, got {settings.objective!r}. Choose "
            "another preset, or auto."
        )
    if settings.patch is not None and kind in _WHOLE:
        raise InputError(
            f"{name} needs whole faces of {CONVENTIONS[kind].size} px, got patches of "
            f"{settings.patch} px. Train on whole faces."
        )
    unet = settings.discriminator != DETAIL
    if settings.patch is not None and settings.adversarial and unet and settings.patch % 8:
        raise InputError(
            f"patch must be a multiple of 8 for the unet discriminator, got {settings.patch}. "
            "Choose another, or set adversarial to 0."
        )
    if settings.objective == CODEBOOK:
        return Codebook(restorer, settings)
    return Regression(restorer, settings, distance, device, seed)


def _in_place(restored: Tensor, batch: Batch) -> Tensor:
    """Whole faces: the guesses, with the restored patches where they were cut from.

    So patches can be trained with, and gradients reach each as far as it changes the whole.
    """
    assert batch.guess is not None and batch.corners is not None
    whole, (height, width) = batch.guess.to(restored.dtype).clone(), restored.shape[-2:]
    for number, (y, x) in enumerate(batch.corners.tolist()):
        whole[number, :, y : y + height, x : x + width] = restored[number]
    return whole


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        logits.float(), torch.full_like(logits.float(), label)
    )
