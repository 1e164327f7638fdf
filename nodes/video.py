"""The node that restores the faces of a clip."""

from __future__ import annotations

from collections import defaultdict

from comfy_api.latest import io

from ..bfr.faces.identity import LIMIT
from ..bfr.records import counted
from ..bfr.restore.clip import restore_video
from ..bfr.restore.enlarge import enlarge_mask
from ..bfr.restore.keep_person import describe_many
from ..bfr.restore.settings import VideoSettings
from ..bfr.restore.track import Track
from . import schemas
from .chain import ChainInputs, load_networks, load_person
from .chain_inputs import (
    enlarge_inputs,
    keep_person_input,
    network_inputs,
    paste_inputs,
    person_inputs,
    recognizer_input,
    restore_inputs,
    upscaler_input,
)
from .convert import to_comfy, to_core
from .in_front import keep_in_front_input
from .progress import progress


class RestoreVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_RestoreVideo",
            display_name="Restore Video Faces",
            category=schemas.RESTORE,
            description="Restores every face of a clip without flicker: faces are followed from "
            "frame to frame, their places smoothed and missed frames bridged. Frames without "
            "faces pass through unchanged. Without a connected restorer or detector it uses the "
            "embedded ones.",
            search_aliases=[
                "face restoration video",
                "video faces",
                "deflicker",
                "old film",
                "gfpgan",
                "codeformer",
            ],
            inputs=[
                io.Image.Input(
                    "images",
                    display_name="images",
                    tooltip="The frames of one clip in order, as Get Video Components gives them.",
                ),
                *restore_inputs(),
                schemas.slider(
                    "smoothing",
                    "smoothing",
                    3.0,
                    "Steadies the detected landmarks over about this many frames before and "
                    "after. Raise it for high frame rates. 0: each frame by itself.",
                    high=10.0,
                    step=0.5,
                ),
                schemas.slider(
                    "steadiness",
                    "steadiness",
                    1.5,
                    "Reduces flicker within the restored face: averages it over about this many "
                    "frames before and after, where the face has not changed. Lower it if quick "
                    "expressions look soft. 0: not at all.",
                    high=5.0,
                    step=0.5,
                    advanced=True,
                ),
                schemas.score_input(advanced=True),
                schemas.min_size_input(advanced=True),
                io.Int.Input(
                    "max_gap",
                    display_name="bridged frames",
                    default=4,
                    min=0,
                    max=60,
                    tooltip="A face that is missed in up to this many frames in a row, for "
                    "example because of blur, is still restored, between its places before and "
                    "after.",
                    advanced=True,
                ),
                *paste_inputs(),
                io.Int.Input(
                    "chunk",
                    display_name="frames at once",
                    default=16,
                    min=1,
                    max=1024,
                    tooltip="Frames processed at once; the result does not depend on it. Fewer "
                    "need less memory.",
                    advanced=True,
                ),
                *network_inputs(),
                *enlarge_inputs("1"),
                upscaler_input(),
                keep_person_input(),
                keep_in_front_input(),
                recognizer_input(),
                *person_inputs("restores"),
            ],
            outputs=[
                io.Image.Output(
                    "restored_images",
                    display_name="images",
                    tooltip="The restored frames, for Create Video.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Which person was followed through which frames; show it with Preview "
                    "as Text.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        images,
        smoothing,
        steadiness,
        max_gap,
        chunk,
        restorer=None,
        detector=None,
        parser=None,
        upscaler=None,
        person=None,
        person_limit=LIMIT,
        **chain,
    ) -> io.NodeOutput:
        frames, alpha = to_core(images, "images")
        inputs = ChainInputs(**chain)
        settings = inputs.settings(
            VideoSettings,
            smoothing=smoothing,
            steadiness=steadiness,
            max_gap=max_gap,
            chunk=chunk,
        )
        networks = load_networks(detector, restorer, parser, upscaler, inputs)
        restored, tracks = restore_video(
            frames,
            settings=settings,
            on_step=progress(),
            person=load_person(person, person_limit, networks),
            **networks,
        )
        if alpha is not None:
            alpha = enlarge_mask(alpha, restored.shape[-1] // frames.shape[-1])
        return io.NodeOutput(to_comfy(restored, alpha), report(tracks, len(frames)))


def report(tracks: tuple[Track, ...], frames: int) -> str:
    """One line for the clip and one for each person, both counted from 1."""
    people = defaultdict[int, list[Track]](list)
    for track in tracks:
        people[track.person].append(track)
    shown = {track.start + i for track in tracks for i in range(len(track))}
    head = f"{counted(len(people), 'face')} followed; {len(shown)} of {frames} frames restored"
    lines = [f"{head}, the others unchanged"]
    for number, own in enumerate(people.values(), 1):
        spans = [f"{track.start + 1} to {track.start + len(track)}" for track in own]
        sizes = sorted(face.size for track in own for face in track.faces)
        missed = sum(len(track) - sum(track.seen) for track in own)
        bridged = f", {missed} of them bridged" if missed else ""
        shares = [share for track in own for share in track.shares]
        distances = [distance for track in own for distance in track.distances]
        lines.append(
            f"face {number}: frames {' and '.join(spans)}{bridged}, "
            f"{sizes[len(sizes) // 2]:.0f} px, {describe_many(shares, distances)}"
        )
    return "\n".join(lines)
