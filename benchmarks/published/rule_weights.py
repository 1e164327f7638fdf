"""Reference weights by rule: every network's weights follow from its tensors' names and shapes.

The rule is that of the published reference figures; it stands in for weights too large to store.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.published import GOLDEN

_COMPUTED = ("relative_position_index", "attn_mask")  # keep what the architecture computes


def rule_tensor(name: str, shape: Iterable[int], seed: int = 0) -> Tensor:
    """The float32 tensor of that name and shape."""
    shape = tuple(shape)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(f"{name}#{seed}".encode())))
    noise = torch.from_numpy(generator.standard_normal(shape).astype(np.float32))
    if noise.ndim >= 2:
        return noise / noise[0].numel() ** 0.5
    return 1 + 0.1 * noise if name.endswith("weight") else 0.05 * noise


def fill_by_rule(network: nn.Module, seed: int = 0) -> nn.Module:
    """Sets a network's weights by the rule, in place; integers and masks stay."""
    state = {
        name: rule_tensor(name, tensor.shape, seed)
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and not name.endswith(_COMPUTED)
    }
    network.load_state_dict(state, strict=False)
    return network.eval()


def published_format(file: str) -> dict:
    """The facts about a published checkpoint: wrapper, licence, and its tensors' shapes."""
    return json.loads((GOLDEN / "checkpoint_formats.json").read_text())[file]


def rule_state(
    shapes: Mapping[str, Iterable[int]], computed: Mapping[str, Tensor] | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """A state dict of those names and shapes; what the architecture computes is passed in."""
    computed = computed or {}
    return {
        name: computed[name] if name in computed else rule_tensor(name, shape, seed)
        for name, shape in shapes.items()
    }
