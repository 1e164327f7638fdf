"""The command line's command ``evaluate``: folders of restored faces, measured and compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import DISTANCES
from ..errors import FaceRestorationError, InputError, OutputError
from .arguments import EMBEDDED, find_weights, number, pick_device
from .report import DONE, SOME_FAILED, say, tell

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..quality.tables import Comparison, Table

REFERENCE, INPUT = _BESIDE = ("the reference", "the input")
_AT_ONCE = 64  # faces that are read and measured together: bounds the memory

Files = Mapping[str, Path]
Faces = dict[str, "Tensor"]


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``evaluate``."""
    parser.set_defaults(command=evaluate)
    add = parser.add_argument
    add(
        "restored",
        nargs="+",
        type=Path,
        metavar="RESTORED",
        help="a folder of restored faces; several are compared, as the base's and the tuned "
        "restorer's. All folders name the same face alike",
    )
    add(
        "--reference",
        type=Path,
        metavar="FOLDER",
        help="the clean faces: gives PSNR, SSIM and the perceptual distance",
    )
    add(
        "--input",
        type=Path,
        metavar="FOLDER",
        help="the damaged faces: gives how true colours and coarse shapes are to them",
    )
    add(
        "--align",
        action="store_true",
        help="the files are whole photographs: find the faces in the reference, the input or else "
        "the first folder, and measure these",
    )
    add(
        "--size",
        type=number(16, 4096, int),
        default=256,
        help="with --align, the faces' side in pixels (%(default)s)",
    )
    add(
        "--distance",
        choices=DISTANCES,
        default="auto",
        help="the perceptual distance; auto is lpips where its weights are, else pyramid, which "
        "needs none (%(default)s)",
    )
    add(
        "--landmarks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure how far eyes, nose and mouth are from the reference's, or else the input's "
        "(landmarks)",
    )
    add(
        "--extra",
        nargs="+",
        default=[],
        metavar="SCORE",
        help="more scores by their names in pyiqa, as musiq, maniqa or fid; its licence forbids "
        "commercial use, and it downloads weights",
    )
    add("--csv", type=Path, metavar="FILE", help="write the figures of each face")
    add("--json", type=Path, metavar="FILE", help="write all figures, with their means")
    add("--markdown", type=Path, metavar="FILE", help="write the table that is shown")
    add("--plot", type=Path, metavar="FILE", help="draw the figures as bars")
    add("--detector", default=EMBEDDED, metavar="NAME|FILE", help="what finds the faces")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (%(default)s)")


def evaluate(options: argparse.Namespace) -> int:
    """Measures folders of restored faces, and tells which is better in what."""
    folders = _folders(options)
    names, lacking = _shared(folders)
    for path in (options.csv, options.json, options.markdown, options.plot):
        if path is not None and not path.parent.is_dir():
            raise OutputError(f"Cannot write {path}: there is no folder {path.parent}. Make it.")

    from ..faces.retinaface import load_detector
    from ..quality.perceptual import load_distance
    from ..quality.tables import compare, join, measure_faces
    from ..runtime.progress import Progress

    device = pick_device(options.device)
    needed = options.align or (options.landmarks and (options.reference or options.input))
    detector = None
    if needed:
        detector = load_detector(find_weights("detector", options.detector)).to(device)
    distance = load_distance(options.distance, device) if options.reference else None

    failed: list[str] = []
    progress = Progress(say, None)
    progress.begin("files measured", len(names), (0, 0))

    def read(name: str) -> Faces:
        files = {label: folder[name] for label, folder in folders.items()}
        return _read(files, detector if options.align else None, options.size)

    def fail(name: str, error: FaceRestorationError) -> None:
        failed.append(name)
        say(f"{name}: failed: {error}")

    tables: dict[str, list[Table]] = {label: [] for label in folders if label not in _BESIDE}
    # A score of all faces together, as FID, needs them all at once.
    at_once = len(names) if options.extra else _AT_ONCE
    done = 0
    for group, faces in _groups(names, read, fail, at_once):
        for label, measured in tables.items():
            measured.append(
                measure_faces(
                    faces[label],
                    reference=faces.get(REFERENCE),
                    given=faces.get(INPUT),
                    detector=detector if options.landmarks else None,
                    distance=distance,
                    extra=options.extra,
                    names=group,
                    device=device,
                )
            )
        done += len({name.split("#")[0] for name in group})
        progress.tell(done)
    if not any(tables.values()):
        raise InputError("No face could be measured; the lines above say why.")
    if options.extra and len(next(iter(tables.values()))) > 1:
        raise InputError(
            f"{', '.join(options.extra)} need faces of one size, and these have several. Make "
            "them equally large, or leave --extra out."
        )
    comparison = compare({label: join(measured) for label, measured in tables.items()})
    _write(options, comparison)
    if failed or lacking:
        say(f"{len(failed) + lacking} files were left out; the lines above say why.")
    return SOME_FAILED if failed or lacking else DONE


def _folders(options: argparse.Namespace) -> dict[str, Files]:
    """The files of every folder, by what it is called in the table."""
    short = [path.resolve().name for path in options.restored]
    labels = short if len(set(short)) == len(short) else [str(path) for path in options.restored]
    paths = dict(zip(labels, options.restored, strict=True))
    if len(paths) < len(labels):
        raise InputError(f"The same folder came twice: {', '.join(labels)}. Name each once.")
    beside = {REFERENCE: options.reference, INPUT: options.input}
    paths |= {label: path for label, path in beside.items() if path is not None}
    return {label: _files(path) for label, path in paths.items()}


def _files(folder: Path) -> Files:
    """The images of a folder by their names below it, without their endings."""
    from ..files.sources import find_sources

    files: dict[str, Path] = {}
    for source in find_sources([folder]):
        name = source.name.with_suffix("").as_posix()
        if name in files:
            raise InputError(
                f"{files[name]} and {source.path} have one name. Keep one of them in {folder}."
            )
        files[name] = source.path
    return files


def _shared(folders: Mapping[str, Files]) -> tuple[list[str], int]:
    """The names that all folders have, and how many the restored ones do not share; which is told.

    Raises:
        InputError: if they share none.
    """
    restored = [name for label, files in folders.items() if label not in _BESIDE for name in files]
    names = sorted(set(restored))
    missing = {
        name: [label for label, files in folders.items() if name not in files] for name in names
    }
    shared = [name for name in names if not missing[name]]
    if not shared:
        told = "; ".join(f"{label} has {min(files)}" for label, files in folders.items())
        raise InputError(
            f"The folders have no file names in common: {told}. Name the same face alike in all, "
            "whatever its ending."
        )
    for name in names:
        if missing[name]:
            say(f"{name}: left out, {' and '.join(missing[name])} lacks it")
    return shared, len(names) - len(shared)


def _read(files: Mapping[str, Path], detector: nn.Module | None, size: int) -> Faces:
    """The faces of one file in every folder, N×3×S×S each; N is 1 unless they are searched for."""
    from ..faces.align import align_faces
    from ..faces.detect import detect_faces
    from ..files.photos import read_photo

    pixels = {label: read_photo(path).pixels for label, path in files.items()}
    if detector is None:
        return pixels
    anchor = next(label for label in (REFERENCE, INPUT, *files) if label in files)
    found = detect_faces(pixels[anchor], detector)
    if not found.count:
        raise InputError(f"{anchor} shows no face.")
    return {label: align_faces(image, found, size)[0] for label, image in pixels.items()}


def _groups(
    names: Sequence[str],
    read: Callable[[str], Faces],
    fail: Callable[[str, FaceRestorationError], None],
    at_once: int,
) -> Iterator[tuple[list[str], Faces]]:
    """Faces of one size, not too many at once, with their names."""
    import torch

    group: list[str] = []
    parts: list[Faces] = []
    for name in names:
        try:
            faces = read(name)
            _check(faces)
        except FaceRestorationError as error:
            fail(name, error)
            continue
        count, size = len(next(iter(faces.values()))), next(iter(faces.values())).shape[-1]
        if parts and (size != next(iter(parts[0].values())).shape[-1] or len(group) >= at_once):
            yield group, {label: torch.cat([part[label] for part in parts]) for label in faces}
            group, parts = [], []
        group += [name] if count == 1 else [f"{name}#{n}" for n in range(1, count + 1)]
        parts.append(faces)
    if parts:
        yield group, {label: torch.cat([part[label] for part in parts]) for label in parts[0]}


def _check(faces: Faces) -> None:
    sizes = {label: (face.shape[-1], face.shape[-2]) for label, face in faces.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{w}×{h} in {label}" for label, (w, h) in sizes.items())
        raise InputError(f"It must be equally large in all folders, and has {told} pixels.")
    (width, height), *_ = sizes.values()
    if width != height:
        raise InputError(
            f"It has {width}×{height} pixels, and an aligned face is square. If these are whole "
            "photographs, choose --align."
        )


def _write(options: argparse.Namespace, comparison: Comparison) -> None:
    from ..files.photos import Photo, write_photo
    from ..files.whole import atomic_path

    tell(comparison.as_text())
    texts = (
        (options.csv, comparison.as_csv),
        (options.json, comparison.as_json),
        (options.markdown, comparison.as_markdown),
    )
    for path, text in texts:
        if path is not None:
            with atomic_path(path) as partial:
                partial.write_text(text().rstrip("\n") + "\n", encoding="utf-8")
    if options.plot is not None:
        write_photo(options.plot, Photo(comparison.plot()))
