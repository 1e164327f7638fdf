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

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from torchvision.ops import box_iou

from bfr.faces.retinaface import anchors, build_detector, encode, normalise

from .detector_labels import read_labels
from .detector_looks import make_empty_look, make_look
from .detector_samples import Canvas, Source, first_face, load_source, make_canvas, mirrored
from .frame import (
    Commands,
    load_average,
    load_batches,
    pick_device,
    resume,
    train_for,
    weights_of,
    write_weights,
)
from .groups import repeats

log = logging.getLogger(__name__)
_POSITIVE, _NEGATIVE, _HARD = 0.4, 0.3, 7
_LOOKS = 2  # batches of second looks to each batch of canvases
_EMPTY = 0.25  # share of looks at what is no face, as the search may be wrong
_FINE = 0.05  # offset of a landmark up to which an error counts less and less: 0.6 px of a look
_OTHERS = 0.35  # share of looks at faces that teachers labelled, of those at a face
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
        others = [source for source in self.sources if not source.exact]
        while True:  # every picture also in a mirror: half the drawing for almost the same lesson
            canvases = [make_canvas(self.sources, rng) for _ in range(self.batch // 2)]
            yield collate([*canvases, *map(mirrored, canvases)])
            for _ in range(_LOOKS):
                looks = [self._look(exact, others, rng) for _ in range(self.batch)]
                yield collate([*looks, *map(mirrored, looks)])

    def _look(self, exact: list[Source], others: list[Source], rng: np.random.Generator) -> Canvas:
        if rng.random() < _EMPTY:
            look = make_empty_look(self.sources[rng.integers(len(self.sources))], rng)
            if look is not None:
                return look
        # Scans and portraits teach what is a face; only published landmarks teach where points are.
        sources = others if others and rng.random() < _OTHERS else exact
        return make_look(sources[rng.integers(len(sources))], rng)


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
    point = F.smooth_l1_loss(predicted_points[known], points[known], reduction="sum", beta=_FINE)
    return 2 * box + classes + 0.5 * point / known.sum().clamp(min=1)


def train(data: Path, run: Path, labels: Path | None, start: Path | None, minutes: float, args):
    """Trains until the minutes are over, following a cosine over exactly that time."""
    sources = [load_source(each) for each in read_labels(data, labels, train=True)]
    log.info("%d training images", len(sources))
    times = repeats(torch.cat([first_face(source) for source in sources])).tolist()
    sources = [each for each, count in zip(sources, times, strict=True) for _ in range(count)]
    device = pick_device()
    network, average = (build_detector("mobile0.25").to(device) for _ in range(2))
    setattr(network, "phase", "train")  # noqa: B010 (logits, not softmax)
    for level in range(3):  # most anchors show no face
        nn.init.constant_(network.get_parameter(f"ClassHead.{level}.conv1x1.bias")[1::2], -4.0)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=5e-4)
    parts = {"network": network, "average": average, "optimizer": optimizer}
    first = None if start is None else lambda: weights_of(start)
    step, spent = resume(run, parts, first)
    network.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loader = load_batches(Canvases(sources, step, args.batch), None, args.workers)
    forward = torch.compile(network, dynamic=False) if args.compile else network

    def loss_of(batch: list[Tensor]) -> Tensor:
        pixels, *targets = batch
        inputs = normalise(pixels.to(device).permute(0, 3, 1, 2).float() / 255)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return detection_loss(forward(inputs), *(target.to(device) for target in targets))

    limits = {"step": step, "spent": spent, "minutes": minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 200, "decay": 0.998, "clip": 10.0, "every": 250}
    train_for(run, parts, loader, loss_of, **limits, **rates)


def load_finished(run: Path) -> nn.Module:
    """The averaged network of a run, as cautious as it is exported."""
    detector = load_average(run, build_detector("mobile0.25"))
    with torch.no_grad():
        for level in range(3):  # logits of "no face" and "face" take turns
            bias = detector.get_parameter(f"ClassHead.{level}.conv1x1.bias")
            bias += CAUTION / 2 * torch.tensor([1.0, -1.0]).repeat(len(bias) // 2)
    return detector


def export(run: Path, file: Path) -> None:
    """Writes the averaged network, without the batch counters that only training needs."""
    state = load_finished(run).state_dict()
    state = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    write_weights(file, state, "detector", architecture="RetinaFace mobile0.25 (facexlib)")


def main(arguments: Sequence[str] | None = None) -> None:
    from .detector_evaluation import evaluate
    from .detector_labels import label

    commands = Commands(__doc__)
    one = commands.add_training("train", "data", "run", minutes=30, batch=32, lr=2e-3)
    one.add_argument("--labels", type=Path)
    one.add_argument("--start", type=Path)
    one.add_argument("--workers", type=int, default=1)
    one.add_argument("--compile", action="store_true", help="faster after some minutes")
    one = commands.add("label", "data", "run")
    one.add_argument("--teacher", type=Path, help="what `recipes.second_teacher` found")
    commands.add("evaluate", "data", "run?").add_argument("--grid", type=Path)
    commands.add("export", "run", "file")
    args = commands.parse(arguments)
    if args.command == "train":
        train(args.data, args.run, args.labels, args.start, args.minutes, args)
    elif args.command == "label":
        label(args.data, args.run, args.teacher)
    elif args.command == "evaluate":
        evaluate(args.data, args.run, args.grid)
    else:
        export(args.run, args.file)


if __name__ == "__main__":
    main()
