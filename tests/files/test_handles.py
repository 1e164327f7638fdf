from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bfr.errors import WrongArchitectureError
from bfr.files.checksums import network_sha256
from bfr.files.handles import NetworkHandle, load_into


def handle() -> NetworkHandle:
    network = nn.Linear(3, 2)
    nn.init.constant_(network.weight, 0.3)
    nn.init.zeros_(network.bias)
    return NetworkHandle(network, "tiny", 64)


def test_the_checksum_is_of_the_weights_as_they_were_read():
    ours = handle()
    before = network_sha256(ours.network)
    ours.to("cpu", torch.bfloat16)
    assert ours.dtype == torch.bfloat16
    assert ours.sha256 == before != network_sha256(ours.network)


def test_a_copy_shares_no_weights_and_has_a_checksum_of_its_own():
    ours = handle()
    sha256 = ours.sha256
    copy = ours.copy()
    nn.init.ones_(copy.network.get_parameter("weight"))
    assert (copy.name, copy.size) == ("tiny", 64)
    assert copy.sha256 != sha256 == ours.sha256
    assert float(ours.network.get_parameter("weight").detach()[0, 0]) < 0.5


def test_a_network_moves_in_place_and_one_without_weights_is_on_the_processor():
    ours = handle()
    assert ours.to("meta") is ours
    assert ours.device.type == "meta" == ours.network.get_parameter("weight").device.type
    nothing = NetworkHandle(nn.Identity())
    assert (nothing.device.type, nothing.dtype) == ("cpu", torch.float32)


def test_integers_are_not_taken_for_weights(tmp_path: Path):
    network, path = nn.PReLU(), tmp_path / "net.safetensors"
    network.register_parameter("scale", nn.Parameter(torch.ones(2)))
    save_file({**network.state_dict(), "scale": torch.ones(2).long()}, path)
    with pytest.raises(WrongArchitectureError, match=r"int64.*scale"):
        load_into(network, path, "hold a network")
