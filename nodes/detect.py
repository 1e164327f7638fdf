"""The nodes that find faces: detect, select."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..bfr.errors import InputError
from ..bfr.faces.detect import detect_faces
from ..bfr.faces.drawn import add_drawn_faces, painted_boxes
from ..bfr.faces.identity import LIMIT
from ..bfr.faces.numbering import number_faces
from ..bfr.faces.overlay import draw_faces, lay_out_faces
from ..bfr.faces.person import distances_to
from ..bfr.faces.retinaface import load_detector
from ..bfr.faces.select import SORTS, parse_numbers, select_faces
from ..bfr.records import FaceSet, counted
from ..bfr.restore.cuts import find_cuts, thumbnails
from ..bfr.restore.people import along_tracks
from . import memory, schemas
from .chain import embed_photographs
from .chain_inputs import person_inputs
from .convert import from_bounding_boxes, mask_to_core, to_bounding_boxes, to_comfy, to_core
from .progress import progress
from .sheet import show

AS_NUMBERED = "as numbered"


def person_distances(
    faces: FaceSet,
    person: Tensor,
    image: Tensor | None,
    detector: memory.ManagedDetector | None,
    recognizer: memory.ManagedIdentity | None,
    clip: bool,
) -> list[list[float]]:
    """The distances of faces from the person of some photographs, alone or through a clip.

    Raises:
        InputError: if there is no image to compare, or no face of the person.
    """
    if image is None:
        raise InputError(
            "person needs the image that the faces were detected in, got none. Connect the image, "
            "too."
        )
    identity, pixels = memory.load_recognizer(recognizer), to_core(image)[0]
    detector = detector or memory.manage_detector(load_detector())
    memory.load(detector)
    wanted = embed_photographs(person, detector, identity)
    distances = distances_to(pixels, faces, wanted, identity)
    if not clip:
        return distances
    return along_tracks(faces, distances, find_cuts(thumbnails(pixels)))


class DetectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_DetectFaces",
            display_name="Detect Faces",
            category=schemas.RESTORE,
            description="Finds every face in a photograph or batch, with five landmarks each. An "
            "image without faces is not an error.",
            search_aliases=["face detection", "find faces", "retinaface", "face boxes"],
            inputs=[
                io.Image.Input("image", display_name="image", tooltip="Photograph or batch."),
                schemas.Detector.Input(
                    "detector",
                    display_name="detector",
                    optional=True,
                    tooltip="From Load Face Detector. Not connected: the embedded default.",
                ),
                schemas.score_input(),
                schemas.min_size_input(),
                io.BoundingBox.Input(
                    "boxes",
                    display_name="boxes",
                    optional=True,
                    socketless=False,
                    default={"x": 0, "y": 0, "width": 512, "height": 512},  # which ComfyUI adds
                    force_input=True,
                    tooltip="Boxes drawn by hand, from Create Bounding Boxes, around missed faces, "
                    "from hairline to chin. When numbering by size, they come after the others.",
                ),
                schemas.numbering_input(),
                io.Mask.Input(
                    "painted",
                    display_name="painted",
                    optional=True,
                    tooltip="Missed faces, each painted over with a patch of its own from hairline "
                    "to chin: the mask of Load Image, painted in the Mask Editor.",
                ),
            ],
            outputs=[
                schemas.Faces.Output(
                    "faces", display_name="faces", tooltip="For Select Faces and Align Faces."
                ),
                io.Image.Output(
                    "overlay",
                    display_name="overlay",
                    tooltip="The image with each face boxed and numbered.",
                ),
                io.Int.Output(
                    "face_count", display_name="count", tooltip="Faces in the whole batch."
                ),
                io.BoundingBox.Output(
                    "bounding_boxes",
                    display_name="bounding boxes",
                    tooltip="The boxes in ComfyUI's own type, a list for each image.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How many faces there are, and what was seen in each drawn box.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        score,
        min_size,
        detector=None,
        boxes=None,
        numbering="size",
        painted=None,
    ) -> io.NodeOutput:
        images, _ = to_core(image)
        detector = detector or memory.manage_detector(load_detector())
        memory.load(detector)
        faces = detect_faces(images, detector, score=score, min_size=min_size, on_step=progress())
        drawn = from_bounding_boxes(boxes or [], len(images))
        if painted is not None:
            by_hand = painted_boxes(mask_to_core(painted), images)
            drawn = [own + other for own, other in zip(drawn, by_hand, strict=True)]
        faces, told = add_drawn_faces(images, faces, drawn, detector)
        if numbering != "size":  # by which they come, the drawn ones last
            faces = number_faces(faces, numbering)
        overlay = to_comfy(draw_faces(images, faces))
        report = f"{counted(faces.count, 'face')}\n{told}".strip()
        return io.NodeOutput(faces, overlay, faces.count, to_bounding_boxes(faces), report)


class SelectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        person, person_limit = person_inputs("keeps")
        return io.Schema(
            node_id="BFR_SelectFaces",
            display_name="Select Faces",
            category=schemas.RESTORE,
            description="Keeps some of the faces detected in each image: those with the given "
            "numbers that pass every filter, sorted and limited in number.",
            search_aliases=["filter faces", "pick face", "largest face", "face index"],
            inputs=[
                schemas.Faces.Input("faces", display_name="faces", tooltip="From Detect Faces."),
                io.Combo.Input(
                    "sort",
                    display_name="sort by",
                    options=[*SORTS, AS_NUMBERED],
                    default="size",
                    tooltip="The order of the kept faces; at most keeps the first of them. size "
                    "and score put the largest value first, as numbered keeps the order of their "
                    "numbers.",
                ),
                io.String.Input(
                    "indices",
                    display_name="numbers",
                    default="",
                    placeholder="all",
                    tooltip="Which faces to keep, by the numbers in the overlay of Detect Faces, "
                    "such as 1, 3. Empty keeps all.",
                ),
                io.Int.Input(
                    "limit",
                    display_name="at most",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Keep at most this many faces per image. 0 keeps all.",
                ),
                io.Int.Input(
                    "min_size",
                    display_name="minimum size",
                    default=0,
                    min=0,
                    max=8192,
                    tooltip="Drop faces whose box is smaller than this (longer side, pixels).",
                ),
                io.Int.Input(
                    "max_size",
                    display_name="maximum size",
                    default=0,
                    min=0,
                    max=65536,
                    tooltip="Drop faces whose box is larger than this (longer side, pixels). "
                    "0 sets no bound.",
                    advanced=True,
                ),
                schemas.slider(
                    "min_score",
                    "minimum score",
                    0.0,
                    "Drop faces the detector was less sure of.",
                    advanced=True,
                ),
                io.Mask.Input(
                    "mask",
                    display_name="mask",
                    optional=True,
                    tooltip="Keep only faces of which at least a tenth is painted. An unpainted "
                    "mask keeps all.",
                ),
                person,
                io.Image.Input(
                    "image",
                    display_name="image",
                    optional=True,
                    tooltip="The photographs that the faces were detected in, to compare them with "
                    "the person, and to show the first here: click its faces to take them out or "
                    "in.",
                ),
                person_limit,
                schemas.Detector.Input(
                    "detector",
                    display_name="detector",
                    optional=True,
                    tooltip="Finds the face in the photographs of the person. Not connected: the "
                    "embedded default.",
                ),
                schemas.recognizer_input("says which faces are the person's."),
                io.Boolean.Input(
                    "clip",
                    display_name="frames of a clip",
                    default=False,
                    optional=True,
                    tooltip="On: the images are the frames of one clip, and a face is judged once "
                    "for all the frames it is followed through, by its median distance. Off: each "
                    "image is judged by itself.",
                    advanced=True,
                ),
            ],
            outputs=[
                schemas.Faces.Output(
                    "selected_faces", display_name="faces", tooltip="The kept faces."
                ),
                io.Int.Output(
                    "face_count", display_name="count", tooltip="Kept faces in the whole batch."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        faces,
        sort,
        indices,
        limit,
        min_size,
        max_size,
        min_score,
        mask=None,
        person=None,
        image=None,
        person_limit=LIMIT,
        detector=None,
        recognizer=None,
        clip=False,
    ) -> io.NodeOutput:
        distances = None
        if person is not None:
            distances = person_distances(faces, person, image, detector, recognizer, clip)
        selected = select_faces(
            faces,
            sort=None if sort == AS_NUMBERED else sort,
            indices=parse_numbers(indices),
            min_size=min_size,
            max_size=max_size or None,
            min_score=min_score,
            mask=None if mask is None else mask_to_core(mask),
            distances=distances,
            max_distance=person_limit,
            limit=limit or None,
        )
        return io.NodeOutput(selected, selected.count, ui=_first_image(faces, image))


def _first_image(faces: FaceSet, image: Tensor | None) -> dict[str, Any] | None:
    """The first image with its faces, for web/faces.js to choose by clicks."""
    if image is None or not faces.faces or not faces.faces[0]:
        return None
    if (len(image), *image.shape[1:3]) != (len(faces.faces), *faces.image_size):
        return None
    first = FaceSet(faces.faces[:1], faces.image_size)
    sheet = lay_out_faces(to_core(image[:1])[0], first)
    return show(sheet, [{"number": number} for number in range(1, first.count + 1)])
