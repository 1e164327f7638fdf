"""The inputs of a whole chain on one node; `chain` says what they stand for."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.choices import MASKS
from ..bfr.faces.identity import LIMIT
from ..bfr.restore.enlarge import FACTORS
from . import schemas

FIDELITY = 0.5
GRAIN = 0.5
"""Enough that a face is not smooth in a grainy print, and half of the noise of a bad one."""


def restore_inputs() -> list[io.Input]:
    """The inputs of restoring: fidelity, strength and lock."""
    return [
        schemas.slider(
            "fidelity",
            "fidelity",
            FIDELITY,
            "For CodeFormer only: 0 gives the best looking face, 1 stays closest to the damaged "
            "one. Other restorers ignore it, and the report says so.",
            advanced=True,
        ),
        schemas.slider(
            "strength",
            "strength",
            1.0,
            "Blends between the damaged face (0) and the restored one (1).",
        ),
        schemas.slider(
            "lock",
            "low-frequency lock",
            0.0,
            "Keeps the input's own colours, light and coarse shapes, their faults included. 0 "
            "trusts the restorer, 1 locks them fully.",
            advanced=True,
        ),
    ]


def recognizer_input() -> io.Input:
    return schemas.recognizer_input("says for keep person whether a face is still the same person.")


def person_inputs(verb: str) -> list[io.Input]:
    """Photographs of a wanted person, and how unlike them a face may be; they were added later."""
    return [
        io.Image.Input(
            "person",
            display_name="person",
            optional=True,
            tooltip=f"One or more photographs of a person: {verb} only the faces that look like "
            "the largest face of one of them. Not connected: all.",
        ),
        schemas.slider(
            "person_limit",
            "person limit",
            LIMIT,
            "How unlike the person a face may be. 0.6 suits clear faces: two different people are "
            "0.84 apart on average. Raise it for damaged faces, at the risk of keeping strangers.",
            high=1.2,
            advanced=True,
            optional=True,
        ),
    ]


def keep_person_input() -> io.Float.Input:
    return schemas.slider(
        "keep_person",
        "keep person",
        0.5,
        "How strictly a face must stay the same person. Where the restored face is too far from "
        "the damaged one, less of the restoration is taken. 0 takes all of it, 1 allows the least "
        "change.",
        optional=True,
    )


def batch_size_input() -> io.Int.Input:
    return io.Int.Input(
        "batch_size",
        display_name="batch size",
        default=8,
        min=1,
        max=64,
        tooltip="Faces that go through the restorer at once; the result does not depend on it. It "
        "is halved automatically when memory runs out.",
        advanced=True,
    )


def paste_inputs() -> list[io.Input]:
    """The inputs of cutting faces out and pasting them, and of the batch."""
    return [
        io.Int.Input(
            "crop_size",
            display_name="crop size",
            default=0,
            min=0,
            max=2048,
            tooltip="Side in pixels at which faces are cut out. 0 uses the restorer's own size.",
            advanced=True,
        ),
        *schemas.mask_inputs(["auto", *MASKS], advanced=True),
        batch_size_input(),
    ]


def enlarge_inputs(default: str) -> list[io.Input]:
    """The inputs of enlarging and of matching grain.

    They were added later and are optional: a prompt that does not name them keeps its result.
    """
    return [
        io.Combo.Input(
            "enlarge",
            display_name="enlarge",
            options=[str(factor) for factor in FACTORS],
            default=default,
            optional=True,
            tooltip="A restorer works on faces of 256 or 512 pixels; in a small photograph, most "
            "of the restored detail is lost again. auto: enlarges until the faces have that size, "
            "at most 4 times and to 16 megapixels. 1: keeps the size.",
        ),
        schemas.grain_input(GRAIN),
    ]


def doubtful_input() -> io.Boolean.Input:
    return io.Boolean.Input(
        "doubtful",
        display_name="restore doubtful faces",
        default=False,
        optional=True,
        tooltip="Off: what is probably not a face (a hand, a badge, a book) is left alone, and the "
        "report says so. On: it is restored anyway.",
    )


def upscaler_input() -> io.UpscaleModel.Input:
    return io.UpscaleModel.Input(
        "upscaler",
        display_name="upscaler",
        optional=True,
        tooltip="From Load Upscale Model, of any factor: enlarges the whole photograph. Not "
        "connected: it is resampled.",
    )


def background_inputs() -> list[io.Input]:
    """The inputs of cleaning the rest of the photograph; added later, too."""
    return [
        schemas.slider(
            "background",
            "background",
            0.0,
            "Takes noise, grain and JPEG blocks out of the whole photograph, so that it fits the "
            "restored faces. 0: the rest of the photograph stays as it is. 0.5 keeps some grain.",
            optional=True,
        ),
        io.UpscaleModel.Input(
            "cleaner",
            display_name="cleaner",
            optional=True,
            tooltip="For background: a denoiser of 1× from Load Upscale Model. Not connected: the "
            "embedded network.",
        ),
    ]


def network_inputs() -> list[io.Input]:
    """The networks of a node that does the whole chain, all of them optional."""
    return [
        io.UpscaleModel.Input(
            "restorer",
            display_name="restorer",
            optional=True,
            tooltip="From Load Restorer or Load Upscale Model. Not connected: the "
            "embedded default.",
        ),
        schemas.Detector.Input(
            "detector",
            display_name="detector",
            optional=True,
            tooltip="From Load Face Detector. Not connected: the embedded default.",
        ),
        schemas.Parser.Input(
            "parser",
            display_name="parser",
            optional=True,
            tooltip="From Load Face Parser: blends along the face's true outline.",
        ),
    ]
