"""The whole chain on one node: its inputs, and the settings and networks they stand for.

Restore Photo, Restore Folder and Restore Video Faces share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from comfy_api.latest import io
from torch import Tensor

from ..bfr.choices import MASKS
from ..bfr.faces.detect import detect_faces
from ..bfr.faces.identity import LIMIT, Identity
from ..bfr.faces.occlusion import Occlusion
from ..bfr.faces.parsing import Parser
from ..bfr.faces.person import Person, embed_person
from ..bfr.faces.retinaface import Detector, load_detector
from ..bfr.restore.enlarge import FACTORS, check_factor
from ..bfr.restore.load import load_restorer
from ..bfr.restore.restorer import Restorer
from ..bfr.restore.settings import RestoreSettings
from ..bfr.restore.upscale import Upscaler
from . import memory, schemas
from .convert import to_core
from .in_front import split_parser

FIDELITY = 0.5
GRAIN = 0.5
"""Enough that a face is not smooth in a grainy print, and half of the noise of a bad one."""

Settings = TypeVar("Settings", bound=RestoreSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainInputs:
    """What a node of the whole chain is set to, by the ids of its inputs.

    The last five were added later. Their defaults are for prompts that do not name them, which keep
    their results; a new node starts with the defaults of its schema.
    """

    fidelity: float
    strength: float
    lock: float
    score: float
    min_size: int
    crop_size: int
    mask_mode: str
    feather: float
    colour_match: str
    batch_size: int
    enlarge: str = "1"
    grain: float = 0.0
    keep_person: float = 0.0
    keep_in_front: bool = False
    recognizer: Any = None

    def settings(self, kind: type[Settings], **own: Any) -> Settings:
        """The core's settings.

        Args:
            kind: `RestoreSettings`, or those of a clip.
            own: what only some of the nodes can be set to.

        Raises:
            InputError: if ``enlarge`` is no factor.
        """
        check_factor(factor := self.enlarge if self.enlarge == "auto" else int(self.enlarge))
        return kind(
            score=self.score,
            min_size=self.min_size,
            crop_size=self.crop_size or None,
            fidelity=self.fidelity,
            strength=self.strength,
            lock=self.lock,
            keep_person=self.keep_person,
            colour=self.colour_match,
            mask=self.mask_mode,
            feather=self.feather,
            batch_size=self.batch_size,
            enlarge=factor,
            grain=self.grain,
            **own,
        )


class Networks(TypedDict):
    """The networks of the chain, by the core's names for them, managed by ComfyUI."""

    detector: Detector
    restorer: Restorer
    parser: Parser | None
    upscaler: Upscaler | None
    identity: Identity
    occlusion: Occlusion | None


def load_networks(
    detector: Any,
    restorer: Any,
    parser: Any,
    upscaler: Any,
    inputs: ChainInputs,
) -> Networks:
    """What is connected, and the embedded default for what is not, on the computing device.

    Args:
        detector, restorer, parser, upscaler: from their sockets; None where nothing is connected.
        inputs: what the node is set to.
    """
    detector = detector or memory.manage_detector(load_detector())
    restorer = memory.manage_restorer(restorer or load_restorer())
    upscaler = memory.manage_upscaler(upscaler)
    parser, occlusion = split_parser(parser, inputs.keep_in_front)
    managed = (detector, restorer, parser, upscaler, occlusion)
    memory.load(*managed, faces=inputs.batch_size)
    return {
        "detector": detector,
        "restorer": restorer,
        "parser": parser,
        "upscaler": upscaler,
        "identity": memory.load_recognizer(inputs.recognizer),
        "occlusion": occlusion,
    }


def load_person(photographs: Any, limit: float, networks: Networks) -> Person | None:
    """The person in photographs, B×H×W×C; None where nothing is connected.

    Raises:
        InputError: if one of them shows no face.
    """
    if photographs is None:
        return None
    return Person(embed_photographs(photographs, networks["detector"], networks["identity"]), limit)


def embed_photographs(photographs: Any, detector: Detector, identity: Identity) -> Tensor:
    """K×D embeddings of the person in photographs, B×H×W×C.

    Raises:
        InputError: if one of them shows no face.
    """
    pixels = to_core(photographs, "person")[0]
    return embed_person(pixels, detect_faces(pixels, detector), identity)


def restore_inputs() -> list[io.Input]:
    """How the faces of a photograph are restored: fidelity, strength and lock."""
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
    """At what size faces are cut out, how they are pasted, and how many at once."""
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
    """How a photograph is enlarged and its grain matched.

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


def upscaler_input() -> io.UpscaleModel.Input:
    return io.UpscaleModel.Input(
        "upscaler",
        display_name="upscaler",
        optional=True,
        tooltip="From Load Upscale Model, of any factor: enlarges the whole photograph. Not "
        "connected: it is resampled.",
    )


def background_inputs() -> list[io.Input]:
    """How much the rest of the photograph is cleaned, and by what; added later, too."""
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
