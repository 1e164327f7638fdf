"""Layer norms by one operator: the same results, gradients and names as the published code's."""

from __future__ import annotations

import torch

from bfr.restore.norms import fuse_norms
from tests.trainable import nafnet, swinir


def test_results_and_gradients_are_the_published_ones():
    plain, faces = nafnet(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fused = plain.copy()
    assert fuse_norms(fused.network) > 0 and fuse_norms(fused.network) == 0
    assert fused.network.state_dict().keys() == plain.network.state_dict().keys()
    assert fused.copy().network.state_dict().keys() == plain.network.state_dict().keys()
    results, gradients = [], []
    for restorer in (plain, fused):
        restorer.network.requires_grad_(True)
        results.append(restorer(faces))
        results[-1].square().mean().backward()
        gradients.append({name: p.grad for name, p in restorer.network.named_parameters()})
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients[0].items():
        assert gradient is not None
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-3 * scale + 1e-7)


def test_other_networks_stay_as_they_are():
    assert fuse_norms(swinir().network) == 0
