"""The layouts of the workflows of the gallery, the simplest first.

One module on purpose: it is a list. Their names are what the gallery's search looks at, and sort in
the order in which to try them.
"""

from __future__ import annotations

from samples.templates.graph import Column, Node, Output, Template
from samples.templates.scratched import SCRATCHED

OLD, SMALL, NOISY = (f"face_example_{kind}_photo.png" for kind in ("old", "small", "noisy"))
CLEAN, ALBUM = "face_example_clean_photo.png", "face_example_album"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"  # as ComfyUI's own first template has it


def photo(name: str, height: int = 360, title: str = "") -> Node:
    return Node("LoadImage", height, {"image": name}, title)


def restorer(title: str = "") -> Node:
    return Node("BFR_LoadRestorer", 145, title=title)


def prior(height: int = 210) -> Node:
    return Node("BFR_LoadPrior", height)


def text(node: str, slot: int, height: int, title: str) -> Node:
    return Node("BFR_ShowReport", height, {"report": Output(node, slot)}, title)


def picture(node: str, slot: int, height: int, title: str) -> Node:
    return Node("PreviewImage", height, {"images": Output(node, slot)}, title)


def compare(before: Output, after: Output, height: int, title: str = "") -> Node:
    return Node("BFR_CompareImages", height, {"before": before, "after": after}, title)


def aligned(name: str, size: int, height: int = 305) -> dict[str, Node]:
    """A photograph, its faces found, and cut out upright."""
    return {
        "photo": photo(name, height),
        "detect": Node("BFR_DetectFaces", 205, {"image": Output("photo")}),
        "align": Node(
            "BFR_AlignFaces",
            110,
            {"image": Output("photo"), "faces": Output("detect"), "size": size},
        ),
    }


SIMPLE = Template(
    360,
    960,
    [
        Column(310, {
            "photo": photo(OLD, 380),
            "report": text("restore", 3, 160, "What was found"),
            "save": Node("SaveImage", 312, {
                "images": Output("restore"), "filename_prefix": "restored"}, "Save the result"),
        }),
        Column(340, {
            "restorer": restorer(),
            "restore": Node("BFR_RestorePhoto", 761, {
                "image": Output("photo"), "restorer": Output("restorer")}),
        }),
        Column(560, {
            "compare": compare(Output("photo"), Output("restore"), 960),
        }),
    ],
    [("photo", "image"), ("restore", "strength"), ("restore", "lock")],
    ["save"],
)  # fmt: skip

UPSCALE = Template(
    340,
    848,
    [
        Column(310, {
            "photo": photo(SMALL, 323),
            "restorer": restorer(),
            "save": Node("SaveImage", 272, {
                "images": Output("restore"), "filename_prefix": "restored"}, "Save the result"),
        }),
        Column(340, {
            "restore": Node("BFR_RestorePhoto", 848, {
                "image": Output("photo"), "restorer": Output("restorer"), "enlarge": "4"}),
        }),
        Column(560, {
            "compare": compare(Output("photo"), Output("restore"), 848),
        }),
    ],
)  # fmt: skip

STEPS = Template(
    340,
    940,
    [
        Column(300, {
            "photo": photo(OLD, 315),
            "detect": Node("BFR_DetectFaces", 205, {"image": Output("photo")}),
            "overlay": picture("detect", 1, 312, "Faces found, numbered"),
        }, "1  Find"),
        Column(300, {
            "select": Node("BFR_SelectFaces", 345, {"faces": Output("detect")}),
            "align": Node("BFR_AlignFaces", 120, {
                "image": Output("photo"), "faces": Output("select")}),
            "crops": picture("align", 0, 367, "The faces, aligned"),
        }, "2  Choose and align"),
        Column(320, {
            "restorer": restorer(),
            "restore": Node("BFR_RestoreFaces", 440, {
                "crops": Output("align"), "restorer": Output("restorer")}),
            "guess": picture("restore", 0, 247, "The faces, restored"),
        }, "3  Restore"),
        Column(330, {
            "paste": Node("BFR_PasteFaces", 300, {
                "image": Output("photo"), "crops": Output("restore"),
                "alignment": Output("align", 1)}),
            "save": Node("SaveImage", 586, {
                "images": Output("paste"), "filename_prefix": "restored"}, "Save the result"),
        }, "4  Paste"),
        Column(400, {
            "compare": compare(Output("photo"), Output("paste"), 940),
        }),
    ],
)  # fmt: skip

VIDEO = Template(
    340,
    800,
    [
        Column(310, {
            "clip": Node("LoadVideo", 365, {"file": "face_example_clip.mp4"}),
            "parts": Node("GetVideoComponents", 130, {"video": Output("clip")}),
            "restorer": restorer(),
        }),
        Column(350, {
            "restore": Node("BFR_RestoreVideo", 800, {
                "images": Output("parts"), "restorer": Output("restorer")}),
        }),
        Column(380, {
            "report": text("restore", 1, 210, "Who was followed"),
            "join": Node("CreateVideo", 130, {
                "images": Output("restore"), "audio": Output("parts", 1),
                "fps": Output("parts", 2)}),
            "save": Node("SaveVideo", 352, {
                "video": Output("join"), "filename_prefix": "video/restored"}),
        }),
        Column(480, {
            "compare": compare(Output("parts"), Output("restore"), 800, "Compare frame by frame"),
        }),
    ],
    [("clip", "file"), ("restore", "strength"), ("restore", "steadiness")],
    ["save"],
)  # fmt: skip

REPAINT = Template(
    340,
    1110,
    [
        Column(300, {
            **aligned(OLD, 512),
            "restorer": restorer(),
            "guess": Node("BFR_RestoreFaces", 0, {
                "crops": Output("align"), "restorer": Output("restorer")}, "The guess"),
        }, "1  A face and its guess"),
        Column(320, {
            "model": Node("CheckpointLoaderSimple", 130, {"ckpt_name": CHECKPOINT}),
            "wanted": Node("CLIPTextEncode", 110, {
                "clip": Output("model", 1), "text": "photo of a face, sharp, natural skin"},
                "Wanted"),
            "unwanted": Node("CLIPTextEncode", 100, {
                "clip": Output("model", 1), "text": "painting, blurry, disfigured"}, "Unwanted"),
            "encode": Node("VAEEncode", 0, {
                "pixels": Output("guess"), "vae": Output("model", 2)}),
            "hold": Node("BFR_ApplyConsistency", 190, {
                "model": Output("model"), "reference": Output("encode")}),
            "sample": Node("KSampler", 265, {
                "model": Output("hold"), "positive": Output("wanted"),
                "negative": Output("unwanted"), "latent_image": Output("encode"),
                "cfg": 3, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 0.5}),
            "decode": Node("VAEDecode", 0, {
                "samples": Output("sample"), "vae": Output("model", 2)}, "The repainted faces"),
        }, "2  Repaint it with your model"),
        Column(420, {
            "paste": Node("BFR_PasteFaces", 0, {
                "image": Output("photo"), "crops": Output("decode"),
                "alignment": Output("align", 1)}),
            "compare": compare(Output("photo"), Output("paste"), 640),
            "save": Node("SaveImage", 340, {
                "images": Output("paste"), "filename_prefix": "repainted"}, "Save the result"),
        }, "3  Paste"),
        Column(340, {
            "build": Node("BFR_BuildTrainingPairs", 840, {
                "crops": Output("align"), "guesses": Output("guess"),
                "targets": Output("decode"), "pairs_name": "repainted_faces"}),
            "keep": Node("BFR_SaveRestorer", 200, {
                "restorer": Output("tune"), "file_name": "repainted_tuned"}),
        }, "4  Muted: tune a restorer to such targets", muted=True),
        Column(340, {
            "tune": Node("BFR_FinetuneRestorer", 780, {
                "pairs": Output("build"), "restorer": Output("restorer"),
                "run_name": "repainted"}),
            "better": text("tune", 1, 260, "Is it better?"),
        }, muted=True),
    ],
)  # fmt: skip

GUIDANCE = Template(
    340,
    1070,
    [
        Column(300, {
            **aligned(SMALL, 256),
            "restorer": restorer(),
            "report": text("sample", 2, 94, "Report"),
        }, "1  A face"),
        Column(340, {
            "guess": Node("BFR_RestoreFaces", 420, {
                "crops": Output("align"), "restorer": Output("restorer")}, "The guess"),
            "prior": prior(),
            "figures": text("sweep", 2, 332, "Figures of the sweep"),
        }, "2  Its guess"),
        Column(380, {
            "sample": Node("BFR_SamplePseudoTargets", 710, {
                "crops": Output("guess"), "prior": Output("prior")}),
            "compare": compare(Output("guess"), Output("sample"), 306, "Guess and pseudo target"),
        }, "3  Its pseudo target"),
        Column(560, {
            "sweep": Node("BFR_SweepGuidance", 1070, {
                "crops": Output("guess"), "prior": Output("prior")}),
        }, "4  A sweep: click a cell to copy its settings"),
    ],
)  # fmt: skip

PAIRS = Template(
    340,
    900,
    [
        Column(330, {
            "restorer": restorer(),
            "prior": prior(),
            "made": text("build", 1, 437, "What was made"),
        }, "1  Networks"),
        Column(380, {
            "build": Node("BFR_BuildTrainingPairs", 900, {
                "prior": Output("prior"), "restorer": Output("restorer"), "folder": ALBUM,
                "pairs_name": "face_example"}),
        }, "2  Guesses and pseudo targets of a folder"),
        Column(600, {
            "review": Node("BFR_ReviewTrainingPairs", 900, {"pairs": Output("build")}),
        }, "3  Review: click the pairs to leave out"),
        Column(320, {
            "remarks": text("review", 2, 900, "What stands out"),
        }),
    ],
)  # fmt: skip

TRAIN = Template(
    350,
    1240,
    [
        Column(340, {
            "restorer": restorer(),
            "prior": prior(180),
            "build": Node("BFR_BuildTrainingPairs", 807, {
                "prior": Output("prior"), "restorer": Output("restorer"), "folder": ALBUM,
                "pairs_name": "face_example_tuning"}),
        }, "1  Pairs of a folder"),
        Column(480, {
            "review": Node("BFR_ReviewTrainingPairs", 920, {"pairs": Output("build")}),
            "strip": picture("tune", 3, 266, "Held-back faces"),
        }, "2  Review: click the pairs to leave out"),
        Column(400, {
            "tune": Node("BFR_FinetuneRestorer", 945, {
                "pairs": Output("review"), "restorer": Output("restorer"),
                "run_name": "face_example", "preset": "quick demo"}),
            "better": text("tune", 1, 241, "Is it better?"),
        }, "3  Fine-tune"),
        Column(480, {
            "photo": photo(NOISY, 320, "Another photograph"),
            "base": Node("BFR_RestorePhoto", 0, {
                "image": Output("photo"), "restorer": Output("restorer")}, "As it was"),
            "tuned": Node("BFR_RestorePhoto", 0, {
                "image": Output("photo"), "restorer": Output("tune")}, "Fine-tuned"),
            "compare": compare(Output("base"), Output("tuned"), 500, "As it was, fine-tuned"),
            "save": Node("BFR_SaveRestorer", 204, {
                "restorer": Output("tune"), "file_name": "face_example_tuned"}),
        }, "4  Compare and save"),
    ],
    [("build", "folder"), ("build", "pairs_name"), ("tune", "preset"), ("photo", "image")],
    ["strip"],
)  # fmt: skip

COMPARE = Template(
    340,
    1200,
    [
        Column(300, {
            **aligned(CLEAN, 256, 355),
            "four": Node("RepeatImageBatch", 100, {"image": Output("align"), "amount": 4},
                         "Four of them"),
        }, "1  Clean faces, damaged"),
        Column(300, {
            "damage": Node("BFR_DegradeFaces", 310, {"image": Output("four"), "damage": "gfpgan"}),
            "seen": picture("damage", 0, 398, "Damaged"),
            "first": restorer("Load Restorer: the first"),
            "second": restorer("Load Restorer: the second"),
        }),
        Column(330, {
            "one": Node("BFR_RestoreFaces", 420, {
                "crops": Output("damage"), "restorer": Output("first")}, "The first restores"),
            "two": Node("BFR_RestoreFaces", 420, {
                "crops": Output("damage"), "restorer": Output("second"), "lock": 1.0},
                "The second restores"),
            "measure": Node("BFR_MeasureFaces", 212, {
                "restored": Output("one"), "compared": Output("two"), "reference": Output("four"),
                "given": Output("damage"), "name": "embedded", "compared_name": "locked"}),
        }, "2  Two restorers"),
        Column(520, {
            "compare": compare(Output("one"), Output("two"), 340, "First and second"),
            "table": text("measure", 0, 500, "Table"),
            "plot": picture("measure", 1, 252, "Plot"),
        }, "3  Look and measure"),
    ],
)  # fmt: skip

TEMPLATES = {
    "face_restore_1_old_photo_gfpgan": SIMPLE,
    "face_restore_2_upscale": UPSCALE,
    "face_restore_3_step_by_step": STEPS,
    "face_restore_4_video": VIDEO,
    "face_restore_5_detailer_needs_own_checkpoint": REPAINT,
    "face_restore_6_scratched_print": SCRATCHED,
    "face_tune_1_guidance": GUIDANCE,
    "face_tune_2_build_pairs": PAIRS,
    "face_tune_3_train_restorer": TRAIN,
    "face_tune_4_compare_restorers": COMPARE,
}


def own_checkpoint(name: str) -> bool:
    """True if a workflow needs a diffusion model of the user's own."""
    return name.endswith("_needs_own_checkpoint")
