"""Face restoration for damaged photographs: the headless core of Face Restoration Tuner.

The names below are the front door; each is imported from its room when it is first used, so
``import bfr`` alone loads nothing. The folders follow the data, and each imports only from
itself and from those before it (``tests/test_layers.py`` checks this)::

    choices, errors, records -> image, runtime -> files -> damage -> faces -> restore
    -> quality -> prior -> pairs -> finetune -> cluster -> cli

Nothing here knows ComfyUI, asks for a device, downloads, prints or works at import.
Images are BCHW float32 RGB in [0, 1]; points are (x, y) pixels with pixel centres on
whole numbers; sizes are (height, width).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .damage.degrade import degrade_faces
    from .errors import FaceRestorationError
    from .faces.align import align_faces
    from .faces.detect import detect_faces
    from .faces.identity import identity_distance, load_identity
    from .faces.occlusion import load_occlusion
    from .faces.parsing import load_parser
    from .faces.paste import paste_faces
    from .faces.retinaface import load_detector
    from .faces.select import select_faces
    from .files.photos import Photo, read_photo
    from .files.sources import find_sources
    from .files.writing import write_photo
    from .finetune.loop import finetune as finetune_restorer
    from .finetune.save import save_restorer
    from .finetune.settings import FinetuneSettings
    from .pairs.build import build_pairs
    from .pairs.folder import read_pairs
    from .pairs.settings import PairSettings
    from .prior.constraint import Constraint
    from .prior.load import load_prior
    from .prior.sample import SampleSettings, sample_targets
    from .quality.measure import measure_faces
    from .restore.clip import restore_video
    from .restore.load import load_restorer
    from .restore.photo import restore_photo
    from .restore.restorer import restore_faces
    from .restore.settings import RestoreSettings

_ROOMS = {
    "damage.degrade": ("degrade_faces",),
    "errors": ("FaceRestorationError",),
    "faces.align": ("align_faces",),
    "faces.detect": ("detect_faces",),
    "faces.identity": ("identity_distance", "load_identity"),
    "faces.occlusion": ("load_occlusion",),
    "faces.parsing": ("load_parser",),
    "faces.paste": ("paste_faces",),
    "faces.retinaface": ("load_detector",),
    "faces.select": ("select_faces",),
    "files.photos": ("Photo", "read_photo"),
    "files.sources": ("find_sources",),
    "files.writing": ("write_photo",),
    "finetune.loop": ("finetune_restorer",),
    "finetune.save": ("save_restorer",),
    "finetune.settings": ("FinetuneSettings",),
    "pairs.build": ("build_pairs",),
    "pairs.folder": ("read_pairs",),
    "pairs.settings": ("PairSettings",),
    "prior.constraint": ("Constraint",),
    "prior.load": ("load_prior",),
    "prior.sample": ("SampleSettings", "sample_targets"),
    "quality.measure": ("measure_faces",),
    "restore.clip": ("restore_video",),
    "restore.load": ("load_restorer",),
    "restore.photo": ("restore_photo",),
    "restore.restorer": ("restore_faces",),
    "restore.settings": ("RestoreSettings",),
}
PLACES = {name: room for room, names in _ROOMS.items() for name in names}
# A name that its room cannot have: the folder `finetune` is an attribute of this module already.
_OWN_NAMES = {"finetune_restorer": "finetune"}

__all__ = [  # noqa: RUF022 (in the order of the work)
    "FaceRestorationError",
    "Photo",
    "read_photo",
    "write_photo",
    "find_sources",
    "load_detector",
    "load_parser",
    "load_identity",
    "load_occlusion",
    "load_restorer",
    "load_prior",
    "detect_faces",
    "select_faces",
    "align_faces",
    "restore_faces",
    "paste_faces",
    "RestoreSettings",
    "restore_photo",
    "restore_video",
    "Constraint",
    "SampleSettings",
    "sample_targets",
    "PairSettings",
    "build_pairs",
    "read_pairs",
    "FinetuneSettings",
    "finetune_restorer",
    "save_restorer",
    "degrade_faces",
    "measure_faces",
    "identity_distance",
]


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        if name.endswith("Error") and hasattr(found := import_module(".errors", __name__), name):
            return getattr(found, name)  # errors name this module as theirs, also when pickled
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = import_module(f".{PLACES[name]}", __name__)
    return getattr(room, _OWN_NAMES.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
