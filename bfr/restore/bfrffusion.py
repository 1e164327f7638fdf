"""BFRffusion: Stable Diffusion 2.1 steered by a damaged face, from its one published checkpoint.

Chen et al., "Towards Real-World Blind Face Restoration with Generative Diffusion Prior"
(arXiv 2312.15736). The U-Net, the autoencoder and the DDIM sampler are diffusers'; the two
networks beside them are in `bfrffusion_networks`; `bfrffusion_checkpoint` reads them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..records import OnStep
from .bfrffusion_networks import FaceFeatures, TimePrompt

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

SIZE = 512
"""Side in pixels of the faces that it was trained on."""

STEPS = 50
"""Network calls per face, as published."""

SEED = 42
"""Of the noise that every face starts from, as published."""

LATENT_SCALE = 0.18215  # of Stable Diffusion's autoencoder
PIXELS_PER_LATENT = 8
_MULTIPLE = 64  # of the image's sides: the coarsest scale is 1/8 of the latent
_TRAINING_STEPS = 1000


class BFRffusion(nn.Module):
    """A diffusion model whose every step looks at the damaged face.

    Attributes:
        unet: predicts the noise in a latent.
        vae: turns latents into faces.
        prompt: in the place of the text.
        features: reads the damaged face.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        prompt: TimePrompt,
        features: FaceFeatures,
    ):
        super().__init__()
        self.unet, self.vae, self.prompt, self.features = unet, vae, prompt, features

    def forward(
        self,
        faces: Tensor,
        *,
        steps: int = STEPS,
        noise: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Restores faces, each from the same noise, so that no batch changes the result.

        Args:
            faces: B×3×H×W damaged faces, RGB in [0, 1]; H and W are multiples of 64.
            steps: of DDIM (η = 0); a divisor of 1000, at most 500.
            noise: B×4×H/8×W/8 standard normal; None draws it on the CPU with `SEED`.
            on_step: progress in steps; raising from it stops.

        Returns:
            B×3×H×W, nominally in [0, 1].

        Raises:
            InputError: for a size or a number of steps that cannot be.
        """
        height, width = faces.shape[-2:]
        if height % _MULTIPLE or width % _MULTIPLE:
            raise InputError(
                f"BFRffusion's faces must have sides of a multiple of {_MULTIPLE} pixels, got "
                f"{width}×{height}. Use {SIZE}×{SIZE}."
            )
        if noise is None:
            shape = (1, 4, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
            noise = noise.expand(len(faces), -1, -1, -1)
        for latent, _ in self.sample(faces, noise.to(faces), steps, on_step):
            noise = latent
        return self.decode(noise) / 2 + 0.5

    def sample(
        self, faces: Tensor, noise: Tensor, steps: int = STEPS, on_step: OnStep | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The latent after each step, and the clean latent that the step foresees.

        Args:
            faces, steps, on_step: as of `forward`.
            noise: B×4×S×S standard normal, on the device and in the type of ``faces``.
        """
        scheduler, latent = make_scheduler(steps), noise
        for done, t in enumerate(scheduler.timesteps.tolist(), 1):
            epsilon = self.predict(latent, faces, torch.full((len(faces),), t).to(faces.device))
            step: Any = scheduler.step(epsilon, t, latent)
            latent = step.prev_sample
            yield latent, step.pred_original_sample
            if on_step is not None:
                on_step(done, steps, None)

    def predict(self, latent: Tensor, faces: Tensor, t: Tensor) -> Tensor:
        """The noise in latents: one call of all three networks.

        Args:
            latent: B×4×S×S.
            faces: B×3×8S×8S damaged faces, RGB in [0, 1].
            t: B time steps.
        """
        return self.denoise(latent, t, self.prompt(t), self.features(latent, faces, t))

    def denoise(
        self, latent: Tensor, t: Tensor, context: Tensor, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """The U-Net's output, with nine residuals of `FaceFeatures` or none.

        The first five are added before the downsamplers, to what goes on and to the skips (which
        is where diffusers adds a T2I adapter's), the other four after the second of the three
        layers of each level on the way up.
        """
        down, up = list(residuals[:5]), residuals[5:]
        with ExitStack() as stack:
            if residuals:
                blocks: Any = self.unet.up_blocks
                layers = [blocks[0].resnets[1], *(block.attentions[1] for block in blocks[1:])]
                for layer, residual in zip(layers, up, strict=True):
                    stack.enter_context(_adding(layer, residual))
            return self.unet(
                latent,
                t,
                context,
                down_intrablock_additional_residuals=down or None,
                return_dict=False,
            )[0]

    def decode(self, latent: Tensor) -> Tensor:
        """B×3×8S×8S faces, nominally in [-1, 1], of B×4×S×S latents."""
        return self.vae.decode(latent / LATENT_SCALE, return_dict=False)[0]  # pyright: ignore[reportArgumentType]


@contextmanager
def _adding(layer: nn.Module, residual: Tensor) -> Iterator[None]:
    """A residual is added to what a layer gives; an attention gives a tuple."""

    def add(layer: nn.Module, given: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + residual, *output[1:])
        return output + residual

    handle = layer.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def make_scheduler(steps: int) -> DDIMScheduler:
    """The published sampler: DDIM with η = 0, on Stable Diffusion's schedule.

    Raises:
        InputError: for a number of steps that does not divide 1000 or is above 500, with which
            the published sampler takes more steps than asked or fails.
    """
    if not 1 <= steps <= _TRAINING_STEPS // 2 or _TRAINING_STEPS % steps:
        raise InputError(
            f"BFRffusion's steps must divide {_TRAINING_STEPS} and be at most "
            f"{_TRAINING_STEPS // 2}, got {steps}. Use {STEPS}, or 20 or 10 for speed."
        )
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=_TRAINING_STEPS,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )
    scheduler.set_timesteps(steps)
    return scheduler


State = dict[str, Tensor]
Build = Callable[[State], tuple[Any, State]]
