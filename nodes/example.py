"""A photograph and a clip to try the nodes on, as nodes and as files in ComfyUI's input folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from ..bfr.damage.degrade import degrade_faces
from ..bfr.damage.scratches import draw_scratches
from ..bfr.errors import InputError
from ..bfr.files.photos import read_photo
from ..bfr.files.whole import copy_file
from ..bfr.files.writing import write_photo
from . import schemas
from .convert import to_comfy
from .degrade import chosen_damage, damage_input

FOLDER = Path(__file__).resolve().parents[1] / "samples"
ALBUM = "face_example_album"
SCRATCHED = "scratches"
# What the workflows begin with, by names in the input folder: the photograph, damage and seed.
EXAMPLES = {
    "face_example_old_photo.png": ("grace_hopper.jpg", "faded print", 7),
    "face_example_small_photo.png": ("eileen_collins.jpg", "low resolution", 7),
    "face_example_noisy_photo.png": ("grace_hopper.jpg", "camera noise ISO 3000", 7),
    "face_example_clean_photo.png": ("eileen_collins.jpg", "none", 7),
    "face_example_scratched_photo.png": ("grace_hopper.jpg", SCRATCHED, 3),
    **{
        f"{ALBUM}/{number}.png": ("eileen_collins.jpg", "camera noise ISO 3000", number)
        for number in range(1, 7)
    },
}
CLIPS = {"face_example_clip.mp4": "grace_hopper.mp4"}


def list_photos() -> list[str]:
    """File names of the photographs that come with the pack."""
    return sorted(path.name for path in FOLDER.glob("*.jpg"))


def list_videos() -> list[str]:
    """File names of the clips that come with the pack."""
    return sorted(path.name for path in FOLDER.glob("*.mp4"))


def write_examples(folder: Path) -> int:
    """Puts the example photographs and the clip into a folder; what is there stays.

    Returns:
        How many files were written.

    Raises:
        OutputError: if a file cannot be written.
    """
    missing = [name for name in (*EXAMPLES, *CLIPS) if not (folder / name).exists()]
    for name in missing:
        target = folder / name
        if name in CLIPS:
            copy_file(FOLDER / CLIPS[name], target)
        else:
            photo, damage, seed = EXAMPLES[name]
            target.parent.mkdir(parents=True, exist_ok=True)
            clean = read_photo(FOLDER / photo)
            damaged = _damaged(clean.pixels, damage, seed)
            write_photo(target, replace(clean, pixels=damaged.clamp(0, 1)))
    return len(missing)


def _damaged(pixels: Tensor, damage: str, seed: int) -> Tensor:
    """A photograph with a damage of `chosen_damage`; scratched, it has faded, too."""
    if damage != SCRATCHED:
        return degrade_faces(pixels, chosen_damage(damage), seed)
    faded = degrade_faces(pixels, chosen_damage("faded print"), seed)
    return draw_scratches(faded.clamp(0, 1), seed)


class LoadExamplePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadExamplePhoto",
            display_name="Load Example Photo",
            category=schemas.EXAMPLES,
            description="A public-domain portrait that comes with the pack, damaged in a chosen "
            "way, for trying the other nodes. Replace it with Load Image for a photograph of your "
            "own.",
            search_aliases=["sample photo", "test image", "damaged portrait", "degrade"],
            inputs=[
                io.Combo.Input(
                    "photo",
                    display_name="photo",
                    options=list_photos(),
                    default="grace_hopper.jpg",
                    tooltip="Which portrait; sources are in the pack's samples folder.",
                ),
                damage_input("faded print"),
                io.Int.Input(
                    "damage_seed",  # named "seed" the editor would change it after every run
                    display_name="seed",
                    default=7,
                    min=0,
                    max=2**32 - 1,
                    tooltip="Picks the exact damage within its kind; the same seed gives the same "
                    "damage.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The damaged portrait.")
            ],
        )

    @classmethod
    def execute(cls, photo, damage, damage_seed) -> io.NodeOutput:
        if photo not in list_photos():
            raise InputError(f"photo must be one of {', '.join(list_photos())}, got {photo!r}.")
        pixels = read_photo(FOLDER / photo).pixels
        return io.NodeOutput(to_comfy(degrade_faces(pixels, chosen_damage(damage), damage_seed)))


class LoadExampleVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadExampleVideo",
            display_name="Load Example Video",
            category=schemas.EXAMPLES,
            description="A short damaged clip of a public-domain portrait that comes with the "
            "pack, for trying Restore Video Faces. Replace it with Load Video for a clip of your "
            "own.",
            search_aliases=["sample video", "test video", "damaged clip", "example clip"],
            inputs=[
                io.Combo.Input(
                    "video",
                    display_name="video",
                    options=list_videos(),
                    default="grace_hopper.mp4",
                    tooltip="Which clip; the pack's samples folder says how it was made.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    "example_video",
                    display_name="video",
                    tooltip="The clip, for Get Video Components.",
                )
            ],
        )

    @classmethod
    def execute(cls, video) -> io.NodeOutput:
        from comfy_api.latest import InputImpl

        if video not in list_videos():
            raise InputError(f"video must be one of {', '.join(list_videos())}, got {video!r}.")
        return io.NodeOutput(InputImpl.VideoFromFile(str(FOLDER / video)))
