"""The layout of the workflow that repairs an old, scratched print."""

from __future__ import annotations

from samples.templates.graph import Column, Node, Output, Template

SCRATCHED = Template(
    340,
    960,
    [
        Column(310, {
            "photo": Node("LoadImage", 340, {"image": "face_example_scratched_photo.png"}),
            "find": Node("BFR_FindScratches", 180, {"image": Output("photo")}),
            "overlay": Node(
                "PreviewImage", 332, {"images": Output("find", 1)}, "Scratches found, in red"),
        }, "1  Find the scratches"),
        Column(310, {
            "repair": Node("BFR_RepairScratches", 415, {
                "image": Output("photo"), "mask": Output("find")}),
            "restorer": Node("BFR_LoadRestorer", 165),
            "save": Node("SaveImage", 272, {
                "images": Output("restore"), "filename_prefix": "restored"}, "Save the result"),
        }, "2  Repair them"),
        Column(340, {
            "restore": Node("BFR_RestorePhoto", 960, {
                "image": Output("repair"), "restorer": Output("restorer")}),
        }, "3  Restore the faces"),
        Column(560, {
            "compare": Node("BFR_CompareImages", 960, {
                "before": Output("photo"), "after": Output("restore")}),
        }),
    ],
    [("photo", "image"), ("find", "sensitivity")],
    ["save"],
)  # fmt: skip
