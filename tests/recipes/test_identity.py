"""dlib's file format, the folding of its affine layers, and the parity benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import identity as benchmark
from bfr.faces.recognition import FaceResNet
from bfr.files.weights import write_state_dict
from recipes import identity as recipe


def number(value: int) -> bytes:
    size = max(1, (value.bit_length() + 7) // 8)
    return bytes([size]) + value.to_bytes(size, "little")


def tensor(values: np.ndarray) -> bytes:
    shape = (values.size, 1, 1, 1)
    return b"".join(map(number, (2, *shape))) + values.astype("<f4").tobytes()


def serialised(network: FaceResNet, affine: float) -> bytes:
    """A network as dlib would write it, with an affine layer of one gain after each convolution."""
    content = b"\x01\x01loss_metric_2"
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            values = np.concatenate([module.weight.flatten().numpy(), module.bias.numpy()])
            content += b"\x05con_4" + tensor(values) + b"\x01\x01"
            gains = np.full(len(module.bias), affine)
            content += b"\x07affine_" + tensor(np.concatenate([gains, gains - affine]))
    return content + b"\x04fc_2" + number(128) + number(256) + tensor(network.head.weight.T.numpy())


@torch.no_grad()
def test_a_file_of_dlib_becomes_the_same_network():
    network = FaceResNet().requires_grad_(False).eval()
    state = recipe.convert(list(recipe.read_layers(serialised(network, 1.0))))
    assert state.keys() == network.state_dict().keys()
    for name, values in network.state_dict().items():
        torch.testing.assert_close(state[name].float(), values, rtol=1e-6, atol=0)
    halved = recipe.convert(list(recipe.read_layers(serialised(network, 0.5))))
    bias = network.state_dict()["stem.bias"]
    torch.testing.assert_close(halved["stem.bias"].float(), 0.5 * bias)


def test_other_files_are_refused(tmp_path: Path):
    network = FaceResNet().requires_grad_(False)
    content = serialised(network, 1.0)
    with pytest.raises(ValueError):
        list(recipe.read_layers(content[:-20]))
    with pytest.raises(ValueError):
        recipe.convert(list(recipe.read_layers(content))[2:])
    (tmp_path / "other.dat").write_bytes(content)
    with pytest.raises(SystemExit):
        recipe.main([str(tmp_path / "other.dat"), str(tmp_path / "out.safetensors")])
    assert not (tmp_path / "out.safetensors").exists()


@torch.no_grad()
def test_parity_ends_with_1_beyond_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    network = FaceResNet().eval()
    weights, figures = tmp_path / "random.safetensors", tmp_path / "figures.npz"
    write_state_dict(weights, network.state_dict())
    chips = torch.randint(0, 256, (2, 150, 150, 3), dtype=torch.uint8)
    wanted = network(chips.permute(0, 3, 1, 2).float() / 255).numpy()
    words = [str(figures), "--weights", str(weights)]
    np.savez(figures, chips=chips.numpy(), embeddings=wanted)
    assert benchmark.main(words) == 0
    np.savez(figures, chips=chips.numpy(), embeddings=wanted + 0.01)
    assert benchmark.main(words) == 1
    np.savez(figures, chips=chips.numpy(), embeddings=wanted * np.nan)
    assert benchmark.main(words) == 1
    assert "largest" in capsys.readouterr().out
