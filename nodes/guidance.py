"""The inputs that say how a pseudo target is sampled; they come to `bfr.prior.guidance`."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.choices import FREEDOM, HOLDS, SAMPLERS
from ..bfr.prior.guidance import Guidance
from .schemas import seed_input, slider

STEPS = 250  # into which the paper divides the noise


def step_slider(id: str, display_name: str, tooltip: str) -> io.Int.Input:
    """An INT input for a sampling step, drawn as a slider; 0 is automatic."""
    return io.Int.Input(
        id,
        display_name=display_name,
        default=0,
        min=0,
        max=STEPS,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
        advanced=True,
    )


def factor_input(
    default: int, tooltip: str, low: int = 1, advanced: bool | None = None
) -> io.Int.Input:
    return io.Int.Input(
        "factor",
        display_name="low-pass factor",
        default=default,
        min=low,
        max=64,
        tooltip=tooltip,
        advanced=advanced,
    )


def strength_input(advanced: bool | None = None) -> io.Float.Input:
    return slider(
        "strength",
        "strength",
        1.0,
        "How firmly the coarse shapes are held. 1: fully. Lower: the model may bend them. 0: not "
        "at all, the face drifts towards somebody else's.",
        advanced=advanced,
    )


def guidance_inputs() -> list[io.Input]:
    """The inputs of sampling; shared by all nodes that sample pseudo targets.

    A node lists `slider_inputs` too, behind all its other widgets.
    """
    return [
        step_slider(
            "start",
            "start",
            "How far the guess is dissolved into noise before it is painted again, in steps of "
            "250. Higher: more repair and new detail, less likeness. 0: follows freedom. Setting "
            "it chooses the paper's hold, unless hold says soft.",
        ),
        step_slider(
            "stop",
            "stop",
            "For the paper's hold: the step down to which the guess holds the coarse shapes; "
            "below it the prior paints freely. Must be below start. 0: follows freedom if start "
            "is 0 too, else holds to the end.",
        ),
        factor_input(
            0,
            "How coarse the held shapes are: what survives shrinking the face this many times. "
            "Higher: more freedom, less likeness. The paper takes 8, and 16 after SwinIR. Must "
            "divide the prior's size: 2, 4, 8, 16 or 32. 0: follows freedom.",
            low=0,
            advanced=True,
        ),
        strength_input(advanced=True),
        io.Combo.Input(
            "sampler",
            display_name="sampler",
            options=list(SAMPLERS),
            default=Guidance().sampler,
            tooltip="How the noise is removed. dpm-solver++ and unipc need few calls. ddim adds "
            "texture with eta. ddpm is the paper's: fresh noise at every step, for calls 0.",
            advanced=True,
        ),
        io.Int.Input(
            "calls",
            display_name="network calls",
            default=Guidance().calls,
            min=0,
            max=STEPS,
            tooltip="How often the network sees each face. 8 are enough for dpm-solver++ and "
            "unipc. 0: once per step from start, as in the paper.",
            advanced=True,
        ),
        seed_input(
            "Sets the noise, and with it the invented detail: another seed gives different hairs "
            "and pores on the same face. Each further face of a batch uses the next seed."
        ),
        slider(
            "eta",
            "eta",
            0.0,
            "Fresh noise at every step of the ddim sampler: 0 none, smoother faces; 1 as much "
            "as ddpm, more texture. The other samplers ignore it.",
            advanced=True,
        ),
        io.Int.Input(
            "steps",
            display_name="steps",
            default=STEPS,
            min=10,
            max=1000,
            tooltip="The number of steps that the prior's whole noise schedule is divided into; "
            "start and stop count in these. Keep the paper's 250 to compare settings with others.",
            advanced=True,
        ),
        io.Boolean.Input(
            "suit_prior",
            display_name="suit the prior",
            default=True,
            tooltip="start, stop, factor and error are meant for faces of 512 px, as in the paper. "
            "On: they are converted for a prior of another size; the report gives both. Off: they "
            "are used as they are.",
            advanced=True,
        ),
    ]


def slider_inputs(freedom: float = FREEDOM) -> list[io.Input]:
    """The sliders for artists; optional and last, so that older workflows keep their meaning."""
    defaults = Guidance()
    return [
        slider(
            "freedom",
            "freedom",
            freedom,
            "0: exactly this face. 1: a new face like it. Moves start, low-pass factor and error "
            "together wherever they are 0 (under advanced).",
            optional=True,
        ),
        slider(
            "detail",
            "detail",
            defaults.detail,
            "Fine detail of the painted face. 0: the prior's own. Higher: crisper skin and hair. "
            "Lower: softer. For the soft hold.",
            low=-1.0,
            optional=True,
        ),
        io.Combo.Input(
            "hold",
            display_name="hold",
            options=list(HOLDS),
            default=defaults.hold,
            tooltip="soft: the predicted face is pulled to the guess, less and less as the noise "
            "falls. paper: replaces the low frequencies from start down to stop. auto: soft, or "
            "paper where start or stop is set, as in older workflows.",
            advanced=True,
            optional=True,
        ),
        slider(
            "error",
            "error",
            defaults.error,
            "For the soft hold: how wrong the guess may be, as noise on a face in [-1, 1] at 512 "
            "px. Higher lets go of it earlier. 0: follows freedom, and from a freedom of 0.25 on "
            "edges are let go of later than smooth skin.",
            high=4.0,
            advanced=True,
            optional=True,
        ),
    ]


def sampled_at_once_input() -> io.Int.Input:
    return io.Int.Input(
        "batch_size",
        display_name="batch size",
        default=4,
        min=1,
        max=64,
        tooltip="Faces sampled at once; the result does not depend on it. It is halved "
        "automatically when memory runs out.",
        advanced=True,
    )
