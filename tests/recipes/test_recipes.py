"""The recipes run from data to a file that loads, and resume where they stopped."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bfr.faces.align import align_faces
from bfr.faces.identity import load_identity
from bfr.faces.retinaface import build_detector, load_detector
from bfr.image.geometry import face_template
from bfr.prior.load import EMBEDDED_PRIOR, load_prior
from bfr.prior.prior import predict
from bfr.prior.schedule import Schedule, respace
from bfr.records import Face, FaceSet
from bfr.restore.load import load_restorer
from recipes import __main__ as everything
from recipes import detector, prior, restorer, restorer_pairs
from recipes.aligned import draw_faces, inside
from recipes.detector_damage import put_on_hat
from recipes.detector_labels import Labels
from recipes.detector_looks import make_empty_look
from recipes.detector_samples import load_source, make_canvas, mirrored
from recipes.faces import TRAIN_FOLDERS, LabelledImage, held_out, landmark_boxes, read_keypoints
from recipes.frame import load_average, weights_of
from recipes.groups import by_group, repeats, skin_lightness
from recipes.restorer_losses import part_weights, restoration_loss, whole_face_loss
from tests.portraits import astronaut, only


def options(**given) -> argparse.Namespace:
    defaults = {"minutes": 1e9, "steps": 1, "batch": 2, "workers": 0, "lr": 1e-3, "patch": 64}
    defaults |= {"compile": False, "bfloat16": False, "start": None}
    return argparse.Namespace(**(defaults | given))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with both landmark tables over noise pictures."""
    rng = np.random.default_rng(0)
    points = (face_template(80).numpy() + 0.1).round(2)
    for folder in ("keypoints", "keypoints5"):
        images = tmp_path / "data" / folder / "images"
        images.mkdir(parents=True)
        rows = []
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(images / f"{i}.jpg")
            if folder == "keypoints":
                five = {range(36, 42): 0, range(42, 48): 1, range(30, 31): 2}
                row = np.zeros((68, 2))
                for where, index in five.items():
                    row[list(where)] = points[index]
                row[48], row[54] = points[3], points[4]
            else:
                row = points
            rows.append(f"{i}.jpg," + ",".join(f"{value:.2f}" for value in row.ravel()))
        header = "image," + ",".join(["x"] * row.size)
        table = images.parent / f"{folder}{'68' if folder == 'keypoints' else '5'}.csv"
        table.write_text("\n".join([header, *rows]))
    return tmp_path / "data"


def test_labels_are_read_alike_from_both_tables(data):
    """They lie a little right of and below the points they name, which reading puts right."""
    images = read_keypoints(data)
    assert len(images) == 16
    for image in images:
        x, y = (1.15, 1.5) if image.path.parent.parent.name == "keypoints" else (1.4, 1.2)
        moved = image.landmarks[0] + [x, y]
        np.testing.assert_allclose(moved, face_template(80), atol=0.12)
    box = landmark_boxes(images[0].landmarks)[0]
    np.testing.assert_allclose(box, [18.5, 17.6, 58.5, 69.2], atol=1)


def test_labels_of_small_faces_lie_less_far_off(tmp_path):
    """The second table has two sources, of which that of small faces is almost right."""
    points = face_template(50).numpy()
    rows = ["image", "0.jpg," + ",".join(f"{value:.4f}" for value in points.ravel())]
    for folder in ("keypoints", "keypoints5"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "table.csv").write_text(
            "\n".join(rows if folder[-1] == "5" else ["image"])
        )
    (image,) = read_keypoints(tmp_path)
    np.testing.assert_allclose(image.landmarks[0] + [0.2, 0.3], points, atol=0.01)


def test_canvas_labels_follow_the_pixels(tmp_path):
    """A white dot drawn at each landmark is still white where the canvas says the landmark is."""
    rng = np.random.default_rng(1)
    points = face_template(200).numpy()
    picture = np.zeros((200, 200, 3), np.uint8)
    for x, y in points.round().astype(int):
        picture[y - 5 : y + 6, x - 5 : x + 6] = 255
    Image.fromarray(picture).save(tmp_path / "0.png")
    source = load_source(Labels(LabelledImage(tmp_path / "0.png", points[None].astype(np.float32))))
    hits, total = 0, 0
    while total < 100:
        canvas = make_canvas([source], rng)
        for box, face in zip(canvas.boxes, canvas.landmarks, strict=True):
            if box[2] - box[0] < 60:
                continue
            grey = canvas.pixels.mean(2)
            inside = face[((face > 1) & (face < 318)).all(1)].round().astype(int)
            window = grey[int(max(box[1], 0)) : int(box[3]), int(max(box[0], 0)) : int(box[2])]
            hits += sum(grey[y, x] > window.mean() for x, y in inside)
            total += len(inside)
    assert hits / total > 0.97


@pytest.mark.parametrize("tilt", [-40, 0, 25])
def test_a_hat_hides_the_forehead_alone(tilt):
    """Whatever it looks like, it covers what lies above the eyes, and no landmark."""
    rng, size = np.random.default_rng(4), 200
    turn = np.radians(tilt)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = 100 + (face_template(80).numpy() - 40) @ spin.T
    across = points[1] - points[0]
    forehead = points[:2].mean(0) + np.array([across[1], -across[0]])
    for _ in range(20):
        canvas = Image.new("RGB", (size, size), (1, 2, 3))
        put_on_hat(canvas, points, rng)
        assert canvas.getpixel(tuple(forehead)) != (1, 2, 3)
        assert all(canvas.getpixel(tuple(point)) == (1, 2, 3) for point in points)


def test_split_is_stable():
    paths = [Path(f"keypoints/images/{i:04d}.jpg") for i in range(2000)]
    share = np.mean([held_out(path) for path in paths])
    assert 0.07 < share < 0.13


def test_detector_recipe(data, tmp_path):
    run = tmp_path / "run"
    detector.train(data, run, None, None, 1e9, options())
    detector.train(data, run, None, None, 1e9, options(steps=2))
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 2
    detector.export(run, tmp_path / "detector.safetensors")
    exported = load_detector(tmp_path / "detector.safetensors")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        boxes, scores, points = exported.network(image)
        same_boxes, bolder, same_points = load_average(run, build_detector("mobile0.25"))(image)
    torch.testing.assert_close((boxes, points), (same_boxes, same_points))
    held_back = bolder.logit()[..., 1] - scores.logit()[..., 1]
    torch.testing.assert_close(held_back, torch.full_like(held_back, detector.CAUTION))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder of prepared faces: noise, the upper half of it mirrored at the border."""
    folder = tmp_path / "faces"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 4), np.uint8)
    pixels[..., 3] = 255 * (np.arange(256)[:, None] >= 128)
    np.save(folder / "faces.npy", pixels)
    names = ["train/wiki/0.jpg", "train/generated/1.jpg", "train/congress/2.jpg"]
    (folder / "faces.json").write_text(json.dumps({"names": names, "repeats": [1, 1, 1]}))
    return folder


def test_faces_that_are_alike_are_drawn_less_often(faces):
    pixels = np.load(faces / "faces.npy")
    drawn = islice(draw_faces(faces, np.random.default_rng(0)), 600)
    seen = [int(face[0].mean() * 255 * 1e4) for face, _ in drawn]
    share = seen.count(int((pixels[1, ..., 0] / 255).mean(dtype=np.float32) * 255 * 1e4)) / 600
    assert share == pytest.approx(0.4 / 2.4, abs=0.05)


def test_dark_faces_are_drawn_oftener(tmp_path):
    """A very dark face as often as four light ones, or it would drown among them."""
    pixels = np.full((2, 16, 16, 4), 255, np.uint8)
    pixels[0, ..., :3] = 40
    np.save(tmp_path / "faces.npy", pixels)
    about = {"names": ["train/wiki/0", "train/wiki/1"], "repeats": [4, 1]}
    (tmp_path / "faces.json").write_text(json.dumps(about))
    drawn = islice(draw_faces(tmp_path, np.random.default_rng(0)), 500)
    dark = sum(bool(face.mean() < 0.5) for face, _ in drawn)
    assert dark / 500 == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("kind", ["old print", "halftone"])
def test_prints_keep_the_colour_of_their_paper(faces, monkeypatch, kind):
    """Nothing asks the restorer to guess colours, or to whiten the paper."""
    monkeypatch.setattr(restorer_pairs, "DAMAGE", {kind: (restorer_pairs.DAMAGE[kind][0], 1.0)})
    tints = []
    for damaged, clean in islice(restorer_pairs.Pairs(faces, 256, seed=0), 6):
        red, _, blue = clean
        tint = float(red.mean() / blue.mean())
        torch.testing.assert_close(red, tint * blue, rtol=1e-4, atol=1e-5)
        assert float(damaged[0].mean() / damaged[2].mean()) == pytest.approx(tint, rel=0.02)
        tints.append(tint)
    assert min(tints) < 1.1 < max(tints)


def test_inside_says_what_was_mirrored():
    """A face at the upper edge of a photograph: the crop's rows above it are not inside."""
    points = face_template(64) - torch.tensor([0.0, 20.0])
    face = Face((0, 0, 64, 64), 1.0, tuple((float(x), float(y)) for x, y in points))
    _, alignment = align_faces(torch.rand(1, 3, 64, 64), FaceSet(((face,),), (64, 64)), 64)
    assert inside(alignment)[0, 0].mean(1).tolist() == [0.0] * 20 + [1.0] * 44


def test_prior_does_not_learn_what_was_mirrored(faces, monkeypatch):
    monkeypatch.setattr(prior, "IDENTITY_WEIGHT", 0.0)  # changed pixels may change the person
    network = prior.build_prior()
    drawn = torch.stack(list(islice(prior.PriorFaces(faces, 0), 2)))
    alphas_cumprod = Schedule().alphas_cumprod.float()
    losses = []
    for change in (0.0, 1.0):
        torch.manual_seed(0)
        changed = drawn.clone()
        changed[:, :3, :128] += change
        loss = prior.denoising_loss(network, changed, alphas_cumprod, load_identity())
        losses.append(loss.item())
    assert losses[0] == losses[1] > 0  # an untrained network gives zeros everywhere


def test_prior_is_asked_for_the_person(faces, monkeypatch):
    """Clean faces cost nothing; others cost more where the person counts."""
    drawn = torch.stack(list(islice(prior.PriorFaces(faces, 0), 3)))
    alphas_cumprod, identity = Schedule().alphas_cumprod.float(), load_identity()
    clean, other = drawn[:, :3], drawn[:, :3].roll(64, -1)
    monkeypatch.setattr(prior, "draw_steps", lambda count: torch.full((count,), prior.LOW - 1))
    right = prior.denoising_loss(lambda noisy, t: clean, drawn, alphas_cumprod, identity)
    assert right.item() == pytest.approx(0, abs=1e-6)
    wrong = prior.denoising_loss(lambda noisy, t: other, drawn, alphas_cumprod, identity)
    monkeypatch.setattr(prior, "LOW", 0)  # no person is compared
    errors = prior.denoising_loss(lambda noisy, t: other, drawn, alphas_cumprod, identity)
    assert wrong.item() > errors.item() > 0


def test_prior_goes_on_from_weights(tmp_path, faces):
    prior.train(faces, tmp_path / "run", options(batch=1, lr=0.0, start=EMBEDDED_PRIOR))
    learned = weights_of(tmp_path / "run")
    given = weights_of(EMBEDDED_PRIOR)
    assert all(torch.equal(learned[name], given[name]) for name in given)


def test_prior_recipe(tmp_path, faces):
    run = tmp_path / "run"
    prior.train(faces, run, options(batch=1))
    prior.train(faces, run, options(batch=1, steps=2))
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 2
    prior.export(run, tmp_path / "prior.safetensors")
    assert (tmp_path / "prior.safetensors").stat().st_size < 30_000_000
    exported = load_prior(tmp_path / "prior.safetensors")
    assert exported.size == 256 and exported.highest_step == 639
    steps, x = respace(exported.schedule, 250), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        given = predict(prior.as_prior(load_average(run, prior.build_prior())), x, steps, 100).clean
        torch.testing.assert_close(
            predict(exported, x, steps, 100).clean, given, atol=1e-2, rtol=1e-2
        )


def test_restorer_recipe(tmp_path, faces):
    run = tmp_path / "run"
    restorer.train(faces, run, options())
    restorer.train(faces, run, options(steps=2))
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 2
    restorer.export(run, tmp_path / "restorer.safetensors")
    assert (tmp_path / "restorer.safetensors").stat().st_size < 15_000_000
    exported = load_restorer(tmp_path / "restorer.safetensors")
    assert exported.architecture == "NAFNet" and exported.scale == 1


def test_restorer_is_finished_against_an_adversary(tmp_path, faces):
    start, run = tmp_path / "start", tmp_path / "run"
    restorer.train(faces, start, options())
    given = options(share=0.5, critic_lr=1e-3, start=start)
    restorer.train(faces, run, given, adversary=True)
    first = torch.load(run / "state.pt", weights_only=True)
    restorer.train(faces, run, options(**vars(given) | {"steps": 2}), adversary=True)
    second = torch.load(run / "state.pt", weights_only=True)
    assert (first["step"], second["step"]) == (1, 2)
    name = "layers.0.weight"
    assert not torch.equal(first["critic"][name], second["critic"][name]), "it learns too"


def test_eyes_and_mouth_count_more():
    weights = part_weights(64)
    x, y = face_template(64)[0].round().long().tolist()
    assert weights.shape == (64, 64) and weights.mean() == pytest.approx(1, abs=1e-5)
    assert weights[y, x] > 2 * weights[0, 0] > 0


def test_whole_faces_learn_to_stay_the_same_person():
    image, face = astronaut()
    clean, _ = align_faces(image, only(face, image), restorer.SIZE)
    other = clean.flip(-2).requires_grad_()
    identity = load_identity()
    apart = whole_face_loss(other, clean, identity)
    (gradient,) = torch.autograd.grad(apart, other)
    without = restoration_loss(other, clean)
    assert apart > without > whole_face_loss(clean, clean, identity)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_groups_follow_the_lightness_of_the_skin():
    levels = torch.tensor([0.1, 0.4, 0.5, 0.7, 0.9])
    grey = levels[:, None, None, None].repeat(1, 3, 64, 64)
    lightness = skin_lightness(grey)
    assert (lightness.diff() > 0).all()
    grey[:, :, :4] = 1.0  # a light sky changes nothing
    torch.testing.assert_close(skin_lightness(grey), lightness)
    told = by_group(torch.arange(5.0), grey)
    assert told == (
        "very dark 0.00 (1 faces), dark 1.00 (1 faces), medium 2.00 (1 faces), light 3.50 (2 faces)"
    )
    assert repeats(grey).tolist() == [4, 2, 1, 1, 1]


def test_an_empty_look_shows_no_face(data):
    """A white face on noise: what is looked at is not it, and where it shows it does not count."""
    rng = np.random.default_rng(3)
    points = 30 + face_template(60).numpy().astype(np.float32)
    picture = np.zeros((200, 200, 3), np.uint8)
    path = data / "0.png"
    Image.fromarray(picture).save(path)
    source = load_source(Labels(LabelledImage(path, points[None])))
    looks = [make_empty_look(source, rng) for _ in range(30)]
    middles = []
    for look in looks:
        assert look is not None and len(look.boxes) == 0
        (x0, y0, x1, y1), middle = look.ignored[0], (look.pixels.shape[0] - 1) / 2
        middles.append(x0 < middle < x1 and y0 < middle < y1)
    assert not any(middles)
    close = LabelledImage(path, np.stack([6 * face_template(60).numpy() - 80]).astype(np.float32))
    assert make_empty_look(load_source(Labels(close)), rng) is None, "nothing but face"


def test_all_recipes_from_data_to_weights(data, tmp_path):
    """The smoke run: each command of each recipe on a few pictures, for a step."""
    samples = sorted((Path(__file__).parents[2] / "samples").glob("*.jpg"))
    for number, folder in enumerate((*TRAIN_FOLDERS, "real_lq/portraits_tune")):
        (data / folder).mkdir(parents=True)
        for sample in samples if folder == "train/headshots" else samples[number % 2 :][:1]:
            (data / folder / sample.name).write_bytes(sample.read_bytes())
    few = everything.small_copy(data, tmp_path / "few")
    (tmp_path / "weights").mkdir()
    everything.run(few, tmp_path / "runs", tmp_path / "weights", (), smoke=True)
    made = {path.stem for path in (tmp_path / "weights").iterdir()}
    networks = {"detector", "restorer", "prior", "background", "occlusion", "scratches"}
    assert made == {*networks, "niqe"}
    pixels = torch.from_numpy(np.load(tmp_path / "runs/faces/faces.npy")[..., :3])
    about = json.loads((tmp_path / "runs/faces/faces.json").read_text())
    assert about["repeats"] == repeats(pixels.permute(0, 3, 1, 2).float() / 255).tolist()


def test_mirrored_canvas_is_its_own_inverse(data):
    sources = [load_source(Labels(image)) for image in read_keypoints(data)]
    rng = np.random.default_rng(2)
    canvas = next(c for c in (make_canvas(sources, rng) for _ in range(50)) if len(c.boxes))
    again = mirrored(mirrored(canvas))
    for name in ("pixels", "boxes", "landmarks", "ignored"):
        np.testing.assert_allclose(getattr(again, name), getattr(canvas, name), atol=1e-3)
    once = mirrored(canvas)
    assert (once.landmarks[:, 0, 0] < once.landmarks[:, 1, 0]).mean() > 0.5
