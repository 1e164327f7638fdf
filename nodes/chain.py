"""The settings, networks and person that the inputs of a whole chain stand for.

Restore Photo, Restore Folder and Restore Video Faces share it; `chain_inputs` has the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from torch import Tensor

from ..bfr.faces.detect import detect_faces
from ..bfr.faces.identity import Identity
from ..bfr.faces.occlusion import Occlusion
from ..bfr.faces.parsing import Parser
from ..bfr.faces.person import Person, embed_person
from ..bfr.faces.retinaface import Detector, load_detector
from ..bfr.restore.enlarge import check_factor
from ..bfr.restore.load import load_restorer
from ..bfr.restore.restorer import Restorer
from ..bfr.restore.settings import RestoreSettings
from ..bfr.restore.upscale import Upscaler
from . import memory
from .convert import to_core
from .in_front import split_parser

Settings = TypeVar("Settings", bound=RestoreSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainInputs:
    """The values of a node of the whole chain, by the ids of its inputs.

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
    """The connected networks, and the embedded defaults of others, on the computing device.

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
