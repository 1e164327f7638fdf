"""Recipe of the embedded face detector: RetinaFace mobile0.25, from the data folder to a file.

    python -m recipes.detector train DATA RUN [--minutes M]      learn the labelled landmarks
    python -m recipes.detector label DATA RUN                    label the portraits with it
    python -m recipes.detector train DATA RUN2 --labels RUN/labels.json --start RUN
    python -m recipes.detector evaluate DATA RUN                 held-out figures
    python -m recipes.detector export RUN weights/detector.safetensors

Training resumes from RUN by itself. Losses are RetinaFace's: cross-entropy with the hardest
negatives (7 to each positive), smooth L1 of box and landmark offsets.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from torchvision.ops import box_iou

from bfr.faces.detect import SEARCH_SIZES, detect_faces
from bfr.faces.retinaface import anchors, build_detector, encode, load_detector, normalise
from bfr.faces.select import draw_faces
from bfr.files.photos import read_photo
from bfr.files.weights import write_state_dict
from bfr.files.whole import atomic_path
from bfr.image.geometry import MIRROR_ORDER
from bfr.records import FaceSet

from .detector_samples import (
    Canvas,
    Source,
    first_face,
    load_source,
    make_canvas,
    make_empty_look,
    make_look,
    mirrored,
)
from .faces import TRAIN_FOLDERS, LabelledImage, held_out, read_keypoints
from .grids import reduced, write_worst
from .groups import by_group, repeats
from .state import load_state, train_for

log = logging.getLogger(__name__)
_POSITIVE, _NEGATIVE, _HARD = 0.4, 0.3, 7
_LOOKS = 2  # batches of second looks to each batch of canvases
_EMPTY = 0.25  # share of looks at what is no face, as the search may be wrong
CAUTION = 0.5
"""What the finished network is held back by, in log-odds of a face, so that 0.5 is a good score:
false alarms are rare, and hardly a face of the old scans is lost for it."""


class Canvases(IterableDataset):
    """Endless batches: one of canvases, then `_LOOKS` of second looks, most at exact landmarks."""

    def __init__(self, sources: list[Source], seed: int, batch: int):
        self.sources, self.seed, self.batch = sources, seed, batch

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        exact = [source for source in self.sources if source.exact]
        while True:  # every picture also in a mirror: half the drawing for almost the same lesson
            canvases = [make_canvas(self.sources, rng) for _ in range(self.batch // 2)]
            yield collate([*canvases, *map(mirrored, canvases)])
            for _ in range(_LOOKS):
                looks = [self._look(exact, rng) for _ in range(self.batch)]
                yield collate([*looks, *map(mirrored, looks)])

    def _look(self, exact: list[Source], rng: np.random.Generator) -> Canvas:
        if rng.random() < _EMPTY:
            look = make_empty_look(self.sources[rng.integers(len(self.sources))], rng)
            if look is not None:
                return look
        return make_look(exact[rng.integers(len(exact))], rng)


def match(canvas: Canvas, priors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Anchor labels A (1 face, 0 none, -1 ignore), box offsets A×4 and point offsets A×10."""
    corners = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], 1)
    labels = torch.zeros(len(priors), dtype=torch.long)
    if len(canvas.ignored):
        hidden = torch.from_numpy(canvas.ignored)
        labels[(box_iou(corners, hidden) > 0.1).any(1)] = -1
    if not len(canvas.boxes):
        return labels, torch.zeros(len(priors), 4), torch.zeros(len(priors), 10)
    boxes, landmarks = torch.from_numpy(canvas.boxes), torch.from_numpy(canvas.landmarks)
    overlap = box_iou(corners, boxes)
    best, face = overlap.max(1)
    labels[best >= _NEGATIVE] = -1
    labels[best >= _POSITIVE] = 1
    own = overlap.argmax(0)
    labels[own], face[own] = 1, torch.arange(len(boxes))
    return labels, *encode(boxes[face], landmarks[face], priors)


def collate(canvases: list[Canvas]):
    priors = anchors(*canvases[0].pixels.shape[:2])
    targets = [match(canvas, priors) for canvas in canvases]
    pixels = torch.from_numpy(np.stack([canvas.pixels for canvas in canvases]))
    return pixels, *(torch.stack(column) for column in zip(*targets, strict=True))


def detection_loss(outputs, labels: Tensor, boxes: Tensor, points: Tensor) -> Tensor:
    """RetinaFace's multi-task loss, hard negatives mined over the whole batch."""
    predicted_boxes, logits, predicted_points = outputs
    positive, negative = labels == 1, labels == 0
    count = positive.sum().clamp(min=1)
    entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten().clamp(min=0), reduction="none")
    entropy = entropy.view_as(labels)
    hardest = entropy[negative].topk(min(_HARD * int(count) + 64, int(negative.sum()))).values
    classes = (entropy[positive].sum() + hardest.sum()) / count
    box = F.smooth_l1_loss(predicted_boxes[positive], boxes[positive], reduction="sum") / count
    known = positive & torch.isfinite(points).all(-1)
    point = F.smooth_l1_loss(predicted_points[known], points[known], reduction="sum")
    return 2 * box + classes + 2 * point / known.sum().clamp(min=1)


def read_labels(
    data: Path, file: Path | None, train: bool
) -> list[tuple[LabelledImage, np.ndarray | None]]:
    """The labelled images of one side of the split, self-labelled ones with boxes to ignore."""
    entries: list[tuple[LabelledImage, np.ndarray | None]] = [
        (image, None) for image in read_keypoints(data)
    ]
    if file is not None:
        for name, label in json.loads(file.read_text()).items():
            points = np.array(label["landmarks"], np.float32).reshape(-1, 5, 2)
            ignored = np.array(label["ignored"], np.float32).reshape(-1, 4)
            entries.append((LabelledImage(data / name, points), ignored))
    return [entry for entry in entries if held_out(entry[0].path) != train]


def train(data: Path, run: Path, labels: Path | None, start: Path | None, minutes: float, args):
    """Trains until the minutes are over, following a cosine over exactly that time."""
    run.mkdir(parents=True, exist_ok=True)
    sources = [load_source(*entry) for entry in read_labels(data, labels, train=True)]
    log.info("%d training images", len(sources))
    times = repeats(torch.cat([first_face(source) for source in sources])).tolist()
    sources = [each for each, count in zip(sources, times, strict=True) for _ in range(count)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, average = (build_detector("mobile0.25").to(device) for _ in range(2))
    setattr(network, "phase", "train")  # noqa: B010 (logits, not softmax)
    for level in range(3):  # most anchors show no face
        nn.init.constant_(network.get_parameter(f"ClassHead.{level}.conv1x1.bias")[1::2], -4.0)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=5e-4)
    parts = {"network": network, "average": average, "optimizer": optimizer}
    state = load_state(run, parts)
    step, spent = state.get("step", 0), state.get("spent", 0.0)
    if not state:
        if start is not None:
            network.load_state_dict(load_run(start).state_dict())
        average.load_state_dict(network.state_dict())
    network.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loader = DataLoader(
        Canvases(sources, step, args.batch),
        batch_size=None,
        num_workers=args.workers,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    forward = torch.compile(network, dynamic=False) if args.compile else network

    def loss_of(batch: list[Tensor]) -> Tensor:
        pixels, *targets = batch
        inputs = normalise(pixels.to(device).permute(0, 3, 1, 2).float() / 255)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return detection_loss(forward(inputs), *(target.to(device) for target in targets))

    limits = {"step": step, "spent": spent, "minutes": minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 200, "decay": 0.998, "clip": 10.0, "every": 250}
    train_for(run, parts, loader, loss_of, **limits, **rates)


def load_run(run: Path) -> nn.Module:
    """The averaged network of a run, in evaluation mode."""
    detector = build_detector("mobile0.25")
    detector.load_state_dict(torch.load(run / "state.pt", weights_only=True)["average"])
    return detector.eval()


def load_finished(run: Path) -> nn.Module:
    """The averaged network of a run, as cautious as it is exported."""
    detector = load_run(run)
    with torch.no_grad():
        for level in range(3):  # logits of "no face" and "face" take turns
            bias = detector.get_parameter(f"ClassHead.{level}.conv1x1.bias")
            bias += CAUTION / 2 * torch.tensor([1.0, -1.0]).repeat(len(bias) // 2)
    return detector


def label(data: Path, run: Path) -> None:
    """Labels the training portraits; keeps only faces on which a mirrored look agrees."""
    detector, labels, dropped = load_run(run), {}, 0
    paths = [path for folder in TRAIN_FOLDERS for path in sorted((data / folder).iterdir())]
    paths += sorted((data / "real_lq/portraits_tune").iterdir())
    for path in paths:
        image = read_photo(path).pixels
        both = torch.cat([image, image.flip(-1)])
        faces, mirrored = detect_faces(
            both, detector, score=0.3, search_sizes=SEARCH_SIZES[:1], try_rotations=False
        ).faces
        kept, ignored = [], []
        for face in faces:
            points = np.array(face.landmarks)
            twins = [np.array(other.landmarks)[list(MIRROR_ORDER)] for other in mirrored]
            for twin in twins:
                twin[:, 0] = image.shape[-1] - 1 - twin[:, 0]
            gaps = [np.linalg.norm(points - twin, axis=1).mean() for twin in twins]
            wide = np.linalg.norm(points[1] - points[0])
            if face.score > 0.8 and gaps and min(gaps) < 0.1 * wide:
                kept.append(((points + twins[int(np.argmin(gaps))]) / 2).tolist())
            elif face.score > 0.9:  # perhaps a second face; what is less sure is none
                ignored.append(list(face.box))
        if len(kept) == 1:
            name = path.relative_to(data).as_posix()
            labels[name] = {"landmarks": kept, "ignored": ignored}
        else:
            dropped += 1
    log.info("%d portraits labelled, %d dropped", len(labels), dropped)
    with atomic_path(run / "labels.json") as path:
        path.write_text(json.dumps(labels))


def faceless_images(data: Path, detector: nn.Module) -> Iterator[Tensor]:
    """Held-out pictures without a face: portraits cut below the chin, and scikit-image's own."""
    for folder in ("eval/hq", "real_lq/portraits_eval"):
        for path in sorted((data / folder).iterdir()):
            image = read_photo(path).pixels
            faces = detect_faces(image, detector, score=0.8, try_rotations=False).faces[0]
            chin = max((face.box[3] for face in faces), default=image.shape[-2])
            body = image[..., round(chin) + 8 :, :]
            if len(faces) == 1 and min(body.shape[-2:]) >= 64:
                yield body
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    people = ("astronaut", "camera", "multipage", "phantom")
    for path in sorted(folder.glob("*.png")) + sorted(folder.glob("*.jpg")):
        if not path.name.startswith(people):
            yield read_photo(path).pixels


def landmark_error(image: LabelledImage, found: FaceSet) -> float:
    """Mean distance of the nearest face's landmarks, in eye distances; inf where it was missed."""
    truth = image.landmarks[0]
    wide = np.linalg.norm(truth[1] - truth[0])
    gaps = [np.linalg.norm(np.array(f.landmarks) - truth, axis=1).mean() for f in found.faces[0]]
    error = min(gaps, default=np.inf) / wide
    return float(error) if error < 0.5 else np.inf


def looks_ahead(image: LabelledImage) -> bool:
    """Whether the nose is near the middle between the eyes, as on portraits."""
    left, right, nose = image.landmarks[0][:3]
    return bool(abs((nose - left) @ (right - left) / np.sum((right - left) ** 2) - 0.5) < 0.2)


def evaluate(data: Path, run: Path | None, grids: Path | None) -> dict[str, float]:
    """Held-out figures: share found, landmark error, faces of the group photograph.

    Args:
        data: the data folder.
        run: of the training; None for the embedded weights.
        grids: folder for sheets of 24 pictures with what was found in them: the landmark frames
            (worst first), the old scans (those without a face first), and those without a face
            (false alarms first); None draws none.
    """
    detector = load_finished(run) if run is not None else load_detector()
    figures: dict[str, float] = {}

    def look(images: Iterable[Tensor]) -> tuple[list[FaceSet], list[Tensor]]:
        """The faces of each picture, and small pictures of them where sheets are asked for."""
        found, drawn = [], []
        for image in images:
            found.append(detect_faces(image, detector))
            if grids is not None:
                drawn.append(reduced(draw_faces(image, found[-1])))
        return found, drawn

    def show(name: str, drawn: list[Tensor], quality: np.ndarray) -> None:
        if grids is not None:
            write_worst(grids / f"{name}.png", drawn, torch.from_numpy(quality))

    labelled = [image for image in read_keypoints(data) if held_out(image.path)]
    for folder in ("keypoints", "keypoints5"):
        held = [image for image in labelled if folder == image.path.parent.parent.name]
        found, drawn = look(read_photo(image.path).pixels for image in held)
        errors = np.array([landmark_error(*each) for each in zip(held, found, strict=True)])
        show(folder, drawn, -errors)
        crops = torch.cat([first_face(load_source(image)) for image in held])
        seen = torch.from_numpy(np.isfinite(errors)).float()
        log.info("%s found by lightness of the skin: %s", folder, by_group(100 * seen, crops))
        ahead = np.array([looks_ahead(image) for image in held]) & np.isfinite(errors)
        figures[f"{folder} found, looking ahead"] = float(np.mean(ahead))
        figures[f"{folder} error, looking ahead"] = float(np.mean(errors[ahead]))
        errors = errors[np.isfinite(errors)]
        figures[f"{folder} found"] = len(errors) / len(held)
        figures[f"{folder} error"] = float(np.mean(errors))
        figures[f"{folder} median error"] = float(np.median(errors))
    for folder in ("eval/hq", "real_lq/portraits_eval", "real_lq/aligned512"):
        found, drawn = look(read_photo(path).pixels for path in sorted((data / folder).iterdir()))
        counts = np.array([faces.count for faces in found])
        show(folder.rpartition("/")[2], drawn, counts)
        figures[f"{folder} found"] = float(np.mean(counts >= 1))
        figures[f"{folder} more than one"] = float(np.mean(counts > 1))
    found, drawn = look(faceless_images(data, detector))
    alarms = np.array([faces.count for faces in found])
    show("faceless", drawn, -alarms)
    figures["images without faces"] = len(alarms)
    figures["false alarms an image"] = float(np.mean(alarms > 0))
    group = read_photo(data / "real_lq/whole/solvay_conference_1927.png").pixels
    figures["group of 29"] = detect_faces(group, detector).count
    for name, value in figures.items():
        log.info("%-36s %.4f", name, value)
    return figures


def export(run: Path, file: Path) -> None:
    """Writes the averaged network with its provenance."""
    state = {
        key: value.contiguous()
        for key, value in load_finished(run).state_dict().items()
        if "num_batches_tracked" not in key
    }
    metadata = {
        "architecture": "RetinaFace mobile0.25 (facexlib)",
        "licence": "Apache-2.0",
        "provenance": "trained by recipes/detector.py; data in weights/README.md",
    }
    write_state_dict(file, state, metadata)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=["train", "label", "evaluate", "export"])
    parser.add_argument("data", type=Path, help="data folder (export: the run folder)")
    parser.add_argument("run", type=Path, nargs="?", help="run folder (export: the file)")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--grid", type=Path, help="folder of the sheets that evaluate draws")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="faster after some minutes")
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.command == "train":
        train(args.data, args.run, args.labels, args.start, args.minutes, args)
    elif args.command == "label":
        label(args.data, args.run)
    elif args.command == "evaluate":
        evaluate(args.data, args.run, args.grid)
    else:
        export(args.data, args.run)


if __name__ == "__main__":
    main()
