"""The nodes that restore: aligned crops, or a whole photograph at once."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.choices import MASKS
from ..bfr.faces.retinaface import load_detector
from ..bfr.records import counted
from ..bfr.restore.enlarge import FACTORS, check_factor, enlarge_mask
from ..bfr.restore.keep_person import keep_person as kept
from ..bfr.restore.photo import RestoredPhoto, RestoreSettings, crop_size_of, restore_photo
from ..bfr.restore.restorer import load_restorer, restore_faces
from ..bfr.restore.summary import summary
from . import memory, schemas
from .convert import mask_to_comfy, to_comfy, to_core

FIDELITY = 0.5
IGNORED = "\nfidelity: ignored by this restorer (CodeFormer has it)"
GRAIN = 0.5
"""Enough that a face is not smooth in a grainy print, and half of the noise of a bad one."""


def restore_inputs() -> list[io.Input]:
    """How the faces of a photograph are restored."""
    return [*_blend_inputs(), lock_input()]


def _blend_inputs() -> list[io.Input]:
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
    ]


def lock_input() -> io.Float.Input:
    return schemas.slider(
        "lock",
        "low-frequency lock",
        0.0,
        "Keeps the input's own colours, light and coarse shapes, their faults included. 0 trusts "
        "the restorer, 1 locks them fully.",
        advanced=True,
    )


def keep_person_input() -> io.Float.Input:
    return schemas.slider(
        "keep_person",
        "keep person",
        0.5,
        "How little a face may become somebody else: where a restored face is farther from the "
        "damaged one's person than that, less of it is taken. 0 takes all of it, 1 allows the "
        "least change.",
        optional=True,
    )


def batch_size_input() -> io.Int.Input:
    return io.Int.Input(
        "batch_size",
        display_name="batch size",
        default=8,
        min=1,
        max=64,
        tooltip="Faces that go through the restorer at once; the result does not depend on it. "
        "It is halved by itself when memory runs out.",
        advanced=True,
    )


def crop_size_input() -> io.Int.Input:
    return io.Int.Input(
        "crop_size",
        display_name="crop size",
        default=0,
        min=0,
        max=2048,
        tooltip="Side in pixels at which faces are cut out. 0 takes the restorer's own size.",
        advanced=True,
    )


def enlarge_inputs(default: str) -> list[io.Input]:
    """How a photograph is enlarged and its grain matched.

    They came later and are optional: a prompt that does not name them keeps its result.
    """
    return [
        io.Combo.Input(
            "enlarge",
            display_name="enlarge",
            options=[str(factor) for factor in FACTORS],
            default=default,
            optional=True,
            tooltip="A restorer sees a face at 256 or 512 pixels; pasted into a small photograph, "
            "most of what it found is lost. auto: enlarges until the faces have that size, at most "
            "4 times and to 16 megapixels. 1: keeps the size.",
        ),
        schemas.grain_input(GRAIN if default == "auto" else 0.0),
    ]


def upscaler_input() -> io.UpscaleModel.Input:
    return io.UpscaleModel.Input(
        "upscaler",
        display_name="upscaler",
        optional=True,
        tooltip="From Load Upscale Model, of any factor: enlarges the whole photograph. Not "
        "connected: it is resampled.",
    )


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


def to_factor(enlarge: str) -> int | str:
    """What the core takes for a choice of `enlarge_inputs`."""
    check_factor(factor := enlarge if enlarge == "auto" else int(enlarge))
    return factor


class RestoreFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_RestoreFaces",
            display_name="Restore Faces",
            category=schemas.RESTORE,
            description="Runs aligned face crops through a restorer, a batch at a time. Each "
            "crop is resized to the network's own size and back.",
            search_aliases=[
                "face restoration",
                "gfpgan",
                "codeformer",
                "fix faces",
                "face enhance",
                "deblur face",
                "denoise face",
            ],
            inputs=[
                io.Image.Input(
                    "crops", display_name="crops", tooltip="Aligned faces, from Align Faces."
                ),
                io.UpscaleModel.Input(
                    "restorer",
                    display_name="restorer",
                    optional=True,
                    tooltip="From Load Restorer, or a face restorer from Load Upscale Model. Not "
                    "connected: the embedded default.",
                ),
                *_blend_inputs(),
                lock_input(),
                io.Int.Input(
                    "lock_factor",
                    display_name="low-pass factor",
                    default=16,
                    min=2,
                    max=64,
                    tooltip="What counts as low frequency for the lock: detail that survives "
                    "shrinking the crop this many times. Larger locks less. It must divide the "
                    "crop size.",
                    advanced=True,
                ),
                batch_size_input(),
                keep_person_input(),
            ],
            outputs=[
                io.Image.Output(
                    "restored_crops",
                    display_name="crops",
                    tooltip="The restored faces, at the size they came in.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        crops,
        fidelity,
        strength,
        lock,
        lock_factor,
        batch_size,
        restorer=None,
        keep_person=0.0,
    ) -> io.NodeOutput:
        faces, _ = to_core(crops, "crops")
        restorer = memory.manage_restorer(restorer or load_restorer())
        if len(faces):
            memory.load(restorer, faces=min(batch_size, len(faces)))
        restored = restore_faces(
            faces,
            restorer,
            fidelity=fidelity,
            strength=strength,
            lock=lock,
            lock_factor=lock_factor,
            batch_size=batch_size,
            on_step=memory.progress(),
        )
        if keep_person and len(faces):
            identity = memory.load_identity()
            restored = kept(faces, restored, None, identity, keep_person).crops
        return io.NodeOutput(to_comfy(restored))


class RestorePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_RestorePhoto",
            display_name="Restore Photo",
            category=schemas.RESTORE,
            description="Finds, restores and pastes back every face of a photograph or batch, "
            "in one node. Without a connected restorer or detector it uses the embedded ones. "
            "A photograph without faces passes through unchanged, and the report says so.",
            search_aliases=[
                "face restoration",
                "restore old photo",
                "gfpgan",
                "codeformer",
                "face enhance",
                "fix faces",
                "face detailer",
                "adetailer",
                "face upscale",
                "denoise face",
                "deblur",
                "deblur face",
                "restoreface",
            ],
            inputs=[
                io.Image.Input("image", display_name="image", tooltip="Photograph or batch."),
                *restore_inputs(),
                schemas.score_input(advanced=True),
                schemas.min_size_input(advanced=True),
                crop_size_input(),
                *schemas.mask_inputs(["auto", *MASKS], advanced=True),
                batch_size_input(),
                *network_inputs(),
                *enlarge_inputs("auto"),
                io.Boolean.Input(
                    "doubtful",
                    display_name="restore doubtful faces",
                    default=False,
                    optional=True,
                    tooltip="Off: what is hardly a face (a hand, a badge, a book) is left alone, "
                    "and the report says so. On: it is restored all the same.",
                ),
                upscaler_input(),
                keep_person_input(),
            ],
            outputs=[
                io.Image.Output(
                    "restored_image", display_name="image", tooltip="The restored photograph."
                ),
                io.Mask.Output(
                    "face_mask", display_name="mask", tooltip="Where faces were blended in."
                ),
                io.Int.Output(
                    "face_count", display_name="count", tooltip="Faces in the whole batch."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was found in each image; show it with Preview as Text.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        fidelity,
        strength,
        lock,
        score,
        min_size,
        crop_size,
        mask_mode,
        feather,
        colour_match,
        batch_size,
        restorer=None,
        detector=None,
        parser=None,
        enlarge="1",
        grain=0.0,
        doubtful=True,
        upscaler=None,
        keep_person=0.0,
    ) -> io.NodeOutput:
        images, alpha = to_core(image)
        detector = detector or memory.manage_detector(load_detector())
        restorer = memory.manage_restorer(restorer or load_restorer())
        settings = RestoreSettings(
            score=score,
            min_size=min_size,
            crop_size=crop_size or None,
            fidelity=fidelity,
            strength=strength,
            lock=lock,
            keep_person=keep_person,
            colour=colour_match,
            mask=mask_mode,
            feather=feather,
            batch_size=batch_size,
            enlarge=to_factor(enlarge),
            grain=grain,
            doubtful=doubtful,
        )
        upscaler = memory.manage_upscaler(upscaler)
        memory.load(detector, restorer, parser, upscaler, faces=batch_size)
        photo = restore_photo(
            images,
            detector,
            restorer,
            settings,
            parser=parser,
            on_step=memory.progress(),
            upscaler=upscaler,
            identity=memory.load_identity(),
        )
        ignored = "" if fidelity == FIDELITY or restorer.uses_fidelity else IGNORED
        alpha = None if alpha is None else enlarge_mask(alpha, photo.factor)
        return io.NodeOutput(
            to_comfy(photo.images, alpha),
            mask_to_comfy(photo.masks),
            photo.faces.count,
            report(photo, crop_size_of(settings, restorer)) + ignored,
        )


def report(photo: RestoredPhoto, crop_size: int) -> str:
    """A sentence for each image, and its faces; images of a batch are counted from 1."""
    lines, size = [], (photo.images.shape[2], photo.images.shape[3])
    if len(photo.images) != 1:
        total = counted(photo.faces.count, "face")
        lines.append(f"{total} restored in {counted(len(photo.images), 'image')}")
    persons = map(photo.people.describe, range(photo.faces.count))
    parts = zip(photo.faces.faces, photo.left.faces, strict=True)
    for index, (faces, left) in enumerate(parts, 1):
        name = f"image {index}: " if len(photo.images) > 1 else ""
        told = summary(faces, left, crop_size=crop_size, factor=photo.factor, size=size)
        sizes = "; ".join(
            f"{face.size:.0f} px, score {face.score:.2f}, {next(persons)}" for face in faces
        )
        lines.append(name + told + (f" [{sizes}]" if sizes else ""))
    return "\n".join(lines)
