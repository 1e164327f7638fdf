"""YOLOv8 (Jocher et al., 2023) from the weights that ultralytics saves, without its code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError, WrongArchitectureError
from ..files.pickled import Inert, read_pickled, tensors_of

Predictions = tuple[Tensor, Tensor, Tensor]  # scores, boxes and landmarks, as of a `Detector`

STRIDE = 32  # of the coarsest level
GREY = 114 / 255  # what ultralytics fills pictures up with
_LANDMARKS = ((0.31, 0.40), (0.69, 0.40), (0.50, 0.60), (0.35, 0.78), (0.65, 0.78))  # in a box
_MARK = "model.22.cv2.0.2.weight"  # of the head of a YOLOv8
_BATCH_NORM_EPSILON = 1e-3


class YoloV8(nn.Module):
    """YOLOv8's network (Jocher et al., 2023), with batch normalisations merged in.

    Args:
        weights: of convolutions, by ultralytics' names less ``.conv`` and ``.bn``.
        face: the number of the class "face".
    """

    def __init__(self, weights: Mapping[str, Tensor], face: int = 0):
        super().__init__()
        self.face = face
        self.weights = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(w, False) for name, w in weights.items()}
        )

    @torch.no_grad()
    def find(self, images: Tensor) -> Predictions:
        """Scores B×A, boxes B×A×4 and landmarks B×A×5×2 in pixels, float32 on the CPU.

        Args:
            images: B×3×H×W RGB in [0, 1].
        """
        height, width = images.shape[-2:]
        pad = [0, -width % STRIDE, 0, -height % STRIDE]
        dtype = next(self.parameters()).dtype
        scores, boxes = self(F.pad(images.float(), pad, value=GREY).to(dtype))
        check_finite(scores)
        return scores, boxes, landmarks_in(boxes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores B×A in [0, 1] and boxes B×A×4, corners in pixels, float32 on the CPU."""
        x = self._conv("model/1", self._conv("model/0", images, 2), 2)
        x = self._c2f("model/2", x, True)
        fine = self._c2f("model/4", self._conv("model/3", x, 2), True)
        middle = self._c2f("model/6", self._conv("model/5", fine, 2), True)
        x = self._c2f("model/8", self._conv("model/7", middle, 2), True)
        coarse = self._pyramid("model/9", x)
        x = self._c2f("model/12", torch.cat([_doubled(coarse), middle], 1), False)
        first = self._c2f("model/15", torch.cat([_doubled(x), fine], 1), False)
        x = torch.cat([self._conv("model/16", first, 2), x], 1)
        second = self._c2f("model/18", x, False)
        x = torch.cat([self._conv("model/19", second, 2), coarse], 1)
        third = self._c2f("model/21", x, False)
        levels = [self._head(number, x) for number, x in enumerate((first, second, third))]
        scores, boxes = (torch.cat(parts, 1).float().cpu() for parts in zip(*levels, strict=True))
        return scores, boxes

    def _plain(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}/weight"]
        bias = self.weights[f"{name}/bias"]
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    def _conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        return F.silu(self._plain(name, x, stride))

    def _c2f(self, name: str, x: Tensor, shortcut: bool) -> Tensor:
        parts = list(self._conv(f"{name}/cv1", x).chunk(2, 1))
        while f"{name}/m/{len(parts) - 2}/cv1/weight" in self.weights:
            block = f"{name}/m/{len(parts) - 2}"
            h = self._conv(f"{block}/cv2", self._conv(f"{block}/cv1", parts[-1]))
            parts.append(parts[-1] + h if shortcut else h)
        return self._conv(f"{name}/cv2", torch.cat(parts, 1))

    def _pyramid(self, name: str, x: Tensor) -> Tensor:
        parts = [self._conv(f"{name}/cv1", x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self._conv(f"{name}/cv2", torch.cat(parts, 1))

    def _head(self, level: int, x: Tensor) -> tuple[Tensor, Tensor]:
        stride = 8 * 2**level
        side, kind = f"model/22/cv2/{level}", f"model/22/cv3/{level}"
        sides = self._plain(f"{side}/2", self._conv(f"{side}/1", self._conv(f"{side}/0", x)))
        kinds = self._plain(f"{kind}/2", self._conv(f"{kind}/1", self._conv(f"{kind}/0", x)))
        # The distance to each side is the mean of a distribution over whole strides.
        spread = sides.unflatten(1, (4, -1)).flatten(3).softmax(2)
        distances = (spread * torch.arange(spread.shape[2]).to(spread)[:, None]).sum(2).mT
        y, x = torch.meshgrid(
            *(torch.arange(n).to(distances) + 0.5 for n in x.shape[-2:]), indexing="ij"
        )
        centre = torch.stack([x, y], -1).flatten(0, 1)
        corners = torch.cat([centre - distances[..., :2], centre + distances[..., 2:]], -1)
        return kinds[:, self.face].flatten(1).sigmoid(), corners * stride


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)


def read_yolov8(path: Path) -> YoloV8:
    content = read_pickled(path)
    found = content if isinstance(content, Mapping) else {"model": content}
    models = (found.get(name) for name in ("ema", "model"))
    model = next((model for model in models if isinstance(model, Inert)), None)
    state = dict(tensors_of(model)) if model else {}
    if model is None or _MARK not in state:
        raise WrongArchitectureError(
            f"{path} must hold a YOLOv8, the only ultralytics network that can be read without "
            "running code from the file, got something else. Export others to ONNX: yolo export "
            "model=FILE.pt format=onnx"
        )
    face = face_class(model.get("names") or "", path)
    try:
        network = YoloV8(merged(state), face)
        network(torch.zeros(1, 3, STRIDE, STRIDE))
    except (AttributeError, KeyError, RuntimeError, IndexError) as error:
        raise WrongArchitectureError(
            f"{path} must fit the YOLOv8 it resembles, got {type(error).__name__}: "
            f"{str(error)[:200]}. Export it to ONNX: yolo export model=FILE.pt format=onnx"
        ) from error
    return network


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions with the batch normalisations after them, which only scale and shift."""
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if tensor.ndim != 4 or kind != "weight" or ".dfl." in name:
            continue
        convolution, norm = stem.removesuffix(".conv"), stem.removesuffix("conv") + "bn"
        weight = tensor.float()
        bias = state.get(f"{stem}.bias", torch.zeros(len(weight))).float()
        if stem.endswith(".conv") and f"{norm}.weight" in state:
            mean, variance, scale, shift = (
                state[f"{norm}.{part}"].float()
                for part in ("running_mean", "running_var", "weight", "bias")
            )
            scale = scale / (variance + _BATCH_NORM_EPSILON).sqrt()
            weight, bias = weight * scale[:, None, None, None], (bias - mean) * scale + shift
        weights[f"{convolution}.weight"], weights[f"{convolution}.bias"] = weight, bias
    return weights


def check_finite(scores: Tensor) -> None:
    if not bool(torch.isfinite(scores).all()):
        raise WeightsError(
            "The face detector must give finite scores, got NaN. Use float32, or get its weights "
            "again."
        )


def landmarks_in(boxes: Tensor) -> Tensor:
    """The five landmarks, …×5×2, of upright faces in boxes …×4."""
    corner, size = boxes[..., None, :2], (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    return corner + torch.tensor(_LANDMARKS).to(boxes) * size


def face_class(names: object, path: Path) -> int:
    """The number of the class "face" by a detector's names of its classes; 0 if it has none."""
    if isinstance(names, Mapping):
        known = {int(number): str(name) for number, name in names.items()}
    else:
        known = {int(n): name for n, name in re.findall(r"(\d+): ['\"]([^'\"]*)", str(names))}
    faces = [number for number, name in known.items() if "face" in name.lower()]
    if known and not faces:
        raise WrongArchitectureError(
            f"{path} must find faces, got a detector of {', '.join(known.values())[:200]}. Choose "
            "a face detector such as face_yolov8m.pt."
        )
    return faces[0] if faces else 0
