"""The nodes that restore: aligned crops, or a whole photograph at once."""

from __future__ import annotations

from comfy_api.latest import io

from ..bfr.faces.identity import LIMIT
from ..bfr.faces.select import parse_numbers
from ..bfr.records import counted
from ..bfr.restore.enlarge import enlarge_mask
from ..bfr.restore.keep_person import keep_person as kept
from ..bfr.restore.load import load_restorer
from ..bfr.restore.photo import RestoredPhoto, restore_photo
from ..bfr.restore.restorer import restore_faces
from ..bfr.restore.settings import RestoreSettings, crop_size_of
from ..bfr.restore.summary import summary
from . import memory, schemas
from .chain import ChainInputs, load_networks, load_person
from .chain_inputs import (
    FIDELITY,
    background_inputs,
    batch_size_input,
    doubtful_input,
    enlarge_inputs,
    keep_person_input,
    network_inputs,
    paste_inputs,
    person_inputs,
    recognizer_input,
    restore_inputs,
    upscaler_input,
)
from .convert import mask_to_comfy, mask_to_core, to_comfy, to_core
from .in_front import keep_in_front_input
from .progress import progress

IGNORED = "\nfidelity: ignored by this restorer (CodeFormer has it)"


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
                *restore_inputs(),
                io.Int.Input(
                    "lock_factor",
                    display_name="low-pass factor",
                    default=16,
                    min=2,
                    max=64,
                    tooltip="What the lock counts as low frequency: detail that survives shrinking "
                    "the crop this many times. Higher locks less. It must divide the crop size.",
                    advanced=True,
                ),
                batch_size_input(),
                keep_person_input(),
                recognizer_input(),
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
        recognizer=None,
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
            on_step=progress(),
        )
        if keep_person and len(faces):
            identity = memory.load_recognizer(recognizer)
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
                *paste_inputs(),
                *network_inputs(),
                *enlarge_inputs("auto"),
                doubtful_input(),
                upscaler_input(),
                keep_person_input(),
                *background_inputs(),
                keep_in_front_input(),
                recognizer_input(),
                io.String.Input(
                    "numbers",
                    display_name="faces",
                    default="",
                    placeholder="all",
                    optional=True,
                    tooltip="Which faces to restore, by the numbers in the overlay of Detect "
                    "Faces, such as 1, 3; doubtful or not. Empty: all.",
                    advanced=True,
                ),
                schemas.numbering_input(advanced=True),
                io.Mask.Input(
                    "wanted",
                    display_name="faces mask",
                    optional=True,
                    tooltip="Restore only faces of which at least a tenth is painted. An "
                    "unpainted mask, or none: all.",
                ),
                *person_inputs("restores"),
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
        restorer=None,
        detector=None,
        parser=None,
        upscaler=None,
        doubtful=True,
        background=0.0,
        cleaner=None,
        numbers="",
        numbering="size",
        wanted=None,
        person=None,
        person_limit=LIMIT,
        **chain,
    ) -> io.NodeOutput:
        images, alpha = to_core(image)
        inputs = ChainInputs(**chain)
        settings = inputs.settings(
            RestoreSettings,
            doubtful=doubtful,
            background=background,
            numbers=parse_numbers(numbers),
            numbering=numbering,
        )
        wanted = None if wanted is None else mask_to_core(wanted)
        networks = load_networks(detector, restorer, parser, upscaler, inputs)
        cleaner = memory.load_cleaner(cleaner) if background else None
        photo = restore_photo(
            images,
            settings=settings,
            on_step=progress(),
            cleaner=cleaner,
            wanted=wanted,
            person=load_person(person, person_limit, networks),
            **networks,
        )
        restorer = networks["restorer"]
        ignored = "" if inputs.fidelity == FIDELITY or restorer.uses_fidelity else IGNORED
        alpha = None if alpha is None else enlarge_mask(alpha, photo.factor)
        return io.NodeOutput(
            to_comfy(photo.images, alpha),
            mask_to_comfy(photo.masks),
            photo.faces.count,
            report(photo, crop_size_of(settings, restorer), background) + ignored,
        )


def report(photo: RestoredPhoto, crop_size: int, background: float = 0.0) -> str:
    """A sentence for each image, and its faces; images of a batch are counted from 1."""
    lines, size = [], (photo.images.shape[2], photo.images.shape[3])
    if len(photo.images) != 1:
        total = counted(photo.faces.count, "face")
        lines.append(f"{total} restored in {counted(len(photo.images), 'image')}")
    persons, covered = map(photo.people.describe, range(photo.faces.count)), iter(photo.covered)
    found = photo.resemblance
    parts = zip(photo.faces.faces, photo.left.faces, strict=True)
    for index, (faces, left) in enumerate(parts, 1):
        name = f"image {index}: " if len(photo.images) > 1 else ""
        told = summary(
            faces,
            left,
            crop_size=crop_size,
            factor=photo.factor,
            size=size,
            background=background,
            covered=[next(covered) for _ in faces],
            person=None if found is None else (found.chosen[index - 1], found.others[index - 1]),
        )
        sizes = "; ".join(
            f"{face.size:.0f} px, score {face.score:.2f}, {next(persons)}" for face in faces
        )
        lines.append(name + told + (f" [{sizes}]" if sizes else ""))
    return "\n".join(lines)
