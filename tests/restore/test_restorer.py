"""Loading face restorers of every architecture and restoring batches with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from spandrel import (
    Architecture,
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

from bfr.errors import (
    CancelledError,
    CorruptWeightsError,
    InputError,
    MissingPackageError,
    MissingWeightsError,
    WeightsError,
    WrongArchitectureError,
)
from bfr.image.lowpass import lowpass
from bfr.restore.load import EMBEDDED_RESTORER, from_spandrel, load_restorer
from bfr.restore.restorer import Restorer, restore_faces
from tests.rule_weights import GOLDEN, fill_by_rule, published_format, rule_state


class Stub(Architecture):
    """An architecture by name only."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, detect=lambda state: False)

    def load(self, state_dict):
        raise NotImplementedError


def describe(
    network: nn.Module, architecture: str = "Stub", *, size: int | None = None, **changes
) -> Restorer:
    """A restorer as it comes from another loader; of another face size if one is given."""
    facts = {
        "purpose": "SR",
        "tags": [],
        "supports_half": True,
        "supports_bfloat16": True,
        "scale": 1,
        "input_channels": 3,
        "output_channels": 3,
    }
    restorer = from_spandrel(
        ImageModelDescriptor(
            network, network.state_dict(), Stub(architecture), **{**facts, **changes}
        )
    )
    return restorer if size is None else replace(restorer, size=size)


class Network(nn.Module):
    """A function of the image as a network; it keeps the sizes of the batches it saw."""

    def __init__(self, function: Callable[[Tensor], Tensor], limit: int = 99) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))
        self.function, self.limit = function, limit
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("allocating 7 GiB failed")
        return self.function(x)


def darker(x: Tensor) -> Tensor:
    return 0.5 * x + 0.2


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces go through the network as many at once as on an accelerator."""
    monkeypatch.setattr("bfr.restore.restorer.at_once", lambda batch_size, device: batch_size)


def nafnet(width: int = 8) -> NAFNet:
    network = NAFNet(width=width, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    fill_by_rule(network)
    network.ending.weight.data.mul_(0.05)  # a restorer changes its input a little
    return network


def crops(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, size // 8, size // 8, generator=generator)
    return F.interpolate(small, (size, size), mode="bilinear")


def stock_of(network: nn.Module) -> ImageModelDescriptor:
    """The same network through spandrel's own loader, as ComfyUI's Load Upscale Model does."""
    descriptor = ModelLoader().load_from_state_dict(dict(network.state_dict()))
    assert isinstance(descriptor, ImageModelDescriptor)
    return descriptor.eval()


def load(network: nn.Module, path: Path, metadata: dict[str, str] | None = None):
    save_file(network.state_dict(), path, metadata=metadata)
    return load_restorer(path)


# Restoring -------------------------------------------------------------------------------------


def test_result_is_the_networks():
    faces = crops(3, 32)
    restored = restore_faces(faces, describe(Network(darker)))
    assert torch.allclose(restored, darker(faces), atol=1e-6)


def test_another_size_is_resized_there_and_back():
    faces, restorer = crops(2, 128), describe(nafnet(), "NAFNet")
    assert restorer.size == 256

    def resize(x: Tensor, size: int) -> Tensor:
        return F.interpolate(x, (size, size), mode="bicubic", antialias=True)

    for given in (faces, resize(faces, 512).clamp(0, 1)):
        size = given.shape[-1]
        with torch.no_grad():
            expected = resize(restorer.network(resize(given, 256)), size).clamp(0, 1)
        restored = restore_faces(given, replace(restorer, precision="float32"))
        assert restored.shape == given.shape
        assert torch.allclose(restored, expected, atol=1e-6)


def test_strength_blends_from_the_crop():
    faces, restorer = crops(2, 32), describe(Network(darker))
    full = restore_faces(faces, restorer)
    assert torch.equal(restore_faces(faces, restorer, strength=0.0), faces)
    half = restore_faces(faces, restorer, strength=0.5)
    assert torch.allclose(half, (faces + full) / 2, atol=1e-6)


def test_lock_keeps_the_crops_low_frequencies():
    faces = 0.25 + crops(2, 64) / 2
    restorer = describe(Network(lambda x: 0.5 * x.flip(3) + 0.2))
    free = restore_faces(faces, restorer)
    locked = restore_faces(faces, restorer, lock=1.0, lock_factor=8)
    expected = free + lowpass(faces, 8) - lowpass(free, 8)
    assert 0 < expected.min() < expected.max() < 1, "nothing is clamped here"
    assert torch.allclose(locked, expected, atol=1e-6)
    half = restore_faces(faces, restorer, lock=0.5, lock_factor=8)
    assert torch.allclose(half, (free + locked) / 2, atol=1e-6)
    blended = restore_faces(faces, restorer, lock=1.0, lock_factor=8, strength=0.3)
    assert torch.allclose(blended, faces + 0.3 * (locked - faces), atol=1e-6)


def test_result_is_clamped_once_at_the_end():
    faces = torch.full((1, 3, 16, 16), 0.5)
    bright = describe(Network(lambda x: x + 1), "NAFNet", size=16)
    assert restore_faces(faces, bright).max() == 1
    assert torch.allclose(restore_faces(faces, bright, strength=0.25), faces + 0.25)


@pytest.mark.usefixtures("accelerated")
def test_a_batch_is_its_singles():
    faces, restorer = crops(5, 64), describe(nafnet(), "NAFNet", size=64)
    restorer = replace(restorer, precision="float32")
    together = restore_faces(faces, restorer, batch_size=5)
    singles = torch.cat([restore_faces(face[None], restorer) for face in faces])
    assert torch.allclose(together, singles, atol=1e-6)
    assert torch.allclose(restore_faces(faces, restorer, batch_size=2), together, atol=1e-6)


def test_a_processor_takes_faces_one_by_one():
    network = Network(darker)
    restore_faces(crops(3, 16), describe(network), batch_size=8)
    assert network.batches == [1, 1, 1]


def test_half_precision_rounds_no_weights():
    restorer, faces = describe(nafnet(), "NAFNet", size=64), crops(2, 64)
    before = {name: tensor.clone() for name, tensor in restorer.network.state_dict().items()}
    exact = restore_faces(faces, replace(restorer, precision="float32"))
    half = restore_faces(faces, replace(restorer, precision="bfloat16"))
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().mean() < 0.05
    for name, tensor in restorer.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_what_overflows_in_half_precision_is_computed_again_in_full():
    class Overflowing(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input * 1e30) / 1e30  # beyond float16

    network = Overflowing(16, 16, bias=False)
    nn.init.eye_(network.weight)
    restorer = replace(describe(network, "NAFNet", size=16), precision="float16")
    faces = crops(1, 16)
    assert torch.allclose(restore_faces(faces, restorer), faces, atol=1e-5)


@pytest.mark.usefixtures("accelerated")
def test_progress_counts_faces():
    steps: list[tuple[int, int]] = []
    previews: list[Tensor] = []

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        steps.append((done, total))
        assert preview is not None
        previews.append(preview)

    faces = crops(5, 16)
    restored = restore_faces(faces, describe(Network(darker)), batch_size=2, on_step=on_step)
    assert steps == [(2, 5), (4, 5), (5, 5)]
    assert torch.equal(torch.cat(previews), restored)


def test_cancelling_stops_at_once():
    network = Network(darker)

    def cancel(done: int, total: int, preview: Tensor | None) -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        restore_faces(crops(4, 16), describe(network), batch_size=1, on_step=cancel)
    assert network.batches == [1]


@pytest.mark.usefixtures("accelerated")
def test_out_of_memory_halves_the_batch_and_goes_on():
    network, faces = Network(darker, limit=2), crops(11, 16)
    restored = restore_faces(faces, describe(network), batch_size=8)
    assert torch.allclose(restored, darker(faces), atol=1e-6)
    assert network.batches == [8, 4, 2, 2, 2, 2, 2, 1], "it stays small"


def test_out_of_memory_for_one_face():
    with pytest.raises(torch.OutOfMemoryError, match="single face") as caught:
        restore_faces(crops(3, 16), describe(Network(darker, limit=0)))
    assert "7 GiB" in str(caught.value)


@pytest.mark.usefixtures("accelerated")
def test_the_processors_own_words_for_out_of_memory():
    def greedy(x: Tensor) -> Tensor:
        return darker(x) + torch.empty(2**60 if len(x) > 1 else 1, dtype=torch.uint8)[0] * 0

    network = Network(greedy)
    restored = restore_faces(crops(3, 16), describe(network))
    assert restored.shape == (3, 3, 16, 16)
    assert network.batches == [3, 1, 1, 1]


@pytest.mark.usefixtures("accelerated")
def test_other_errors_are_not_taken_for_memory():
    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("boom")

    network = Network(fail)
    with pytest.raises(RuntimeError, match="boom"):
        restore_faces(crops(4, 16), describe(network))
    assert network.batches == [4]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_an_error_and_no_black_face(value: float):
    restorer = describe(Network(lambda x: x * value), "NAFNet", size=16)
    with pytest.raises(WeightsError, match="NaN"):
        restore_faces(crops(1, 16), restorer)


def test_input_is_not_written_to():
    faces = crops(2, 16)
    before = faces.clone()
    restore_faces(faces, describe(Network(lambda x: x.mul_(0.5))), lock=0.5)
    assert torch.equal(faces, before)


def test_no_faces():
    network = Network(darker)
    restored = restore_faces(torch.zeros(0, 3, 512, 512), describe(network, "NAFNet"))
    assert restored.shape == (0, 3, 512, 512)
    assert network.batches == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_network(dtype: torch.dtype):
    faces, network = crops(1, 64), nafnet()
    full = restore_faces(faces, describe(network, "NAFNet", size=64))
    restorer = describe(network, "NAFNet", size=64).to(dtype=dtype)
    half = restore_faces(faces, restorer)
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 0.1


def test_drop_path_is_off():
    network = fill_by_rule(
        SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=8, upsampler="",
               mlp_ratio=2, upscale=1, drop_path_rate=0.5)
    )  # fmt: skip
    restorer, faces = describe(network, "SwinIR"), crops(2, 16)
    restorer.network.train()
    first = restore_faces(faces, restorer)
    assert torch.equal(restore_faces(faces, restorer), first)


def test_gradients_flow_for_training():
    restorer, faces = describe(nafnet(), "NAFNet"), crops(1, 32)
    restorer(faces).sum().backward()
    assert restorer.network.intro.weight.grad is not None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fidelity": 1.1},
        {"strength": -0.1},
        {"strength": float("nan")},
        {"lock": 2.0},
        {"batch_size": 0},
        {"lock": 0.5, "lock_factor": 5},
        {"lock": 0.5, "lock_factor": 0},
    ],
)
def test_settings_out_of_range(wrong: dict):
    network = Network(darker)
    with pytest.raises(InputError):
        restore_faces(crops(1, 32), describe(network), **wrong)
    assert network.batches == []


def test_crops_that_are_none():
    restorer = describe(nafnet(), "NAFNet")
    with pytest.raises(InputError, match="square"):
        restore_faces(torch.zeros(1, 3, 32, 48), restorer)
    with pytest.raises(InputError, match="finite"):
        restore_faces(torch.full((1, 3, 32, 32), float("nan")), restorer)
    with pytest.raises(InputError, match="B×3×H×W"):
        restore_faces(torch.zeros(1, 32, 32, 3), restorer)


def test_a_network_that_changes_the_size_is_refused():
    restorer = describe(Network(lambda x: x[..., ::2, ::2]), "NAFNet", size=32)
    with pytest.raises(WrongArchitectureError, match="size"):
        restore_faces(crops(1, 32), restorer)


@pytest.mark.parametrize("changes", [{"scale": 4}, {"input_channels": 1}, {"output_channels": 4}])
def test_descriptors_of_other_loaders_are_checked(changes: dict):
    with pytest.raises(WrongArchitectureError):
        describe(Network(darker), **changes)


def test_what_is_no_restorer_is_refused():
    with pytest.raises(WrongArchitectureError, match="Network"):
        from_spandrel(Network(darker))
    with pytest.raises(InputError, match="Network"):
        restore_faces(crops(1, 32), Network(darker))  # type: ignore[arg-type]


# The conventions of each architecture ------------------------------------------------------------


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


# Loading -----------------------------------------------------------------------------------------


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


# Published networks at full size, with weights by rule -------------------------------------------


def full_size(network: nn.Module, path: Path, wrapper: str) -> Restorer:
    torch.save({wrapper: fill_by_rule(network).state_dict()}, path)
    return load_restorer(path)


@pytest.mark.parametrize(
    ("network", "file", "wrapper"),
    [(GFPGAN, "GFPGANv1.4.pth", "params_ema"), (RestoreFormer, "RestoreFormer.pth", "params")],
)
def test_full_size_files_load(network: type[nn.Module], file: str, wrapper: str, tmp_path: Path):
    """Zeros do; the small networks above say what is done with faces."""
    with torch.device("meta"):
        state = network().state_dict()
    zeros = {name: torch.zeros(tensor.shape) for name, tensor in state.items()}
    torch.save({wrapper: zeros}, tmp_path / file)
    restorer = load_restorer(tmp_path / file)
    assert restorer.architecture == network.__name__.removesuffix("v1Clean")
    assert restorer.size == 512 and restorer.trainable
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


def test_full_size_nafnet(tmp_path: Path):
    network = NAFNet(
        width=32, middle_blk_num=12, enc_blk_nums=[2, 2, 4, 8], dec_blk_nums=[2, 2, 2, 2]
    )
    restorer = full_size(network, tmp_path / "nafnet.pth", "params")
    faces = crops(1, 64)
    restored = restore_faces(faces, replace(restorer, size=64, precision="float32"))
    assert (restored - stock_of(network)(faces)).abs().max() <= 1e-5
