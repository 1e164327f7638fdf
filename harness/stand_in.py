"""A stand-in for the parts of ComfyUI that importing ``nodes/`` and reading its schemas take.

``tests/comfyui/test_pack.py`` holds what is read here to what a real ComfyUI reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from harness import PACK, PACK_NAME

_KINDS = {
    "Image": "IMAGE",
    "Mask": "MASK",
    "Int": "INT",
    "Float": "FLOAT",
    "String": "STRING",
    "Boolean": "BOOLEAN",
    "Combo": "COMBO",
    "Model": "MODEL",
    "Latent": "LATENT",
    "Video": "VIDEO",
    "Audio": "AUDIO",
    "AnyType": "*",
    "UpscaleModel": "UPSCALE_MODEL",
    "BoundingBox": "BOUNDING_BOX",
    "FaceLandmarks": "FACE_LANDMARKS",
}


@dataclass
class Slot:
    """An input or output of a schema."""

    id: str
    kind: str
    display_name: str = ""
    tooltip: str = ""
    optional: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Schema:
    """The arguments of ``io.Schema``, of those that tests look at."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Slot]
    outputs: list[Slot]
    search_aliases: list[str] = field(default_factory=list)
    is_output_node: bool = False
    has_intermediate_output: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    hidden: list[Any] = field(default_factory=list)
    not_idempotent: bool = False


def _slots(kind: str) -> Any:
    def make(id: str, options: Any = None, *, types: Any = None, **given: Any) -> Slot:
        named = {key: given.pop(key) for key in ("display_name", "tooltip") if key in given}
        optional = given.pop("optional", False)
        if options is not None:
            given["options"] = options
        several = ",".join(each.kind for each in types) if types else kind
        return Slot(id, several, optional=optional, options=given, **named)

    return types.SimpleNamespace(Input=make, Output=make, kind=kind)


class _Anything(types.ModuleType):
    """A module in which every name stands for something that can be called and asked."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock(name=f"{self.__name__}.{name}")


@contextlib.contextmanager
def comfyui(base: Path) -> Iterator[Callable[[str], Any]]:
    """ComfyUI's modules as stand-ins; gives what imports a module of ``nodes`` as ComfyUI does.

    Args:
        base: where its models and outputs would be; nothing is read or written there.
    """
    io = types.SimpleNamespace(
        **{name: _slots(kind) for name, kind in _KINDS.items()},
        Custom=_slots,
        MultiType=_slots("*"),
        Schema=Schema,
        ComfyNode=object,
        NodeOutput=mock.MagicMock,
        NodeReplace=mock.MagicMock,
        NumberDisplay=types.SimpleNamespace(slider="slider", number="number"),
        ControlAfterGenerate=types.SimpleNamespace(fixed="fixed", randomize="randomize"),
        UploadType=types.SimpleNamespace(image="image_upload"),
        FolderType=types.SimpleNamespace(input="input", output="output"),
        Hidden=types.SimpleNamespace(unique_id="UNIQUE_ID", prompt="PROMPT"),
    )
    contents: dict[str, dict[str, Any]] = {
        "comfy_api.latest": {"io": io, "ui": mock.MagicMock(), "ComfyExtension": object},
        "comfy.model_management": {
            "intermediate_device": lambda: torch.device("cpu"),
            "intermediate_dtype": lambda: torch.float32,
            "InterruptProcessingException": InterruptedError,
        },
        "comfy.model_patcher": {"CoreModelPatcher": object, "ModelPatcher": object},
        "folder_paths": {
            "models_dir": str(base / "models"),
            "folder_names_and_paths": {},
            "get_output_directory": lambda: str(base / "output"),
            "get_input_directory": lambda: str(base / "input"),
            "get_folder_paths": lambda key: [str(base / "models" / key)],
            "get_filename_list": lambda key: [],
            "get_full_path": lambda key, name: None,
        },
        "server": {"PromptServer": mock.MagicMock()},
        "aiohttp": {},
        "comfy.utils": {},
    }
    modules: dict[str, types.ModuleType] = {}
    for name in ("comfy", "comfy_api", *contents):
        module = modules[name] = _Anything(name)
        module.__dict__.update(contents.get(name, {}))
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    spec = importlib.util.spec_from_file_location(
        PACK_NAME, PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec and spec.loader
    pack = modules[PACK_NAME] = importlib.util.module_from_spec(spec)
    hidden = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        spec.loader.exec_module(pack)
        yield lambda module: importlib.import_module(f"{PACK_NAME}.nodes.{module}")
    finally:  # forgets the pack, but no library: some cannot be imported twice
        for name in list(sys.modules):
            if name in modules or name.startswith(f"{PACK_NAME}."):
                del sys.modules[name]
        sys.modules.update(hidden)


@cache
def schemas() -> dict[str, Schema]:
    """The schemas of our nodes by node id, where no file of the user's is found."""
    with comfyui(Path("/nowhere")) as load:
        extension = load("extension").FaceRestorationExtension()
        found = [node.define_schema() for node in asyncio.run(extension.get_node_list())]
    return {schema.node_id: schema for schema in found}


def object_info() -> dict[str, Any]:
    """The same as ComfyUI's ``/object_info`` describes them."""
    info = {}
    for schema in schemas().values():
        sides: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
        for slot in schema.inputs:
            texts = {"display_name": slot.display_name, "tooltip": slot.tooltip}
            side = sides["optional" if slot.optional else "required"]
            side[slot.id] = [slot.kind, {**texts, **slot.options}]
        info[schema.node_id] = {
            "input": {name: side for name, side in sides.items() if side},
            "input_order": {name: list(side) for name, side in sides.items() if side},
            "output": [slot.kind for slot in schema.outputs],
            "output_name": [slot.display_name for slot in schema.outputs],
            "output_is_list": [False] * len(schema.outputs),
            "output_tooltips": [slot.tooltip for slot in schema.outputs],
            "name": schema.node_id,
            "display_name": schema.display_name,
            "description": schema.description,
            "category": schema.category,
            "output_node": schema.is_output_node,
            "search_aliases": schema.search_aliases,
        }
    return info
