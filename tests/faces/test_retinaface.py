"""facexlib's networks: their arithmetic, and the loading of the published layouts."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bfr.errors import WeightsError, WrongArchitectureError
from bfr.faces.retinaface import anchors, build_detector, decode, encode, load_detector, predict


@pytest.mark.parametrize("size", [(64, 96), (320, 320), (70, 45)])
def test_anchors_are_those_of_facexlib(size):
    from facexlib.detection.retinaface import generate_config
    from facexlib.detection.retinaface_utils import PriorBox

    theirs = PriorBox(generate_config("mobile0.25"), image_size=size).forward()
    scale = torch.tensor([size[1], size[0], size[1], size[0]])
    torch.testing.assert_close(anchors(*size), (theirs * scale).float(), atol=1e-3, rtol=1e-5)


def test_decoding_is_that_of_facexlib():
    from facexlib.detection import retinaface_utils

    priors = anchors(64, 64)
    torch.manual_seed(0)
    offsets, points = torch.randn(len(priors), 4), torch.randn(len(priors), 10)
    boxes, landmarks = decode(offsets, points, priors)
    theirs = retinaface_utils.decode(offsets, priors / 64, [0.1, 0.2]) * 64
    torch.testing.assert_close(boxes, theirs, atol=1e-3, rtol=1e-4)
    theirs = retinaface_utils.decode_landm(points, priors / 64, [0.1, 0.2]) * 64
    torch.testing.assert_close(landmarks.flatten(1), theirs, atol=1e-3, rtol=1e-4)


def test_decode_undoes_encode():
    priors = anchors(32, 32)
    boxes = torch.tensor([[3.0, 4, 20, 30]]).expand(len(priors), 4)
    landmarks = torch.rand(len(priors), 5, 2) * 30
    again = decode(*encode(boxes, landmarks, priors), priors)
    torch.testing.assert_close(again[0], boxes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again[1], landmarks, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["mobile0.25", "resnet50"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_layouts_load(tmp_path, backbone, prefix):
    """Full-size random networks saved as the published files are: .pth, perhaps with a prefix."""
    network = build_detector(backbone)
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(state, tmp_path / "detector.pth")
    loaded = load_detector(tmp_path / "detector.pth")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(loaded.network(image), network(image), strict=True):
            assert torch.equal(ours, theirs)
    assert not loaded.network.training


def test_other_networks_are_refused(tmp_path):
    save_file({"conv_first.weight": torch.zeros(3)}, tmp_path / "swinir.safetensors")
    with pytest.raises(WrongArchitectureError, match="swinir"):
        load_detector(tmp_path / "swinir.safetensors")
    state = build_detector("mobile0.25").state_dict()
    state.pop("fpn.output1.0.weight")
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(WrongArchitectureError, match=r"fpn\.output1\.0\.weight"):
        load_detector(tmp_path / "half.pth")


def test_prediction_is_padded_batched_and_checked():
    network = build_detector("mobile0.25")
    images = torch.rand(2, 3, 50, 70)
    scores, boxes, landmarks = predict(network, images)
    count = len(anchors(64, 96))
    assert scores.shape == (2, count) and boxes.shape == (2, count, 4)
    assert landmarks.shape == (2, count, 5, 2)
    alone = predict(network, images[1:])
    for single, together in zip(alone, (scores, boxes, landmarks), strict=True):
        torch.testing.assert_close(single[0], together[1], atol=1e-3, rtol=1e-4)
    nn.init.constant_(network.get_parameter("ClassHead.0.conv1x1.bias"), float("nan"))
    with pytest.raises(WeightsError, match="NaN"):
        predict(network, images)
