"""The losses of the two recipes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bfr.errors import InputError, WrongArchitectureError
from bfr.faces.identity import embedded, identity_loss, load_identity
from bfr.finetune import losses
from bfr.finetune.codebook import Codebook
from bfr.finetune.discriminator import refresh
from bfr.finetune.losses import make_objective, pattern
from bfr.finetune.objective import Batch, Objective
from bfr.finetune.settings import CODEBOOK, DETAIL, DISCRIMINATORS, FinetuneSettings
from bfr.quality.perceptual import load_distance, pyramid_distance
from bfr.restore.restorer import Restorer
from tests import trainable
from tests.pair_sets import restorer as untrainable
from tests.portraits import astronaut

SETTINGS = FinetuneSettings(patch=32, discriminator_channels=4, distance="pyramid")


def batch(count: int = 2, size: int = 32, real: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(3, count, 3, size // 4, size // 4, generator=generator)
    lq, target, others = (
        F.interpolate(images, (size, size), mode="bilinear") for images in small.unbind()
    )
    return Batch(lq, target, others if real else None)


def make(restorer: Restorer, settings: FinetuneSettings = SETTINGS, seed: int = 0) -> Objective:
    return make_objective(restorer, settings, load_distance("pyramid"), "cpu", seed)


def gradients(network: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in network.named_parameters()}


def loss(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


# Regression -------------------------------------------------------------------------------------


def test_the_terms_are_what_they_are_called():
    restorer, given = trainable.nafnet(), batch()
    objective = make(restorer, replace(SETTINGS, pixel=2.0, perceptual=0.3, adversarial=0.5))
    terms, restored = objective.terms(given)
    assert restored is not None and torch.equal(restored, restorer(given.lq))
    assert objective.discriminator is not None
    logits = objective.discriminator(restored)
    expected = {
        "pixel": 2 * F.l1_loss(restored, given.target),
        "perceptual": 0.3 * pyramid_distance(restored, given.target).mean(),
        "adversarial": 0.5 * F.softplus(-logits).mean(),
    }
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name], expected[name]) for name in expected)


def test_the_person_is_compared_where_the_patch_was_cut_from():
    restorer, settings = trainable.nafnet(), replace(SETTINGS, adversarial=0.0, identity=10.0)
    objective, given = make(restorer, settings), batch()
    guess = F.interpolate(batch(size=16).target, (96, 96), mode="bilinear")
    placed = replace(given, guess=guess, corners=torch.tensor([[64, 0], [3, 41]]))
    terms, restored = objective.terms(placed)
    whole = guess.clone()
    whole[0, :, 64:, :32], whole[1, :, 3:35, 41:73] = (
        restored if restored is not None else given.lq
    ).detach()
    expected = 10 * identity_loss(whole, guess, load_identity(), 2 / 256)
    assert expected > 0 and torch.allclose(terms["identity"], expected)
    terms["identity"].backward()
    assert any(grad is not None and grad.any() for grad in gradients(restorer.network).values())
    assert "identity" not in make(restorer, replace(settings, identity=0.0)).terms(given)[0]


def test_a_guess_is_looked_at_once(monkeypatch: pytest.MonkeyPatch):
    looked: list[Tensor] = []
    monkeypatch.setattr(losses, "embedded", lambda *args: looked.append(args[0]) or embedded(*args))
    objective = make(trainable.nafnet(), replace(SETTINGS, adversarial=0.0, identity=10.0))
    given = replace(batch(), guess=batch().target, corners=torch.zeros(2, 2, dtype=torch.long))
    expected = objective.terms(given)[0]["identity"]
    del looked[:]
    for names, new in ((("a", "b"), 2), (("b", "a"), 0), (("", "a"), 1), (("", "c"), 2)):
        assert given.guess is not None
        order = [1, 0] if names[0] == "b" else [0, 1]
        shown = replace(given, names=names, guess=given.guess[order], lq=given.lq[order])
        found = objective.terms(shown)[0]["identity"]
        assert torch.allclose(found, expected, rtol=1e-4) or names[0] == ""
        assert len(looked) == new
        del looked[:]


@pytest.mark.parametrize("period", [2, 8, 16])
def test_a_pattern_is_told_from_a_face(period: int):
    face = astronaut()[0][..., 20:276, 100:356]
    tile = torch.randint(-2, 3, (1, period, period), generator=torch.Generator().manual_seed(1))
    grid = (tile - tile.float().mean()).tile(256 // period, 256 // period) / 255
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(2)) / 255
    without, drawn = pattern(face), pattern(face + grid)
    assert drawn > 2 * without and pattern(face + noise) < 1.5 * without
    images = (face + grid).requires_grad_()
    (pull,) = torch.autograd.grad(pattern(images), images)
    assert (pull * grid).sum() > 0.5 * (pull.abs() * grid.abs()).sum(), "it pulls at the pattern"


def test_the_pattern_is_the_mean_of_all_squares_of_detail():
    images = torch.rand(2, 3, 35, 50, generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), 5, 1)
    squares = (images - smooth).unfold(2, 16, 16).unfold(3, 16, 16)
    assert squares.shape[2:4] == (2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(pattern(images), squares.mean((2, 3)).abs().mean(), rtol=1e-4)


def test_the_pattern_counts_in_whole_faces():
    settings = replace(SETTINGS, adversarial=0, perceptual=0, pattern=2.0)
    terms, restored = make(trainable.nafnet(), settings).terms(batch(size=128))
    assert restored is not None
    assert torch.allclose(terms["pattern"], 2 * pattern(restored))
    assert make(trainable.nafnet(), settings).terms(batch(size=64))[0].keys() == {"pixel"}


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
@pytest.mark.parametrize("real", [False, True])
def test_the_critic_learns_real_from_restored(real: bool, discriminator: str):
    given = batch(real=real)
    objective = make(trainable.nafnet(), replace(SETTINGS, discriminator=discriminator))
    _, restored = objective.terms(given)
    assert restored is not None and objective.discriminator is not None
    terms = objective.critic_terms(given, restored)
    shown = given.real if given.real is not None else given.target
    expected = {
        "critic real": F.softplus(-objective.discriminator(shown)).mean(),
        "critic restored": F.softplus(objective.discriminator(restored)).mean(),
    }
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name], expected[name]) for name in expected)


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_each_network_gets_its_own_gradient(discriminator: str):
    settings, given = replace(SETTINGS, discriminator=discriminator), batch()
    objective = make(trainable.nafnet(), settings)
    assert objective.discriminator is not None
    terms, restored = objective.terms(given)
    assert restored is not None
    loss(terms).backward()
    assert all(grad is None for grad in gradients(objective.discriminator).values())
    own = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
    assert len(own) == len(objective.parameters())
    loss(objective.critic_terms(given, restored)).backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(own, objective.parameters(), strict=True))  # type: ignore[arg-type]
    found = gradients(objective.discriminator)
    fresh = make(trainable.nafnet(), settings)
    assert fresh.discriminator is not None
    loss(fresh.critic_terms(given, restored)).backward()
    for name, grad in gradients(fresh.discriminator).items():
        assert grad is not None and torch.allclose(grad, found[name], atol=1e-6)  # type: ignore[arg-type]


def test_the_adversarial_term_reaches_the_restorer():
    objective = make(trainable.nafnet(), replace(SETTINGS, pixel=0, perceptual=0))
    terms, _ = objective.terms(batch())
    assert terms.keys() == {"adversarial"}
    terms["adversarial"].backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.parameters())


def test_details_pull_at_a_share_of_the_errors():
    def pulled(share: float) -> Tensor:
        settings = replace(SETTINGS, discriminator=DETAIL, adversarial=share)
        terms, restored = make(trainable.nafnet(), settings).terms(batch(1))
        assert restored is not None
        return torch.autograd.grad(loss(terms), restored)[0]

    errors = pulled(0.0)
    assert (pulled(0.25) - errors).norm() == pytest.approx(0.25 * errors.norm().item(), rel=1e-4)


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_gradients_of_a_batch_are_the_mean_of_its_parts(discriminator: str):
    """So a step does not depend on its micro-batches."""

    def found(parts: list[Batch]) -> list[Tensor]:
        objective = make(trainable.nafnet(), replace(SETTINGS, discriminator=discriminator))
        for part in parts:
            terms, restored = objective.terms(part)
            assert restored is not None
            (loss(terms) / len(parts)).backward()
            (loss(objective.critic_terms(part, restored)) / len(parts)).backward()
        assert objective.discriminator is not None
        both = [*objective.parameters(), *objective.discriminator.parameters()]
        return [p.grad for p in both if p.grad is not None]

    whole = batch(4)
    parts = [Batch(whole.lq[i : i + 2], whole.target[i : i + 2]) for i in (0, 2)]
    for a, b in zip(found([whole]), found(parts), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_weight_of_zero_leaves_the_term_out():
    objective = make(trainable.nafnet(), replace(SETTINGS, adversarial=0, perceptual=0))
    terms, restored = objective.terms(batch())
    assert restored is not None
    assert terms.keys() == {"pixel"}
    assert objective.discriminator is None
    assert objective.critic_terms(batch(), restored) == {}


def test_the_discriminator_follows_from_the_seed():
    restorers = [trainable.nafnet() for _ in range(3)]
    state = torch.random.get_rng_state()
    first, same, other = (make(r, seed=seed) for r, seed in zip(restorers, (0, 0, 1), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state), "no global randomness"
    weights = [
        next(x.discriminator.parameters())  # type: ignore[union-attr]
        for x in (first, same, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_restored_is_not_clamped():
    restorer = trainable.nafnet()
    restorer.network.ending.bias.data.fill_(2.0)  # type: ignore[union-attr]
    _, restored = make(restorer).terms(batch())
    assert restored is not None and restored.min() > 1.1


def test_training_brings_the_restorer_to_its_targets():
    objective, given = make(trainable.nafnet()), batch()
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    history = []
    for _ in range(25):
        terms, _ = objective.terms(given)
        history.append(float(loss(terms).detach()))
        optimizer.zero_grad()
        loss(terms).backward()
        optimizer.step()
    assert history[-1] < 0.8 * history[0]


def test_training_teaches_the_critic():
    objective, given = make(trainable.nafnet()), batch()
    assert objective.discriminator is not None
    dark = given.target * 0.1
    optimizer = torch.optim.Adam(objective.discriminator.parameters(), 1e-2)
    for _ in range(40):
        refresh(objective.discriminator)
        optimizer.zero_grad()
        loss(objective.critic_terms(given, dark)).backward()
        optimizer.step()
    with torch.no_grad():
        real, restored = (objective.discriminator(x).mean() for x in (given.target, dark))
    assert real > restored + 0.5


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_lowers_the_networks_alone(precision: torch.dtype):
    expected, _ = make(trainable.nafnet()).terms(batch())
    with torch.autocast("cpu", precision):
        terms, _ = make(trainable.nafnet()).terms(batch())
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert torch.allclose(term, expected[name], rtol=0.05), name


NETWORKS = [
    trainable.nafnet,
    trainable.swinir,
    trainable.gfpgan,
    trainable.restoreformer,
]


@pytest.mark.parametrize("network", NETWORKS)
def test_all_that_is_trained_gets_a_gradient(network: Callable[[], Restorer]):
    restorer = network()
    size = {"GFPGAN": 64, "RestoreFormer": 128}.get(restorer.architecture, 32)
    objective = make(restorer, replace(SETTINGS, patch=None, adversarial=0))
    terms, _ = objective.terms(batch(1, size))
    loss(terms).backward()
    for name, parameter in restorer.network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    assert any(p.requires_grad for p in restorer.network.parameters())


def test_the_words():
    text = make(trainable.nafnet()).describe()
    assert text == (
        "L1 × 1 + normalized Laplacian pyramid distance × 0.1 + GAN (unet of 4 channels) × 0.1"
    )
    assert "GAN" not in make(trainable.nafnet(), replace(SETTINGS, adversarial=0)).describe()


def test_what_cannot_be_trained():
    with pytest.raises(WrongArchitectureError, match=r"GFPGAN.*NAFNet.*got"):
        make(untrainable())
    with pytest.raises(WrongArchitectureError, match="'regression'"):
        make(trainable.nafnet(), replace(SETTINGS, objective=CODEBOOK))
    with pytest.raises(WrongArchitectureError, match="'codebook'"):
        make(untrainable(architecture="CodeFormer"))


def test_patches_that_cannot_be():
    with pytest.raises(InputError, match="multiple of 8"):
        make(trainable.nafnet(), replace(SETTINGS, patch=36))
    make(trainable.nafnet(), replace(SETTINGS, patch=36, adversarial=0))
    with pytest.raises(InputError, match="whole faces of 512 px"):
        make(untrainable(architecture="GFPGAN"))


# Codebook ---------------------------------------------------------------------------------------


class Attention(nn.Module):
    """A transformer's layer as CodeFormer calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        return query + self.linear(query + query_pos).tanh()


class TinyCodeFormer(nn.Module):
    """CodeFormer's parts by their names, with 5 codes of 6 numbers and 16 places."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.Tanh())
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding.from_pretrained(torch.randn(5, 6) / 4, freeze=False)
        self.generator = nn.ConvTranspose2d(6, 3, 8, 8)
        self.fuse_convs_dict = nn.ModuleDict({"32": nn.Conv2d(3, 3, 1)})
        self.position_emb = nn.Parameter(torch.randn(16, 8))
        self.feat_emb = nn.Linear(6, 8)
        self.ft_layers = nn.Sequential(Attention(), Attention())
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 5, bias=False))


def codebook(**changes) -> tuple[TinyCodeFormer, Objective]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TinyCodeFormer()
    settings = FinetuneSettings(objective=CODEBOOK, patch=None, **changes)
    return network, make(trainable.describe(network, "CodeFormer"), settings)


def test_the_codebooks_terms():
    network, objective = codebook()
    assert isinstance(objective, Codebook)
    given = batch()
    terms, restored = objective.terms(given)
    assert restored is None
    assert objective.discriminator is None
    with torch.no_grad():
        wanted = network.encoder(2 * given.target - 1)
        codes: Tensor = network.quantize.embedding.weight  # type: ignore[union-attr]
        distances = (wanted[:, None] - codes[None, :, :, None, None]).square().sum(2)
        nearest = distances.argmin(1)  # 2×4×4
        features = network.encoder(2 * given.lq - 1)
        feature = (features - codes[nearest].permute(0, 3, 1, 2)).square().mean()
    assert torch.allclose(terms["feature"], feature)
    assert 0 < terms["code"] < 0.5 * 3 * math.log(5)


def test_only_the_encoder_and_the_transformer_learn():
    network, objective = codebook()
    terms, _ = objective.terms(batch())
    loss(terms).backward()
    for name, parameter in network.named_parameters():
        frozen = name.startswith(("quantize", "generator", "fuse_convs_dict"))
        assert parameter.requires_grad == (not frozen), name
        assert (parameter.grad is None) == frozen, name
    assert len(objective.parameters()) == sum(p.requires_grad for p in network.parameters())
    assert "frozen: quantize, generator, fuse_convs_dict" in objective.describe()


def test_the_codes_are_those_of_the_encoder_as_it_was():
    network, objective = codebook(feature=0.0)
    assert isinstance(objective, Codebook)
    before = objective._codes_of(batch().target)
    assert len(before.unique()) > 1, "or the test says nothing"
    with torch.no_grad():
        network.encoder.get_parameter("0.weight").normal_()
    assert torch.equal(objective._codes_of(batch().target), before)


def test_training_finds_the_codes():
    _, objective = codebook()
    given = batch()
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    history = []
    for _ in range(60):
        terms, _ = objective.terms(given)
        history.append({name: float(x.detach()) for name, x in terms.items()})
        optimizer.zero_grad()
        loss(terms).backward()
        optimizer.step()
    assert history[-1]["code"] < 0.3 * history[0]["code"]
    assert history[-1]["feature"] < history[0]["feature"]


def test_whole_faces_only():
    network = trainable.describe(TinyCodeFormer(), "CodeFormer")
    with pytest.raises(InputError, match="512 px"):
        make(network, FinetuneSettings(objective=CODEBOOK, patch=128))


def test_the_codes_are_those_that_codeformer_predicts():
    """On the published architecture, with one layer of attention instead of nine."""
    extra = pytest.importorskip("spandrel_extra_arches.architectures.CodeFormer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = extra.CodeFormer(dim_embd=64, n_layers=1).eval()
        network.quantize.embedding.weight.data.normal_()
    restorer = trainable.describe(network, "CodeFormer")
    objective = make(restorer, FinetuneSettings(objective=CODEBOOK))
    given = batch(1, 512)
    features: list[Tensor] = []
    hook = network.encoder.blocks[-1].register_forward_hook(lambda *x: features.append(x[-1]))
    with torch.no_grad():
        _, logits = network(given.lq * 2 - 1, weight=0)
        hook.remove()
        _, _, statistics = network.quantize(objective.encoder(given.target * 2 - 1))  # type: ignore[union-attr]
        terms, _ = objective.terms(given)
    wanted = statistics["min_encoding_indices"].view(1, 256)
    expected = network.quantize.get_codebook_feat(wanted, shape=[1, 16, 16, 256])
    code = 0.5 * F.cross_entropy(logits.permute(0, 2, 1), wanted)
    assert torch.allclose(terms["code"], code, rtol=1e-4)
    assert torch.allclose(terms["feature"], (features[0] - expected).square().mean(), rtol=1e-4)


def test_no_person_is_looked_for_in_faces_that_are_none():
    restorer = trainable.nafnet()
    with torch.no_grad():
        next(restorer.network.parameters()).fill_(torch.nan)
    objective = make(restorer, replace(SETTINGS, adversarial=0.0, identity=10.0))
    given = batch()
    placed = replace(given, guess=given.target, corners=torch.zeros(2, 2, dtype=torch.long))
    assert objective.terms(placed)[0]["identity"].isnan(), "the learner names the step"
