"""The discriminators."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bfr.errors import InputError
from bfr.files.photos import read_photo
from bfr.finetune.discriminator import DetailDiscriminator, UNetDiscriminator, balanced, refresh


def make() -> UNetDiscriminator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNetDiscriminator(4)


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


@pytest.mark.parametrize("size", [(20, 16), (16, 20)])
def test_sides_that_do_not_fit(size: tuple[int, int]):
    with pytest.raises(InputError, match="multiples of 8"):
        make()(torch.rand(1, 3, *size))


def test_details_are_learned_in_some_dozen_steps(root: Path):
    """Then it knows a crisp photograph from a soft one it has not seen."""
    photos = (root / "samples/grace_hopper.jpg", root / "samples/eileen_collins.jpg")
    crisp = torch.cat([F.adaptive_avg_pool2d(read_photo(p).pixels, 128) for p in photos])
    soft = F.avg_pool2d(F.pad(crisp, (1, 1, 1, 1), mode="replicate"), 3, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DetailDiscriminator(16)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(40):
        loss = F.softplus(-network(crisp[:1])).mean() + F.softplus(network(soft[:1])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.0, "chance is 1.39"
    with torch.no_grad():
        assert network(crisp[1:]).mean() > network(soft[1:]).mean()


def test_details_are_judged_at_any_size():
    assert DetailDiscriminator(4)(torch.rand(2, 3, 20, 33)).shape == (2, 1, 3, 5)


def test_an_adversary_is_held_at_its_share():
    """Of two losses in different directions, whatever their sizes, on each image by itself."""
    images = torch.zeros(2, 3, 4, 4, requires_grad=True)
    sizes = torch.tensor([1.0, 5.0])[:, None, None]
    for size in (1e-3, 1e3):
        loss = balanced(
            images,
            (2 * sizes * images[:, 0]).sum(),
            lambda x, size=size: size * (x[:, 1].sum() + 1),
            0.25,
        )
        (gradient,) = torch.autograd.grad(loss, images)
        torch.testing.assert_close(loss, torch.tensor(0.25 * size))
        assert not gradient[:, 0].any()
        torch.testing.assert_close(gradient[:, 1], (0.5 * sizes).expand(-1, 4, 4))
