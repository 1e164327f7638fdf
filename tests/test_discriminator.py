"""The U-Net discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bfr.discriminator import UNetDiscriminator, refresh
from bfr.errors import InputError


def make(skip: bool = True) -> UNetDiscriminator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNetDiscriminator(4, skip)


def spectra(network: UNetDiscriminator) -> dict[str, float]:
    """The largest singular value of each normalised weight, as a matrix."""
    with torch.no_grad():
        network(torch.zeros(1, 3, 16, 16))
    return {
        name: float(torch.linalg.matrix_norm(torch.as_tensor(layer.weight).flatten(1), 2))
        for name, layer in network.named_children()
        if hasattr(layer, "weight_orig")
    }


def test_a_logit_for_each_pixel():
    logits = make()(torch.rand(2, 3, 24, 40))
    assert logits.shape == (2, 1, 24, 40)
    assert logits.std() > 0


def test_names_and_shapes_are_those_of_the_published_files():
    shapes = {name: tuple(x.shape) for name, x in UNetDiscriminator(64).state_dict().items()}
    plain = {
        "conv0.weight": (64, 3, 3, 3),
        "conv0.bias": (64,),
        "conv9.weight": (1, 64, 3, 3),
        "conv9.bias": (1,),
    }
    sizes = {
        "conv1": (128, 64, 4, 4),
        "conv2": (256, 128, 4, 4),
        "conv3": (512, 256, 4, 4),
        "conv4": (256, 512, 3, 3),
        "conv5": (128, 256, 3, 3),
        "conv6": (64, 128, 3, 3),
        "conv7": (64, 64, 3, 3),
        "conv8": (64, 64, 3, 3),
    }
    normalised = {}
    for name, (out, wide, height, width) in sizes.items():
        normalised[f"{name}.weight_orig"] = (out, wide, height, width)
        normalised[f"{name}.weight_u"] = (out,)
        normalised[f"{name}.weight_v"] = (wide * height * width,)
    assert shapes == plain | normalised


def test_weights_are_normalised_from_the_start():
    values = spectra(make())
    assert len(values) == 8
    assert all(0.9 < value < 1.1 for value in values.values()), values


def test_refreshing_follows_weights_that_change():
    network = make()
    with torch.no_grad():
        network.get_parameter("conv3.weight_orig").mul_(
            torch.linspace(0.1, 3, 32)[:, None, None, None]
        )
    assert spectra(network)["conv3"] > 1.2
    for _ in range(20):
        refresh(network)
    assert abs(spectra(network)["conv3"] - 1) < 0.1


def test_forward_passes_change_nothing():
    network = make().train()
    before = {name: x.clone() for name, x in network.state_dict().items()}
    network(torch.rand(2, 3, 16, 16)).mean().backward()
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    refresh(network)
    changed = {name for name, x in network.state_dict().items() if not torch.equal(x, before[name])}
    assert changed and all(name.endswith(("_u", "_v")) for name in changed)


def test_a_batch_is_its_parts():
    """Logits and gradients do not depend on how a step is split into micro-batches."""

    def gradients(parts: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        network = make()
        refresh(network)
        logits = torch.cat([network(part) for part in parts])
        logits.square().mean().backward()
        found = [p.grad for p in network.parameters()]
        assert all(grad is not None for grad in found)
        return logits, [grad for grad in found if grad is not None]

    images = torch.rand(4, 3, 16, 16)
    (whole, expected), (split, found) = gradients((images,)), gradients(images.split(1))
    assert torch.allclose(whole, split, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(expected, found, strict=True))


def test_a_state_gives_the_same_network_back():
    first, second, images = make(), UNetDiscriminator(4), torch.rand(1, 3, 16, 16)
    assert not torch.allclose(first(images), second(images))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images), second(images))


def test_skip_connections_matter():
    images = torch.rand(1, 3, 16, 16)
    assert not torch.allclose(make()(images), make(skip=False)(images))


@pytest.mark.parametrize("size", [(20, 16), (16, 20)])
def test_sides_that_do_not_fit(size: tuple[int, int]):
    with pytest.raises(InputError, match="multiples of 8"):
        make()(torch.rand(1, 3, *size))
