"""Measuring restored faces, one way or several ways of restoring them.

The inputs decide which metrics there are: sharpness and NIQE need the faces alone,
likeness the damaged faces that they were made from, PSNR, SSIM and the perceptual distance clean
references.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.identity import LIMIT, Identity
from ..faces.retinaface import Detector
from ..records import OnStep
from .face_batch import FaceBatch, Tools, check_faces
from .metrics import (
    DETECTOR,
    DISTANCE,
    GIVEN,
    HIGHER,
    IDENTITY,
    LOWER,
    METRICS,
    ORIGINAL,
    REFERENCE,
    Metric,
)
from .perceptual import Distance
from .pyiqa_scores import Score, load_score
from .tables import Column, Table

SHOWN = ("psnr", "ssim", "distance", "likeness", "landmarks", "identity", "niqe", "sharpness")
"""The metrics of a table, by their keys."""

AT_ONCE = 8  # faces measured together: bounds the memory


def measure_faces(
    restored: Tensor,
    *,
    reference: Tensor | None = None,
    given: Tensor | None = None,
    detector: Detector | None = None,
    distance: Distance | None = None,
    identity: Identity | None = None,
    extra: Sequence[str] = (),
    names: Sequence[str] = (),
    device: torch.device | str | None = None,
    on_step: OnStep | None = None,
) -> Table:
    """Measures restored faces with every metric that the given inputs allow.

    Args:
        restored: N×3×S×S RGB in [0, 1], aligned faces; at least one.
        reference: N×3×S×S RGB in [0, 1], the clean faces: adds PSNR, SSIM and the distance.
        given: N×3×S×S RGB in [0, 1], the damaged faces: adds the likeness of low frequencies.
        detector: of `load_detector`; adds how far eyes, nose and mouth are from those of the
            reference, or else of the damaged faces, in hundredths of the distance of the eyes.
        distance: of `load_distance`, on ``device``; None leaves it out.
        identity: of `load_identity`; adds how far each face is from being the reference's, or
            else the damaged face's person.
        extra: names of scores of pyiqa, such as "musiq", "maniqa" or "fid" (`pyiqa_scores`
            states its licence, and what it downloads).
        names: of the faces; empty numbers them from 1.
        device: where to measure; None for that of ``restored``.
        on_step: progress in faces.

    Raises:
        InputError: if the faces are none in [0, 1], no squares, or not as many and large in all
            sets; for an unknown score, or one that needs a reference.
        MissingPackageError: for a score without pyiqa.
    """
    tables = measure_sets(
        {"restored": restored},
        reference=reference,
        given=given,
        tools=Tools(detector, distance, identity),
        extra=extra,
        names=names,
        device=device,
        on_step=on_step,
    )
    return tables["restored"]


@torch.no_grad()
def measure_sets(
    restored: Mapping[str, Tensor],
    *,
    reference: Tensor | None = None,
    given: Tensor | None = None,
    tools: Tools | None = None,
    shown: Sequence[str] = SHOWN,
    extra: Sequence[str] = (),
    names: Sequence[str] = (),
    device: torch.device | str | None = None,
    on_step: OnStep | None = None,
) -> dict[str, Table]:
    """Measures several restorations of the same faces; the shared inputs are analysed once.

    Args:
        restored: N×3×S×S each, by the names of the restorations; at least one.
        reference: see `measure_faces`, as all that follows.
        given: the damaged faces.
        tools: the networks; None for none.
        shown: the metrics by their keys; those that cannot be measured are left out.
        extra: scores of pyiqa.
        names: of the faces.
        device: where to measure.
        on_step: progress in faces.

    Raises:
        InputError, MissingPackageError: see `measure_faces`.
    """
    first = next(iter(restored.values()))
    others = {REFERENCE: reference, GIVEN: given}
    others = {name: faces for name, faces in others.items() if faces is not None}
    for name, faces in {**restored, **others}.items():
        _check(name, faces, first)
    names = tuple(names) or tuple(str(number) for number in range(1, len(first) + 1))
    if len(names) != len(first):
        raise InputError(f"{len(first)} faces need as many names, got {len(names)}. Name each.")
    tools, device = tools or Tools(), torch.device(device or first.device)
    metrics = possible_metrics(shown, tools, others)
    scores = _load_scores(extra, device, reference)
    values: dict[str, dict[str, list[float]]] = {name: {} for name in restored}

    def add(found: Iterable[tuple[str, str, Tensor]]) -> None:
        for way, key, measured in found:
            values[way].setdefault(key, []).extend(measured.double().tolist())

    for start in range(0, len(first), AT_ONCE):

        def cut(faces: Tensor, start: int = start) -> Tensor:
            return faces[start : start + AT_ONCE].to(device, torch.float32)

        part, beside = ({name: cut(s[name]) for name in s} for s in (restored, others))
        add(_measure_part(part, beside, tools, metrics))
        add(_score_part(part, beside.get(REFERENCE), [s for s in scores if not s.whole]))
        if on_step is not None:
            on_step(min(start + AT_ONCE, len(first)), len(first), None)
    add(_score_part(restored, reference, [score for score in scores if score.whole]))
    original = "reference" if reference is not None else "input"
    columns = [_column_of(metric, tools, original) for metric in metrics]
    columns += [_column(score) for score in sorted(scores, key=lambda score: score.whole)]
    return {
        way: Table(names, tuple(columns), {key: tuple(v) for key, v in of_way.items()})
        for way, of_way in values.items()
    }


def _measure_part(
    restored: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    tools: Tools,
    metrics: Sequence[Metric],
) -> Iterator[tuple[str, str, Tensor]]:
    """Each metric of each restoration of a few faces: its name, the metric's key, the values."""
    beside = {name: FaceBatch(faces, tools) for name, faces in others.items()}
    if beside:
        beside[ORIGINAL] = beside.get(REFERENCE) or beside[GIVEN]
    for way, faces in restored.items():
        batch = FaceBatch(faces, tools)
        for metric in metrics:
            other = batch if metric.against is None else beside[metric.against]
            yield way, metric.key, metric.measure(batch, other)


def _score_part(
    restored: Mapping[str, Tensor], reference: Tensor | None, scores: Sequence[Score]
) -> Iterator[tuple[str, str, Tensor]]:
    for way, faces in restored.items():
        for score in scores:
            yield way, _key(score), score.measure(faces, reference)


def possible_metrics(
    shown: Sequence[str], tools: Tools, others: Mapping[str, Tensor]
) -> list[Metric]:
    """Those of the shown metrics that these networks and other faces allow."""
    given = {*others, *([ORIGINAL] if others else [])}
    given |= {name for name in (DETECTOR, DISTANCE, IDENTITY) if getattr(tools, name) is not None}
    return [METRICS[key] for key in shown if given.issuperset(METRICS[key].needs)]


def _load_scores(
    names: Sequence[str], device: torch.device, reference: Tensor | None
) -> list[Score]:
    scores = [load_score(name, device) for name in dict.fromkeys(names)]
    for score in scores:
        if score.needs_reference and reference is None:
            raise InputError(
                f"{score.name} needs clean faces to compare with, got none. Give a "
                "reference, or leave it out."
            )
    return scores


def _column_of(metric: Metric, tools: Tools, original: str) -> Column:
    limit = None
    if metric.key == IDENTITY and tools.identity is not None:
        limit = LIMIT
    title = metric.titled(tools, original)
    return Column(metric.key, title, metric.better, metric.digits, limit=limit)


def _key(score: Score) -> str:
    return f"pyiqa_{score.name}"


def _column(score: Score) -> Column:
    better = LOWER if score.lower_is_better else HIGHER
    return Column(_key(score), f"{score.name} (pyiqa)", better, 3, score.whole)


def _check(name: str, faces: Tensor, first: Tensor) -> None:
    check_faces(faces, f"{name} faces")
    shape, wanted = tuple(faces.shape), tuple(first.shape)
    if shape != wanted:
        raise InputError(
            f"{name} must match the restored faces: expected {wanted[0]} of {wanted[-1]} pixels, "
            f"got {shape[0]} of {shape[-1]} pixels. Give the same faces at the same size."
        )
