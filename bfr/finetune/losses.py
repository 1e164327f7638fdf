"""The losses of the paper's two recipes.

Regression, for any network from image to image: the mean absolute error to the pseudo target, a
perceptual distance, an adversarial loss, and beyond the paper an identity term. Codebook, for
CodeFormer: it learns to predict the codes of the pseudo target, and to bring the encoder's
features close to them; no image is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, WrongArchitectureError
from ..faces.identity import identity_loss, load_identity
from ..quality.perceptual import Distance
from ..restore.restorer import CONVENTIONS, Restorer
from .discriminator import DetailDiscriminator, UNetDiscriminator, balanced
from .settings import CODEBOOK, DETAIL, REGRESSION, FinetuneSettings

_WHOLE = ("GFPGAN", "RestoreFormer", "CodeFormer")  # take faces of their own size only
_FROZEN = {
    "CodeFormer": ("quantize.*", "generator.*", "fuse_convs_dict.*"),
    "RestoreFormer": ("quantize.*", "encoder.*attn*.norm2.*"),
    "GFPGAN": ("toRGB.*", "stylegan_decoder.style_mlp.*"),
}
"""Parameters that are not trained, by architecture: CodeFormer's because the recipe freezes them,
the others because the restored face does not depend on them, or not smoothly."""

_BLUR = 2 / 256  # that the person is compared through, as a share of a face's side


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pairs to learn from.

    Attributes:
        lq: B×3×S×S RGB in [0, 1], damaged faces.
        target: B×3×S×S RGB in [0, 1], their pseudo targets.
        real: B×3×S×S RGB in [0, 1], other clean faces for the discriminator; None shows it the
            pseudo targets.
        guess: B×3×T×T RGB in [0, 1], the whole faces as the base restored them; None where the
            identity term is off.
        corners: B×2 places (y, x) in them that the others were cut from.
    """

    lq: Tensor
    target: Tensor
    real: Tensor | None = None
    guess: Tensor | None = None
    corners: Tensor | None = None

    def to(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        """The same on a device, and in the order that half precision and NAFNets are quick in."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if value is not None}
        for name in ("lq", "target", "real") if channels_last else ():
            if name in moved:
                moved[name] = moved[name].contiguous(memory_format=torch.channels_last)
        return Batch(**moved)


class Objective(ABC):
    """The losses of one restorer. Its trainable parameters get ``requires_grad``.

    Attributes:
        discriminator: the adversary, or None.
    """

    discriminator: UNetDiscriminator | DetailDiscriminator | None = None

    def __init__(self, restorer: Restorer, settings: FinetuneSettings) -> None:
        self.restorer, self.settings = restorer, settings
        self.frozen = _FROZEN.get(restorer.architecture, ())
        for name, parameter in restorer.network.named_parameters():
            frozen = any(fnmatchcase(name, pattern) for pattern in self.frozen)
            parameter.requires_grad_(not frozen)

    def parameters(self) -> list[nn.Parameter]:
        """The restorer's trainable parameters, in the network's order."""
        return [p for p in self.restorer.network.parameters() if p.requires_grad]

    @abstractmethod
    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """The restorer's losses, weighted means over the batch; their sum is the loss.

        They give the discriminator no gradient.

        Returns:
            The scalars by name, and the restored faces, B×3×S×S, not clamped; None where the
            recipe makes no image.
        """

    def critic_terms(self, batch: Batch, restored: Tensor) -> dict[str, Tensor]:
        """The discriminator's losses, each a mean over the batch; empty without one.

        Args:
            batch: the one that ``restored`` was made from.
            restored: B×3×S×S of `terms`; gets no gradient.
        """
        return {}

    @abstractmethod
    def describe(self) -> str:
        """The losses in words, including the distance that was chosen and what is frozen."""


class Regression(Objective):
    """L1, a perceptual distance and a vanilla GAN (Goodfellow et al. 2014), non-saturating."""

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
            self.discriminator.requires_grad_(False)
            weight = self.settings.adversarial
            if self.settings.discriminator == DETAIL:
                errors = torch.stack(list(terms.values())).sum()
                terms["adversarial"] = balanced(restored, errors, self._fooled, weight)
            else:
                terms["adversarial"] = weight * self._fooled(restored)
        if self.identity is not None and batch.guess is not None:
            moved = identity_loss(_in_place(restored, batch), batch.guess, self.identity, _BLUR)
            terms["identity"] = self.settings.identity * moved
        return terms, restored

    def _fooled(self, restored: Tensor) -> Tensor:
        """The adversarial loss: small if the discriminator takes the faces for real."""
        assert self.discriminator is not None
        return _bce(self.discriminator(restored), 1.0)

    def _errors(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.settings.pixel:
            terms["pixel"] = self.settings.pixel * (restored - target).abs().mean()
        if self.settings.perceptual:
            apart = self.distance.measure(restored, target).mean()
            terms["perceptual"] = self.settings.perceptual * apart
        return terms

    def critic_terms(self, batch: Batch, restored: Tensor) -> dict[str, Tensor]:
        if self.discriminator is None:
            return {}
        self.discriminator.requires_grad_(True)
        real = batch.target if batch.real is None else batch.real
        return {
            "critic real": _bce(self.discriminator(real), 1.0),
            "critic restored": _bce(self.discriminator(restored.detach()), 0.0),
        }

    def describe(self) -> str:
        settings = self.settings
        parts = {
            "L1": settings.pixel,
            f"{self.distance.name} distance": settings.perceptual,
            f"GAN ({settings.discriminator} of {settings.discriminator_channels} channels)": (
                settings.adversarial
            ),
            "identity against the guess": settings.identity,
        }
        return _in_words(parts, self.frozen)


class Codebook(Objective):
    """CodeFormer's second stage (Zhou et al., NeurIPS 2022, eq. 3 and 4) on pseudo targets.

    The codes to predict are those that the base's own encoder finds nearest to the pseudo target:
    ``weight_code·CE(s, ŝ) + weight_feature·‖z - sg(z_q)‖²``, the latter a mean over all elements.
    """

    def __init__(self, restorer: Restorer, settings: FinetuneSettings) -> None:
        super().__init__(restorer, settings)
        network: Any = restorer.network
        self.encoder = deepcopy(network.encoder).requires_grad_(False).eval()
        self.codes = network.quantize.embedding.weight

    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        wanted = self._codes_of(batch.target)
        features, logits = _predict_codes(self.restorer.network, batch.lq * 2 - 1)
        terms, settings = {}, self.settings
        if settings.code:
            terms["code"] = settings.code * F.cross_entropy(logits.float().mT, wanted)
        if settings.feature:
            apart = features.float().flatten(2).mT - self.codes[wanted].float()
            terms["feature"] = settings.feature * apart.square().mean()
        return terms, None

    @torch.no_grad()
    def _codes_of(self, target: Tensor) -> Tensor:
        """B×256 numbers of the codes nearest to a target's features."""
        with torch.autocast(target.device.type, enabled=False):
            features = self.encoder(target * 2 - 1).flatten(2).mT
            # ‖z - e‖² without ‖z‖², which is the same for all codes e
            return (self.codes.square().sum(1) - 2 * features @ self.codes.mT).argmin(2)

    def describe(self) -> str:
        parts = {"code cross-entropy": self.settings.code, "features": self.settings.feature}
        words = _in_words(parts, self.frozen)
        without = "; no identity term, as no image is made" if self.settings.identity else ""
        return words + without


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


def _predict_codes(network: Any, faces: Tensor) -> tuple[Tensor, Tensor]:
    """CodeFormer up to its codes: features B×256×16×16 and logits B×256×codes.

    The network's own call also makes the picture, which the loss does not need: twice the work.
    """
    features = network.encoder(faces)
    places = network.position_emb[:, None].expand(-1, len(faces), -1)
    query = network.feat_emb(features.flatten(2).permute(2, 0, 1))
    for layer in network.ft_layers:
        query = layer(query, query_pos=places)
    return features, network.idx_pred_layer(query).transpose(0, 1)


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


def _in_words(parts: dict[str, float], frozen: tuple[str, ...]) -> str:
    losses = " + ".join(f"{name} × {weight:g}" for name, weight in parts.items() if weight)
    kept = ", ".join(pattern.removesuffix(".*") for pattern in frozen)
    return f"{losses}; frozen: {kept}" if kept else losses
