"""The node that measures restored faces, one result or two side by side."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as model_management
from comfy_api.latest import io

from ..bfr.errors import InputError
from ..bfr.faces.retinaface import load_detector
from ..bfr.quality import render
from ..bfr.quality.face_batch import Tools
from ..bfr.quality.measure import measure_sets
from ..bfr.quality.perceptual import load_distance
from ..bfr.quality.tables import compare
from . import memory, schemas
from .convert import to_comfy, to_core
from .progress import progress
from .review import words


def _name_input(id: str, default: str, of: str) -> io.String.Input:
    return io.String.Input(
        id,
        display_name=id.replace("_", " "),
        default=default,
        tooltip=f"What {of} are called in the table and the plot.",
    )


class MeasureFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_MeasureFaces",
            display_name="Measure Faces",
            category=schemas.MEASURE,
            description="Measures restored faces, and compares two results for the same faces: "
            "how sharp and natural they are, how like the damaged faces, how close to clean "
            "originals, and whether each is still the same person.",
            search_aliases=["psnr", "ssim", "lpips", "image quality", "evaluate", "niqe", "fid"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "restored",
                    display_name="restored",
                    tooltip="Restored aligned faces, all of one size.",
                ),
                _name_input("name", "first", "they"),
                _name_input("compared_name", "second", "the compared faces"),
                io.String.Input(
                    "extra",
                    display_name="extra figures",
                    default="",
                    placeholder="musiq, fid",
                    tooltip="More figures by their names in the pyiqa package, which must be "
                    "installed: fid, musiq, maniqa … Its licence and those of many of its networks "
                    "forbid commercial use.",
                    advanced=True,
                ),
                io.Image.Input(
                    "compared",
                    display_name="compared",
                    optional=True,
                    tooltip="The same faces by another restorer or with other settings.",
                ),
                io.Image.Input(
                    "reference",
                    display_name="reference",
                    optional=True,
                    tooltip="The clean originals of the same faces, if you have them: PSNR, SSIM "
                    "and the perceptual distance are measured against them.",
                ),
                io.Image.Input(
                    "given",
                    display_name="input",
                    optional=True,
                    tooltip="The damaged faces: shows how faithful colours and coarse shapes are "
                    "to them.",
                ),
                schemas.Detector.Input(
                    "detector",
                    display_name="detector",
                    optional=True,
                    tooltip="From Load Face Detector: finds the eyes, noses and mouths to compare. "
                    "Not connected: the embedded one.",
                ),
                schemas.recognizer_input("says whether a face is still the same person."),
            ],
            outputs=[
                io.String.Output(
                    "table",
                    display_name="table",
                    tooltip="The mean figures, and which way is better; show it with Preview as "
                    "Text.",
                ),
                io.Image.Output("plot", display_name="plot", tooltip="The figures as bars."),
            ],
        )

    @classmethod
    def execute(
        cls,
        restored,
        name,
        compared_name,
        extra,
        compared=None,
        reference=None,
        given=None,
        detector=None,
        recognizer=None,
    ) -> io.NodeOutput:
        sets = {name: restored}
        if compared is not None:
            if compared_name == name:
                raise InputError(
                    f"The two results need names of their own, got {name!r} twice. Rename one."
                )
            sets[compared_name] = compared
        device = model_management.get_torch_device()
        tools = Tools(distance=load_distance("auto", device))
        if reference is not None or given is not None:
            detector = detector or memory.manage_detector(load_detector())
            memory.load(detector)
            identity = memory.load_recognizer(recognizer)
            tools = replace(tools, detector=detector, identity=identity)
        tables = measure_sets(
            {called: to_core(faces, called)[0] for called, faces in sets.items()},
            reference=None if reference is None else to_core(reference, "reference")[0],
            given=None if given is None else to_core(given, "input")[0],
            tools=tools,
            extra=words(extra),
            device=device,
            on_step=progress(),
        )
        comparison = compare(tables)
        return io.NodeOutput(render.as_markdown(comparison), to_comfy(render.plot(comparison)))
