"""Recipe of the face recognition network: from dlib's file to one of half its size.

    pip download face-recognition-models==0.3.0 --no-deps --no-binary :all:
    tar xf face_recognition_models-0.3.0.tar.gz
    python -m recipes.identity FOLDER/dlib_face_recognition_resnet_model_v1.dat \\
        weights/identity.safetensors
    python -m benchmarks.identity FIGURES.npz

Nothing is trained: the file's parameters are read, dlib's affine layers are folded into the
convolutions before them, and all is written in half precision.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bfr.faces.recognition import FaceResNet
from bfr.files.checksums import file_sha256
from bfr.files.weights import write_state_dict

log = logging.getLogger(__name__)

SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
"""The checksum of ``dlib_face_recognition_resnet_model_v1.dat``."""

_LAYERS = {b"con_4": 0, b"affine_": 0, b"fc_2": 2}
"""The names under which dlib writes layers with parameters, and how many whole numbers stand
between a name and its parameters."""
_NAME = re.compile(b"|".join(_LAYERS))


def read_layers(content: bytes) -> Iterator[tuple[bytes, np.ndarray]]:
    """The layers of a network that dlib serialised, from the picture to the embedding.

    dlib writes a network from its input on. Parameters are the whole numbers 2 (the format),
    samples, k, rows and columns, then as many floats.

    Yields:
        The layer's name and its parameters as a flat float32 array.

    Raises:
        ValueError: if a name is followed by anything else.
    """
    place = 0
    while True:
        found = _NAME.search(content, place)
        if not found:
            return
        name, place = found[0], found.end()
        numbers = []
        for _ in range(_LAYERS[name] + 5):
            number, place = _read_int(content, place)
            numbers.append(number)
        version, *shape = numbers[_LAYERS[name] :]
        count = int(np.prod(shape))
        if version != 2 or len(content) < place + 4 * count:
            raise ValueError(f"no parameters follow {name.decode()} at byte {found.start()}")
        yield name, np.frombuffer(content, "<f4", count, place)
        place += 4 * count


def _read_int(content: bytes, place: int) -> tuple[int, int]:
    """A whole number of dlib's: the count of its bytes, its sign in the top bit, the bytes."""
    head = content[place]
    size = head & 0x0F
    value = int.from_bytes(content[place + 1 : place + 1 + size], "little")
    return (-value if head & 0x80 else value), place + 1 + size


def convert(layers: Sequence[tuple[bytes, np.ndarray]]) -> dict[str, Tensor]:
    """The state dict of `FaceResNet` of dlib's layers, in their order.

    Raises:
        ValueError: if the layers are not that network's.
    """
    network = FaceResNet()
    convolutions = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    wanted = [b"con_4", b"affine_"] * len(convolutions) + [b"fc_2"]
    if [name for name, _ in layers] != wanted:
        raise ValueError(f"expected {len(wanted)} layers in order, got {len(layers)}")
    values = [torch.from_numpy(parameters.copy()).double() for _, parameters in layers]
    state: dict[str, Tensor] = {}
    pairs = zip(convolutions, values[:-1:2], values[1:-1:2], strict=True)
    for (name, module), parameters, affine in pairs:
        weight = parameters[: module.weight.numel()].reshape(module.weight.shape)
        bias = parameters[module.weight.numel() :]
        gain, shift = affine.chunk(2)
        state[f"{name}.weight"] = weight * gain[:, None, None, None]
        state[f"{name}.bias"] = bias * gain + shift
    state["head.weight"] = values[-1].reshape(network.head.weight.shape[::-1]).mT.contiguous()
    return state


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dat", type=Path, help="dlib_face_recognition_resnet_model_v1.dat")
    parser.add_argument("file", type=Path, help="the weights file to write")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = file_sha256(options.dat)
    if found != SHA256:
        raise SystemExit(f"{options.dat} must have the checksum {SHA256}, got {found}")
    state = convert(list(read_layers(options.dat.read_bytes())))
    metadata = {
        "architecture": "FaceResNet",
        "licence": "CC0-1.0",
        "provenance": "dlib_face_recognition_resnet_model_v1 of Davis King, from the package "
        "face-recognition-models 0.3.0, converted by recipes/identity.py",
        "base_sha256": SHA256,
    }
    write_state_dict(options.file, {name: x.half() for name, x in state.items()}, metadata)
    log.info("%s: %.1f MB", options.file, options.file.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
