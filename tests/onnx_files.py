"""Small ONNX files for the tests, built node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from torch import Tensor


def restorer_file(
    path: Path,
    *,
    size: int | str | None = 64,
    low: float = -1.0,
    gain: float = 0.5,
    weight: Sequence[int | str] | None = None,
    dtype: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
    batch: int | str = 1,
    to: int | str | None = None,
) -> Path:
    """A file that gives ``clip(gain · input, low, 1)``, times the weight where it takes one.

    Args:
        path: of the file.
        size: side of its faces; a name or None leaves it open.
        low: least value of its pixels, -1 or 0.
        gain: what pixels are multiplied by.
        weight: shape of CodeFormer's weight, of type double as published; None for none.
        dtype: of the faces.
        metadata: text by name.
        batch: how many faces it takes.
        to: side of what it gives, as it says; None for the same.
    """
    inputs = [helper.make_tensor_value_info("input", dtype, [batch, 3, size, size])]
    nodes = [
        helper.make_node("Mul", ["input", "gain"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["clipped"]),
    ]
    last = "clipped"
    if weight is not None:
        inputs.append(helper.make_tensor_value_info("weight", TensorProto.DOUBLE, weight))
        nodes.append(helper.make_node("Cast", ["weight"], ["cast"], to=dtype))
        nodes.append(helper.make_node("Mul", ["clipped", "cast"], ["weighed"]))
        last = "weighed"
    nodes.append(helper.make_node("Identity", [last], ["output"]))
    side = size if to is None else to
    output = helper.make_tensor_value_info("output", dtype, [batch, 3, side, side])
    numbers = {"gain": gain, "low": low, "high": 1.0}
    constants = [helper.make_tensor(name, dtype, [], [n]) for name, n in numbers.items()]
    return write(path, nodes, inputs, [output], constants, metadata)


def table_file(
    path: Path,
    table: Tensor,
    size: tuple[int | str, int | str] = ("height", "width"),
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A YOLO that gives this 1×C×A table, whatever it sees."""
    shape = list(table.shape)
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])]
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["output0"]),
    ]
    constants = [
        helper.make_tensor("table", TensorProto.FLOAT, shape, table.flatten().tolist()),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
    ]
    return write(path, nodes, inputs, [output], constants, metadata)


def arcface_file(path: Path, *, size: int = 112, batch: int | str = "faces") -> Path:
    """An ArcFace-like network: a face's mean colours, plus 2, as its embedding."""
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, size, size])]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 3])
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "two"], ["embedding"]),
    ]
    constants = [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])]
    return write(path, nodes, inputs, [output], constants)


def mask_file(path: Path, *, size: int = 256, batch: int | str = "faces") -> Path:
    """An XSeg of DeepFaceLab's shapes that gives the first of its three channels as the mask."""
    sides = [batch, size, size]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [*sides, 3])]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [*sides, 1])
    nodes = [helper.make_node("Slice", ["input", "start", "stop", "axis"], ["output"])]
    numbers = {"start": 0, "stop": 1, "axis": 3}
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [n]) for name, n in numbers.items()
    ]
    return write(path, nodes, inputs, [output], constants)


def write(path: Path, nodes, inputs, outputs, constants, metadata=None) -> Path:
    """Writes a graph as a file."""
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path
