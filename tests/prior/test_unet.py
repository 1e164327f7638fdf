"""The diffusion U-Net."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.published import GOLDEN
from benchmarks.published.priors import published_unet
from benchmarks.published.rule_weights import fill_by_rule
from bfr.prior.checkpoints import PRIOR_PRESETS, build_unet, read_config
from bfr.prior.unet import UNet, UNetConfig, time_embedding

TINY = UNetConfig(
    model_channels=32,
    channels=(32, 64),
    blocks=(0, 1),
    attention=(False, True),
    head_channels=32,
)
DIALECTS = {
    "folded": replace(TINY, patch=4),
    "detailed": replace(TINY, patch=4, detail=8),
    "residual": replace(TINY, residual_resampling=True),
    "added time": replace(TINY, scale_shift=False),
    "new order": replace(TINY, new_attention_order=True),
    "counted heads": replace(TINY, head_channels=0, heads=4, decoder_heads=2),
    "learned variance": replace(TINY, out_channels=6),
    "three levels": replace(TINY, channels=(32, 32, 64), blocks=(1, 0, 2), attention=(True,) * 3),
}


def faces(count: int = 2, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, size, size, generator=generator)
    return x, torch.arange(count) * 300


@pytest.mark.parity
@pytest.mark.parametrize("dialect", ["difface", "openai", "plain"])
def test_matches_the_published_implementation(dialect: str):
    published = published_unet(dialect)
    preset = replace(PRIOR_PRESETS["guided-diffusion"], **published.facts)
    path, state = GOLDEN / f"unet_{dialect}.safetensors", published.state()
    network = build_unet(read_config(state, preset, path), state, path)
    assert (network(published.x, published.t) - published.output).abs().max() <= 1e-4


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_shape_and_faces_alone(dialect: str):
    config = DIALECTS[dialect]
    network = fill_by_rule(UNet(config))
    x, t = faces(3)
    with torch.no_grad():
        result = network(x, t)
        one = network(x[1:2], t[1:2])
    assert result.shape == (3, config.out_channels, 32, 32)
    assert torch.allclose(result[1:2], one, atol=1e-5)
    assert result.std() > 0.1


@pytest.mark.parametrize(
    "dialect", [name for name in DIALECTS if name not in ("folded", "detailed")]
)
def test_structure_is_read_back_from_the_names_and_shapes(dialect: str):
    config = DIALECTS[dialect]
    preset = replace(
        PRIOR_PRESETS["guided-diffusion"],
        head_channels=config.head_channels,
        heads=config.heads,
        decoder_heads=config.decoder_heads,
        new_attention_order=config.new_attention_order,
    )
    assert read_config(UNet(config).state_dict(), preset, GOLDEN) == config


def test_any_side_that_is_a_multiple_will_do():
    network = fill_by_rule(UNet(DIALECTS["folded"]))
    with torch.no_grad():
        assert network(torch.randn(1, 3, 16, 40), torch.tensor([5])).shape == (1, 3, 16, 40)


def test_the_time_step_counts():
    network = fill_by_rule(UNet(TINY))
    x, _ = faces()
    with torch.no_grad():
        early, late = (network(x, torch.full((2,), step)) for step in (1, 900))
    assert (early - late).abs().max() > 0.01


def test_begins_as_zero_and_learns():
    network = UNet(TINY)
    x, t = faces()
    assert not network(x, t).any()
    network = fill_by_rule(network)
    network(x, t).square().mean().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_a_look_at_the_details_begins_as_nothing_and_knows_amplitudes():
    """It must see how strong a detail is, which the normalised network does not."""
    plain, detailed = (UNet(DIALECTS[name]) for name in ("folded", "detailed"))
    detailed.load_state_dict(fill_by_rule(plain).state_dict(), strict=False)
    x, t = faces()
    with torch.no_grad():
        assert torch.equal(detailed(x, t), plain(x, t))
        added = [
            fill_by_rule(detailed)(scale * x, t) - fill_by_rule(plain)(scale * x, t)
            for scale in (100, 200)
        ]
    assert added[1].std() > 1.8 * added[0].std()


def test_time_embedding_is_that_of_the_paper():
    embedding = time_embedding(torch.tensor([0, 7]), 8)
    assert torch.equal(embedding[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    frequencies = 10000.0 ** -(torch.arange(4) / 4)
    assert torch.allclose(embedding[1, :4], (7 * frequencies).cos(), atol=1e-6)
    assert torch.allclose(embedding[1, 4:], (7 * frequencies).sin(), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_channels_last_stay_close(dtype: torch.dtype):
    network = fill_by_rule(UNet(TINY))
    x, t = faces()
    with torch.no_grad():
        exact = network(x, t)
        network.to(dtype).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        half = network(x.to(dtype), t)
    assert half.dtype == dtype
    error = (half.float() - exact).std() / exact.std()
    assert error < (0.03 if dtype == torch.bfloat16 else 0.004)
