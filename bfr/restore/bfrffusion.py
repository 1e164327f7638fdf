"""BFRffusion: Stable Diffusion 2.1 steered by a damaged face, from its one published checkpoint.

Chen et al., "Towards Real-World Blind Face Restoration with Generative Diffusion Prior"
(arXiv 2312.15736). The U-Net, the autoencoder and the DDIM sampler are diffusers'; the two
networks beside them are in `bfrffusion_networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError, WrongArchitectureError
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
_HEAD_CHANNELS = 64
_LEVELS = (1, 2, 4, 4)  # widths of Stable Diffusion's levels, in its own width
_PARTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "control_model.")
_MARKS = ("control_model.zero_convs_module.0.0.weight", "cond_stage_model.learnable_param")


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


def is_bfrffusion(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is a BFRffusion checkpoint."""
    return all(name in state for name in _MARKS)


def build_bfrffusion(state: Mapping[str, Tensor], path: Path) -> BFRffusion:
    """The networks of a checkpoint in float32, in evaluation mode; widths follow from its shapes.

    The tensors are used as they are, not copied, where they are float32.

    Args:
        state: the checkpoint's tensors by their published names; those of the schedule, and of
            the half of the autoencoder that makes latents, are not used.
        path: of the file, for messages.

    Raises:
        WrongArchitectureError: if a part does not fit.
    """
    parts = {
        prefix: {
            name.removeprefix(prefix): tensor.float()
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        for prefix in _PARTS
    }
    unet, vae, prompt, features = (parts[prefix] for prefix in _PARTS)
    network = BFRffusion(
        _built(path, _PARTS[0], unet, _unet),
        _built(path, _PARTS[1], vae, _vae),
        _built(path, _PARTS[2], prompt, _prompt),
        _built(path, _PARTS[3], features, _features),
    )
    network.vae.encoder = network.vae.quant_conv = None  # pyright: ignore[reportAttributeAccessIssue]
    return network.eval().requires_grad_(False)


State = dict[str, Tensor]
Build = Callable[[State], tuple[Any, State]]


def _built(path: Path, prefix: str, state: State, build: Build) -> Any:
    """A part of the checkpoint as a network that has exactly its tensors."""
    try:
        with torch.device("meta"):
            network, weights = build(state)
        if len(weights) != len(state):
            raise ValueError(f"{len(state)} tensors, of which {len(weights)} are known")
        network.load_state_dict(weights, assign=True)
    except Exception as error:  # whatever a key or a shape that cannot be leads to
        raise WrongArchitectureError(
            f"{path} resembles a BFRffusion checkpoint, but its {prefix}* does not fit "
            f"({type(error).__name__}: {str(error)[:300]}). Use the original file."
        ) from error
    return network


def _unet(state: State) -> tuple[UNet2DConditionModel, State]:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    width = len(state["input_blocks.0.0.weight"])
    attention = next(n for n in state if n.endswith(".attn2.to_k.weight"))
    config: dict[str, Any] = {
        "block_out_channels": [width * level for level in _LEVELS],
        # Named so by diffusers, and the number of heads.
        "attention_head_dim": [width * level // _HEAD_CHANNELS for level in _LEVELS],
        "cross_attention_dim": state[attention].shape[1],
        "use_linear_projection": True,
    }
    network = UNet2DConditionModel(**config)
    named = {f"{_PARTS[0]}{name}": tensor for name, tensor in state.items()}
    return network, convert_ldm_unet_checkpoint(named, network.config)


def _vae(state: State) -> tuple[AutoencoderKL, State]:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    width = len(state["encoder.conv_in.weight"])
    config: dict[str, Any] = {
        "block_out_channels": [width * level for level in _LEVELS],
        "down_block_types": ["DownEncoderBlock2D"] * len(_LEVELS),
        "up_block_types": ["UpDecoderBlock2D"] * len(_LEVELS),
        "layers_per_block": 2,
        "scaling_factor": LATENT_SCALE,
    }
    network = AutoencoderKL(**config)
    named = {f"{_PARTS[1]}{name}": tensor for name, tensor in state.items()}
    return network, convert_ldm_vae_checkpoint(named, network.config)


def _prompt(state: State) -> tuple[TimePrompt, State]:
    width, time_width = state["time_embed.0.weight"].shape
    tokens, context_width = state["learnable_param"].shape
    return TimePrompt(time_width, width, tokens, context_width), state


def _features(state: State) -> tuple[FaceFeatures, State]:
    time_width, width = state["time_embed.0.weight"].shape
    first, second, third = (len(state[f"encoder{n}.ffn.pwconw.weight"]) for n in (1, 2, 3))
    return FaceFeatures(width, time_width, (first, second, third)), state
