"""The small networks of the published figures, as checkpoints with weights by rule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from benchmarks.published import GOLDEN
from benchmarks.published.rule_weights import rule_state


@dataclass(frozen=True, slots=True)
class PublishedUNet:
    """One `unet_*.safetensors` of the published figures.

    Attributes:
        shapes: of the tensors, in the published key layout.
        facts: that the shapes do not say, as `load_prior` takes them.
        x: B×3×S×S noisy images.
        t: B training steps.
        output: of the network.
    """

    shapes: dict[str, list[int]]
    facts: dict[str, Any]
    x: Tensor
    t: Tensor
    output: Tensor

    def state(self, seed: int = 0) -> dict[str, Tensor]:
        """The checkpoint's content."""
        return rule_state(self.shapes, seed=seed)


def published_unet(path: Path | str) -> PublishedUNet:
    """Reads a file of figures, or the one of that dialect kept here."""
    path = GOLDEN / f"unet_{path}.safetensors" if isinstance(path, str) else path
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        x, t, output = (file.get_tensor(name) for name in ("x", "t", "output"))
    config = json.loads(metadata["config"])
    width = config.get("num_head_channels", -1)
    # Where the code has no setting for the decoder's heads it forgets them: there is one.
    decoder = max(config.get("num_heads_upsample", 1), 0)
    heads = {"heads": config.get("num_heads", 1), "decoder_heads": decoder}
    facts = {
        "size": x.shape[-1],
        "new_attention_order": config.get("use_new_attention_order", False),
        **({"head_channels": width} if width > 0 else heads),
    }
    return PublishedUNet(json.loads(metadata["state_dict_shapes"]), facts, x, t, output)
