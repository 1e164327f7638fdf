"""Damage for clean faces: of a chosen kind, or as it was learned from pairs."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..bfr.damage.degrade import DEGRADATIONS, NO_DAMAGE, Degradation, degrade_faces
from ..bfr.errors import InputError
from ..bfr.pairs.damage import compare_damage, damage_of
from . import schemas
from .convert import to_comfy, to_core

UNDAMAGED = "none"
DAMAGES = (UNDAMAGED, *DEGRADATIONS)
AS_DAMAGE = -1.0  # what leaves an own setting to the kind of damage

# The settings of custom damage: display name, largest value, step and tooltip.
OWN = {
    "blur": ("blur", 50.0, 0.1, "Width of the blur in pixels of a 512 px face."),
    "downscale": ("reduction", 64.0, 0.1, "By what factor a face of 512 px is shrunk before it is "
                  "enlarged again. 0: not at all."),
    "noise": ("noise", 200.0, 0.5, "Strength of uniform grain, on a scale of 255."),
    "iso": ("camera ISO", 25600.0, 50.0, "Noise as a phone's camera makes it at this sensitivity: "
            "in colour, stronger in the dark, in blotches. 0: no camera."),
    "jpeg": ("JPEG quality", 100.0, 1.0, "Quality of the compression. 0: not compressed."),
    "screen": ("halftone", 64.0, 0.5, "Distance of a newspaper's dots in pixels of a 512 px face. "
               "0: no dots."),
    "fade": ("fading", 1.0, 0.01, "How far contrast falls and black lifts."),
    "tint": ("yellowing", 1.0, 0.01, "How yellow the paper is."),
}  # fmt: skip


def damage_input(default: str) -> io.Combo.Input:
    """The kind of damage."""
    return io.Combo.Input(
        "damage",
        display_name="damage",
        options=list(DAMAGES),
        default=default,
        tooltip="The kind of damage. gfpgan: the mixture of blur, noise and compression that "
        "restorers are trained on. newspaper and camera noise: damage that they are not trained "
        "on.",
    )


def chosen_damage(damage: str, **own: float) -> Degradation:
    """The ranges of a kind of damage, with the settings in place that are not `AS_DAMAGE`.

    Raises:
        InputError: if there is no such kind, or a JPEG quality is none.
    """
    if damage not in DAMAGES:
        raise InputError(f"damage must be one of {', '.join(DAMAGES)}, got {damage!r}.")
    changed: dict[str, tuple[float, float] | None] = {
        name: (value, value) for name, value in own.items() if value >= 0
    }
    if own.get("jpeg") == 0:
        changed["jpeg"] = None
    return replace(DEGRADATIONS.get(damage, NO_DAMAGE), **changed)


class DegradeFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_DegradeFaces",
            display_name="Degrade Faces",
            category=schemas.EXAMPLES,
            description="Damages clean faces in a chosen way, always the same for the same seed, "
            "so that you can see what a restorer makes of them and measure it against the clean "
            "ones.",
            search_aliases=[
                "damage",
                "add noise",
                "camera noise",
                "halftone",
                "synthetic degradation",
                "jpeg artifacts",
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    display_name="image",
                    tooltip="Aligned faces, or portraits that a face fills: blur and dots are "
                    "scaled to the size of the picture.",
                ),
                damage_input("gfpgan"),
                schemas.seed_input(
                    "Picks the exact damage within its kind; the same seed gives the same damage. "
                    "Each further picture of a batch uses the next seed."
                ),
                *(
                    io.Float.Input(
                        id,
                        display_name=name,
                        default=AS_DAMAGE,
                        min=AS_DAMAGE,
                        max=high,
                        step=step,
                        tooltip=f"{tooltip} -1: as the damage has it.",
                        advanced=True,
                    )
                    for id, (name, high, step, tooltip) in OWN.items()
                ),
                schemas.Damage.Input(
                    "learned",
                    display_name="learned damage",
                    optional=True,
                    tooltip="From Learn Damage: replaces the kind of damage above and all its "
                    "settings.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "damaged",
                    display_name="damaged",
                    tooltip="The damaged pictures, at their size.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        damage,
        seed,
        blur,
        downscale,
        noise,
        iso,
        jpeg,
        screen,
        fade,
        tint,
        learned=None,
    ) -> io.NodeOutput:
        own = {"blur": blur, "downscale": downscale, "noise": noise, "iso": iso, "jpeg": jpeg}
        ranges = chosen_damage(damage, **own, screen=screen, fade=fade, tint=tint)
        pixels, alpha = to_core(image)
        return io.NodeOutput(to_comfy(degrade_faces(pixels, learned or ranges, seed), alpha))


class LearnDamage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LearnDamage",
            display_name="Learn Damage",
            category=schemas.TUNE,
            description="Measures the damage of your own photographs on training pairs: blur, "
            "noise, fading, tint. Degrade Faces and Fine-tune Restorer apply it to clean faces.",
            search_aliases=["measure damage", "estimate degradation", "noise profile", "grain"],
            inputs=[
                schemas.Pairs.Input(
                    "pairs",
                    display_name="pairs",
                    tooltip="From Build, Load or Review Training Pairs, of photographs that are "
                    "damaged alike. Up to 96 of them are measured.",
                ),
                schemas.seed_input("Picks the damage shown in the picture."),
            ],
            outputs=[
                schemas.Damage.Output(
                    "damage",
                    display_name="damage",
                    tooltip="For Degrade Faces and Fine-tune Restorer.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="The damage in words and numbers; show it with Preview as Text.",
                ),
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="Some faces: pseudo target, real damage, and the damage as learned.",
                ),
            ],
        )

    @classmethod
    def execute(cls, pairs, seed) -> io.NodeOutput:
        damage = damage_of(pairs)
        return io.NodeOutput(
            damage,
            f"Learned from {len(damage)} faces: {damage.describe()}.",
            to_comfy(compare_damage(pairs, damage, seed)),
        )
