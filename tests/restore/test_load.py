"""Restorers from files: every architecture, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from spandrel import (
    ImageModelDescriptor,
    MaskedImageModelDescriptor,
    ModelLoader,
    SizeRequirements,
)
from spandrel.architectures.Compact import Compact
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.NAFNet import NAFNet
from spandrel.architectures.RestoreFormer import RestoreFormer
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn
from torch.nn.modules import module

from benchmarks.published import GOLDEN
from benchmarks.published.rule_weights import fill_by_rule, published_format, rule_state
from bfr.errors import (
    CorruptWeightsError,
    InputError,
    MissingPackageError,
    MissingWeightsError,
    WrongArchitectureError,
)
from bfr.restore.load import EMBEDDED_RESTORER, from_spandrel, load_restorer
from bfr.restore.restorer import Restorer, restore_faces
from bfr.restore.upscale import load_upscaler
from tests.restorers import Network, Stub, crops, darker, describe, nafnet


def stock_of(network: nn.Module) -> ImageModelDescriptor:
    """The same network through spandrel's own loader, as ComfyUI's Load Upscale Model does."""
    descriptor = ModelLoader().load_from_state_dict(dict(network.state_dict()))
    assert isinstance(descriptor, ImageModelDescriptor)
    return descriptor.eval()


def load(network: nn.Module, path: Path, metadata: dict[str, str] | None = None):
    save_file(network.state_dict(), path, metadata=metadata)
    return load_restorer(path)


@pytest.mark.parametrize("changes", [{"scale": 4}, {"input_channels": 1}, {"output_channels": 4}])
def test_descriptors_of_other_loaders_are_checked(changes: dict):
    with pytest.raises(WrongArchitectureError):
        describe(Network(darker), **changes)


def test_what_is_no_restorer_is_refused():
    with pytest.raises(WrongArchitectureError, match="Network"):
        from_spandrel(Network(darker))
    with pytest.raises(InputError, match="Network"):
        restore_faces(crops(1, 32), Network(darker))  # type: ignore[arg-type]


def test_nafnet_through_both_loaders(tmp_path: Path):
    network = nafnet()
    restorer = load(network, tmp_path / "net.safetensors", {"size": "64"})
    stock = stock_of(network)
    assert not restorer.network.training
    assert (restorer.size, from_spandrel(stock).size) == (64, 256)
    assert not restorer.uses_fidelity
    faces = crops(2, 64)
    expected = torch.cat([stock(face[None]) for face in faces])
    exact = replace(restorer, precision="float32")
    assert (restore_faces(faces, exact) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("load_it", [load_restorer, load_upscaler])
def test_a_small_file_does_not_become_a_huge_network(
    tmp_path: Path, load_it: Callable[[Path], object]
):
    state = nafnet().state_dict()
    state["intro.weight"] = torch.zeros(30_000, 3, 3, 3)  # the width of all: 7 GB in one layer
    save_file(state, tmp_path / "net.safetensors")
    built: list[int] = []
    handle = module.register_module_parameter_registration_hook(
        lambda _, name, tensor: built.append(tensor.numel())
    )
    with pytest.raises(WrongArchitectureError), handle:
        load_it(tmp_path / "net.safetensors")
    assert sum(built[:-1]) < 60_000_000  # the last one was not written to


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_integers_among_the_weights_are_refused(tmp_path: Path, dtype: torch.dtype, suffix: str):
    state = nafnet().state_dict()
    name = next(name for name in state if name.endswith("beta"))
    path = tmp_path / f"net{suffix}"
    state[name] = state[name].to(dtype)
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    with pytest.raises(WrongArchitectureError, match=f"{dtype}.*beta"):
        load_restorer(path)


@pytest.mark.parity
def test_swinir_matches_the_published_implementation(tmp_path: Path):
    with safe_open(GOLDEN / "swinir.safetensors", "pt") as file:
        metadata, faces, expected = (
            file.metadata(),
            file.get_tensor("input"),
            file.get_tensor("output"),
        )
    shapes, config = json.loads(metadata["state_dict_shapes"]), json.loads(metadata["config"])
    restorer = load_swinir(tmp_path, shapes, config["img_size"])
    assert restorer.size == faces.shape[-1]
    with torch.no_grad():
        assert (restorer(faces) - expected).abs().max() <= 1e-5
    assert (restore_faces(faces, restorer) - expected.clamp(0, 1)).abs().max() <= 1e-5


def load_swinir(folder: Path, shapes: dict, attention_size: int) -> Restorer:
    """Saves weights by rule as the publishers did (``module.`` before names), and loads them."""
    probe = SwinIR(img_size=attention_size, window_size=8, embed_dim=6, depths=[2], num_heads=[1])
    computed = probe.state_dict()
    first = "layers.0.residual_group.blocks.{}."
    index = computed[first.format(0) + "attn.relative_position_index"]
    mask = computed[first.format(1) + "attn_mask"]
    values = {
        **{name: index for name in shapes if name.endswith("relative_position_index")},
        **{name: mask for name in shapes if name.endswith("attn_mask")},
    }
    state = {"module." + name: tensor for name, tensor in rule_state(shapes, values).items()}
    torch.save(state, folder / "swinir.pth")
    return load_restorer(folder / "swinir.pth")


def small_gfpgan() -> Restorer:
    """GFPGAN with an eighth of the channels, which spandrel's loader does not build."""
    network = fill_by_rule(GFPGAN(narrow=0.125, num_style_feat=32))  # type: ignore[arg-type]
    return describe(network, "GFPGAN")


def check_published_range(restorer: Restorer, size: int = 512, **settings) -> tuple[dict, Tensor]:
    """The network is given [-1, 1] at 512 px and its first output is taken from there.

    Watches the network's own call, so that one forward pass is enough; a network that takes
    other sizes makes it at a smaller one.

    Returns:
        What else the network was given, and the restored face.
    """
    calls: list[tuple] = []
    faces = crops(1, size)
    assert restorer.size == 512
    restorer = replace(restorer, size=size)
    hook = restorer.network.register_forward_hook(
        lambda _, given, others, made: calls.append((given, others, made)), with_kwargs=True
    )
    restored = restore_faces(faces, restorer, **settings)
    hook.remove()
    [((given,), others, made)] = calls
    assert torch.allclose(given, 2 * faces - 1, atol=1e-6)
    assert (restored - (made[0] / 2 + 0.5).clamp(0, 1)).abs().max() <= 1e-5
    assert restored.std() > 0.01
    return others, restored


def test_gfpgan():
    restorer, faces = small_gfpgan(), crops(2, 512)
    others, _ = check_published_range(restorer)
    assert others["randomize_noise"] is False
    state = torch.random.get_rng_state()
    together = restore_faces(faces, restorer)
    assert torch.equal(torch.random.get_rng_state(), state), "no global randomness"
    assert torch.allclose(restore_faces(faces[1:], restorer), together[1:], atol=1e-5)


def test_restoreformer(tmp_path: Path):
    small = RestoreFormer(
        n_embed=16, embed_dim=32, ch=32, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1, z_channels=32
    )
    restorer = load(fill_by_rule(small), tmp_path / "net.safetensors")
    _, restored = check_published_range(restorer, 128)
    spandrels = stock_of(restorer.network)(crops(1, 128))
    assert (restored - spandrels).abs().max() <= 1e-5, "spandrel's call agrees"


class SmallCodeFormer(nn.Module):
    """Takes what CodeFormer takes: [-1, 1] and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, weight: float = 0.5) -> tuple[Tensor, Tensor]:
        assert x.shape[-2:] == (512, 512)
        assert -1 <= x.min() < -0.5 < 0.5 < x.max() <= 1
        return weight * x + (1 - weight) * self.convolution(x).tanh(), x.new_zeros(1)


def test_codeformers_fidelity_is_live():
    restorer, faces = describe(SmallCodeFormer(), "CodeFormer"), crops(1, 512)
    assert restorer.uses_fidelity
    assert restorer.size == 512
    assert torch.allclose(restore_faces(faces, restorer, fidelity=1.0), faces, atol=1e-6)
    with torch.no_grad():
        expected = restorer.network.convolution(2 * faces - 1).tanh() / 2 + 0.5  # type: ignore[operator]
    assert torch.allclose(restore_faces(faces, restorer, fidelity=0.0), expected, atol=1e-6)


def test_other_architectures_run_as_spandrel_calls_them(tmp_path: Path):
    network = Compact(num_feat=8, num_conv=1, upscale=1)
    restorer, stock = load(fill_by_rule(network), tmp_path / "net.safetensors"), stock_of(network)
    assert restorer.size is None and not restorer.trainable
    faces = crops(2, 40)
    expected = torch.cat([stock(face[None]) for face in faces])
    assert (restore_faces(faces, restorer) - expected).abs().max() <= 1e-5


def test_size_requirements_of_other_architectures_are_met():
    def only_multiples_of_32(x: Tensor) -> Tensor:
        assert x.shape[-1] % 32 == 0
        return darker(x)

    needs = SizeRequirements(minimum=64, multiple_of=32)
    for size in (24, 64, 72):
        faces = crops(1, size)
        restorer = describe(Network(only_multiples_of_32), size_requirements=needs)
        assert torch.allclose(restore_faces(faces, restorer), darker(faces), atol=1e-6)


def test_wrapped_torch_file(tmp_path: Path):
    network = nafnet()
    torch.save({"params_ema": network.state_dict()}, tmp_path / "net.pth")
    restorer = load_restorer(tmp_path / "net.pth")
    assert torch.equal(restorer.network.intro.weight, network.intro.weight)  # type: ignore[arg-type]


def test_upscalers_are_refused(tmp_path: Path):
    with pytest.raises(WrongArchitectureError, match="4× upscaler"):
        load(Compact(num_feat=8, num_conv=1, upscale=4), tmp_path / "net.safetensors")


def test_other_channels_are_refused(tmp_path: Path):
    network = Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=1, upscale=1)
    with pytest.raises(WrongArchitectureError, match="takes 1 and gives 1"):
        load(network, tmp_path / "net.safetensors")


def test_inpainters_are_refused():
    network = Network(darker)
    inpainter = MaskedImageModelDescriptor(
        network, network.state_dict(), Stub("LaMa"), "Inpainting", [], True, True, 3, 3
    )
    with pytest.raises(WrongArchitectureError, match="image to image"):
        from_spandrel(inpainter)


def test_unknown_networks_are_refused(tmp_path: Path):
    with pytest.raises(WrongArchitectureError, match=r"net\.safetensors.*'0\.bias'"):
        load(nn.Sequential(nn.Linear(2, 2)), tmp_path / "net.safetensors")


def test_a_network_with_a_missing_tensor_is_refused(tmp_path: Path):
    state = nafnet().state_dict()
    del state["ending.bias"]
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(WrongArchitectureError, match=r"ending\.bias"):
        load_restorer(tmp_path / "net.safetensors")


@pytest.mark.parametrize("size", ["0", "large", "-1"])
def test_a_senseless_size_is_refused(tmp_path: Path, size: str):
    with pytest.raises(CorruptWeightsError, match=size):
        load(nafnet(), tmp_path / "net.safetensors", {"size": size})


def test_missing_file(tmp_path: Path):
    with pytest.raises(MissingWeightsError, match="none"):
        load_restorer(tmp_path / "none.pth")


def test_codeformer_names_the_package_it_needs(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)
    path = tmp_path / "codeformer.pth"
    torch.save({"position_emb": torch.zeros(1), "idx_pred_layer.1.weight": torch.zeros(1)}, path)
    with pytest.raises(MissingPackageError, match=r"pip install spandrel_extra_arches.*commercial"):
        load_restorer(path)


@pytest.mark.skipif(not EMBEDDED_RESTORER.exists(), reason="not trained yet")
def test_embedded_restorer():
    restorer = load_restorer()
    size = restorer.size
    assert size is not None
    faces = crops(1, size)
    assert restore_faces(faces, restorer).shape == faces.shape


def full_size(network: nn.Module, path: Path, wrapper: str) -> Restorer:
    torch.save({wrapper: fill_by_rule(network).state_dict()}, path)
    return load_restorer(path)


def full_size_nafnet() -> NAFNet:
    """As its authors trained it to take away noise."""
    return NAFNet(width=32, middle_blk_num=12, enc_blk_nums=[2, 2, 4, 8], dec_blk_nums=[2, 2, 2, 2])


@pytest.mark.parametrize(
    ("make", "architecture", "wrapper", "size"),
    [
        (GFPGAN, "GFPGAN", "params_ema", 512),
        (RestoreFormer, "RestoreFormer", "params", 512),
        (full_size_nafnet, "NAFNet", "params", 256),
    ],
)
def test_full_size_files_load(
    make: Callable[[], nn.Module], architecture: str, wrapper: str, size: int, tmp_path: Path
):
    """Zeros do; the small networks above say what is done with faces."""
    with torch.device("meta"):
        state = make().state_dict()
    zeros = {name: torch.zeros(tensor.shape, dtype=torch.half) for name, tensor in state.items()}
    torch.save({wrapper: zeros}, tmp_path / "net.pth")
    restorer = load_restorer(tmp_path / "net.pth")
    assert (restorer.architecture, restorer.size) == (architecture, size)
    assert restorer.trainable
    assert restorer.network.state_dict().keys() == state.keys()


def test_full_size_codeformer(tmp_path: Path):
    extra = pytest.importorskip("spandrel_extra_arches.architectures.CodeFormer")
    restorer = full_size(extra.CodeFormer(), tmp_path / "codeformer.pth", "params_ema")
    assert restorer.uses_fidelity
    others, pretty = check_published_range(restorer, fidelity=0.0)
    assert others == {"weight": 0.0}
    others, faithful = check_published_range(restorer, fidelity=1.0)
    assert others == {"weight": 1.0}
    assert (pretty - faithful).abs().max() > 1e-3


def test_full_size_swinir(tmp_path: Path):
    tensors = published_format("swinir_gan_v1.pth")["tensors"]
    shapes = {name: shape for name, (shape, _) in tensors.items()}
    restorer = load_swinir(tmp_path, shapes, attention_size=64)
    assert restorer.size == 512
    assert sum(parameter.numel() for parameter in restorer.network.parameters()) > 15e6
    faces = crops(1, 64)  # it takes any multiple of 64, and 512 take long
    restored = restore_faces(faces, replace(restorer, size=64))
    state = dict(restorer.network.state_dict())
    for part in ("weight", "bias"):  # spandrel keeps it by another name than it reads
        state[f"conv_first.1.{part}"] = state.pop(f"conv_first.{part}")
    spandrels = ModelLoader().load_from_state_dict(state)
    assert isinstance(spandrels, ImageModelDescriptor)
    assert (restored - spandrels.eval()(faces)).abs().max() <= 1e-5, "spandrel's call agrees"
