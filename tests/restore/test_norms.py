"""Layer norms by one operator: the same results, gradients and names as the published code's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bfr.restore.norms import fuse_norms, has_fused_norms
from bfr.restore.restorer import restore_faces
from tests.trainable import nafnet, swinir


class CountLayerNorms(TorchFunctionMode):
    """Counts calls of PyTorch's own operator."""

    calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.calls += func is F.layer_norm
        return func(*args, **(kwargs or {}))


def test_results_and_gradients_are_the_published_ones():
    """In plain order the published code computes, in channels-last order ours."""
    restorer, faces = nafnet(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert has_fused_norms(restorer.network) and fuse_norms(restorer.network) > 0
    assert has_fused_norms(restorer.copy().network)
    restorer.network.requires_grad_(True)
    results, gradients, calls = [], [], []
    for order in (torch.contiguous_format, torch.channels_last):
        restorer.network.zero_grad()
        with CountLayerNorms() as count:
            results.append(restorer(faces.contiguous(memory_format=order)))
        calls.append(count.calls)
        results[-1].square().mean().backward()
        gradients.append({name: p.grad for name, p in restorer.network.named_parameters()})
    assert calls == [0, fuse_norms(restorer.network)]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients[0].items():
        assert gradient is not None
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-3 * scale + 1e-7)


def test_restoring_uses_them():
    restorer = replace(nafnet(), precision="float32")
    with CountLayerNorms() as count:
        restore_faces(torch.rand(1, 3, 32, 32), restorer)
    assert count.calls == fuse_norms(restorer.network)


def test_other_networks_stay_as_they_are():
    assert fuse_norms(swinir().network) == 0
