"""Surroundings that tests and samples run the pack in: a real ComfyUI, its editor, a stand-in.

``server`` starts a ComfyUI with this pack and ``probe`` in it, ``browser`` opens its editor, and
``stand_in`` imitates as much of ComfyUI as importing ``nodes/`` takes.
"""

from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
PACK_NAME = "face-restoration-tuner"  # the folder's name in ComfyUI, dashes included
