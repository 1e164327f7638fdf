"""The nodes that load networks: embedded ones, files of the user's, published ones on request."""

from __future__ import annotations

from typing import Any

import torch
from comfy import model_management
from comfy_api.latest import io

from ..bfr.choices import AUTO, PRECISIONS, PRIOR_PRESETS, REGIONS
from ..bfr.faces.identity import load_identity
from ..bfr.faces.occlusion import load_occlusion
from ..bfr.faces.parsing import load_parser
from ..bfr.faces.retinaface import load_detector
from ..bfr.prior.load import load_prior
from ..bfr.restore.load import load_restorer
from ..bfr.runtime.precision import chosen_precision, convert
from . import memory, schemas
from .folders import fingerprint, get_file
from .weights import chosen_file, download_input, name_input


class LoadFaceDetector(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadFaceDetector",
            display_name="Load Face Detector",
            category=schemas.RESTORE,
            description="Loads the network that finds faces and their five landmarks: a "
            "RetinaFace, or a YOLO for faces.",
            search_aliases=["face detection model", "retinaface", "yolo", "ultralytics"],
            inputs=[
                name_input("detector_name", "detector", "detector", embedded=True),
                download_input(),
            ],
            outputs=[
                schemas.Detector.Output(
                    "detector", display_name="detector", tooltip="For Detect Faces."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, detector_name, download):
        return fingerprint("detector", detector_name)

    @classmethod
    def execute(cls, detector_name, download) -> io.NodeOutput:
        path = chosen_file("detector", detector_name, download)
        return io.NodeOutput(memory.manage_detector(load_detector(path)))


class LoadRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadRestorer",
            display_name="Load Restorer",
            category=schemas.RESTORE,
            description="Loads a face restorer: the embedded one, or GFPGAN, CodeFormer, "
            "RestoreFormer, SwinIR and any other single-image network that spandrel knows, ONNX "
            "files of GPEN and RestoreFormer++, or BFRffusion.",
            search_aliases=[
                "face restore model",
                "gfpgan",
                "codeformer",
                "restoreformer",
                "gpen",
                "bfrffusion",
                "onnx",
            ],
            inputs=[
                name_input("restorer_name", "restorer", "restorer", embedded=True),
                download_input(),
                io.Int.Input(
                    "steps",
                    display_name="steps",
                    default=50,
                    min=1,
                    max=500,
                    optional=True,
                    tooltip="How often BFRffusion, a diffusion model, looks at each face: a number "
                    "that divides 1000. 50 as published; 20 or 10 are quicker and coarser. Other "
                    "restorers look once and ignore this.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    "restorer",
                    display_name="restorer",
                    tooltip="For Restore Faces; stock upscale nodes accept it, too.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, restorer_name, download, steps=50):
        return fingerprint("restorer", restorer_name)

    @classmethod
    def execute(cls, restorer_name, download, steps=50) -> io.NodeOutput:
        path = chosen_file("restorer", restorer_name, download)
        return io.NodeOutput(memory.manage_restorer(load_restorer(path, steps=steps)))


class LoadFaceParser(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadFaceParser",
            display_name="Load Face Parser",
            category=schemas.RESTORE,
            description="Loads a network that outlines the face, for Paste Faces' mask mode "
            "'parsing', or an XSeg file that finds what lies in front of it. Optional: the soft "
            "oval needs none.",
            search_aliases=[
                "face parsing",
                "parsenet",
                "bisenet",
                "face segmentation",
                "face mask",
                "xseg",
                "face occluder",
            ],
            inputs=[
                name_input("parser_name", "parser", "parser", embedded=False),
                download_input(),
                io.Combo.Input(
                    "region",
                    display_name="region",
                    options=list(REGIONS),
                    default=REGIONS[0],
                    optional=True,
                    tooltip="What is pasted. face: skin, eyes, mouth, ears and hair. without hair: "
                    "the same, but the hair stays as it was. skin: skin, nose and ears. eyes: "
                    "with brows and glasses. mouth: with the lips. XSeg files ignore it.",
                ),
            ],
            outputs=[
                schemas.Parser.Output(
                    "parser", display_name="parser", tooltip="For Paste Faces and Restore Photo."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, parser_name, download, region=REGIONS[0]):
        return fingerprint("parser", parser_name)

    @classmethod
    def execute(cls, parser_name, download, region=REGIONS[0]) -> io.NodeOutput:
        path = get_file("parser", parser_name, download)
        if path.suffix.lower() == ".onnx":
            return io.NodeOutput(memory.manage_occlusion(load_occlusion(path)))
        return io.NodeOutput(memory.manage_parser(load_parser(path, region)))


class LoadFaceRecognizer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadFaceRecognizer",
            display_name="Load Face Recognizer",
            category=schemas.RESTORE,
            description="Loads the network that says whether two faces are one person: the "
            "embedded one (dlib's), or one of the ArcFace family, such as AuraFace. Optional: "
            "without it, every node uses the embedded one. Distances come out on one scale: below "
            "0.6, two faces count as one person.",
            search_aliases=[
                "face recognition",
                "arcface",
                "insightface",
                "auraface",
                "antelopev2",
                "buffalo_l",
                "face identity",
                "face embedding",
            ],
            inputs=[
                name_input("recognizer_name", "recognizer", "identity", embedded=True),
                download_input(),
            ],
            outputs=[
                schemas.Recognizer.Output(
                    "recognizer",
                    display_name="recognizer",
                    tooltip="For the nodes that restore, select, measure and fine-tune faces.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, recognizer_name, download):
        return fingerprint("identity", recognizer_name)

    @classmethod
    def execute(cls, recognizer_name, download) -> io.NodeOutput:
        path = chosen_file("identity", recognizer_name, download)
        return io.NodeOutput(memory.manage_identity(load_identity(path)))


class LoadPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadPrior",
            display_name="Load Prior",
            category=schemas.TARGETS,
            description="Loads a diffusion model of clean faces, from which pseudo targets are "
            "sampled: the embedded one, an improved-diffusion or guided-diffusion checkpoint, "
            "or a diffusers folder.",
            search_aliases=["face prior", "diffusion prior", "iddpm", "ddpm", "load prior"],
            inputs=[
                name_input("prior_name", "prior", "prior", embedded=True),
                download_input(),
                io.Combo.Input(
                    "preset",
                    display_name="preset",
                    options=["auto", *PRIOR_PRESETS],
                    default="auto",
                    tooltip="The code that trained a checkpoint, where its file does not say. "
                    "auto suits every published face prior. Try another if the faces look like "
                    "noise or rubber.",
                    advanced=True,
                ),
                io.Int.Input(
                    "size",
                    display_name="size",
                    default=0,
                    min=0,
                    max=2048,
                    tooltip="Side in pixels of the faces that the prior was trained on. 0 takes "
                    "it from the file.",
                    advanced=True,
                ),
                io.Int.Input(
                    "head_channels",
                    display_name="head channels",
                    default=0,
                    min=0,
                    max=512,
                    tooltip="Channels per attention head, which a checkpoint does not say. 0 uses "
                    "the preset's; published face priors have 64.",
                    advanced=True,
                ),
                io.Combo.Input(
                    "precision",
                    display_name="precision",
                    options=[AUTO, *PRECISIONS],
                    default=AUTO,
                    tooltip="The numbers that the network computes in. float32 is exact. bfloat16 "
                    "and float16 take half the memory and half the time where the device has "
                    "instructions for them; the faces hardly differ, but are no longer the same "
                    "on every machine. auto: the quickest that is accurate on this device.",
                    advanced=True,
                ),
            ],
            outputs=[
                schemas.Prior.Output(
                    "prior",
                    display_name="prior",
                    tooltip="For Sample Pseudo Targets, Sweep Guidance and Build Training Pairs.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, prior_name, download, preset, size, head_channels, precision):
        return fingerprint("prior", prior_name)

    @classmethod
    def execute(cls, prior_name, download, preset, size, head_channels, precision) -> io.NodeOutput:
        path = chosen_file("prior", prior_name, download)
        given: dict[str, Any] = {"size": size, "head_channels": head_channels}
        changes = {name: value for name, value in given.items() if value}
        chosen = chosen_precision(precision, model_management.get_torch_device())
        prior = load_prior(path, preset=preset, **changes)
        convert(prior.network, chosen, torch.device("cpu"))
        return io.NodeOutput(memory.manage_prior(prior))
