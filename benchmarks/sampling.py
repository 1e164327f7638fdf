"""Time and memory of sampling pseudo targets with a prior of the published size, in one run.

    python -m benchmarks.sampling [--batches 1 4 16] [--calls 4] [--size 512] [--threads N]

The network is that of the published 512 px prior (159.8 M parameters) with random weights; time
does not depend on them. The baseline is plain float32, one face at a time. The error of the
faster types is that of one network call against float32, relative to its spread; random weights
make it a rough guide only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from bfr.image.lowpass import lowpass
from bfr.prior.constraint import Constraint
from bfr.prior.guidance import Guidance
from bfr.prior.prior import Prior
from bfr.prior.sample import sample_targets
from bfr.prior.schedule import Schedule
from bfr.prior.settings import SampleSettings
from bfr.prior.unet import UNet, UNetConfig

from .measure import in_own_process

PUBLISHED = UNetConfig(
    model_channels=32,
    channels=(32, 64, 128, 256, 256, 512, 512),
    blocks=(1, 2, 2, 2, 2, 3, 4),
    attention=(False, False, False, False, True, True, True),
    out_channels=6,
)
PLAIN = ("float32", False)
WAYS = (PLAIN, ("float32", True), ("bfloat16", False), ("bfloat16", True))


def build(way: tuple[str, bool]) -> UNet:
    """The network in a dtype, its memory in channels-last order or not; the same weights."""
    torch.manual_seed(0)
    network = UNet(PUBLISHED).eval().requires_grad_(False)
    for parameter in network.parameters():
        if not parameter.any():  # layers that begin as zero
            torch.nn.init.normal_(parameter, std=0.02)
    order = torch.channels_last if way[1] else torch.contiguous_format
    return network.to(getattr(torch, way[0])).to(memory_format=order)  # pyright: ignore[reportCallIssue]


def faces(count: int, size: int, way: tuple[str, bool] = PLAIN) -> torch.Tensor:
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    order = torch.channels_last if way[1] else torch.contiguous_format
    return noise.to(getattr(torch, way[0])).contiguous(memory_format=order)


def call_case(way: tuple[str, bool], size: int, device: str = "cpu") -> Callable[[], object]:
    network, x = build(way).to(device), faces(1, size, way).to(device)
    t = torch.tensor([400], device=device)
    return lambda: network(x, t)


def sampling_case(way: tuple[str, bool], count: int, batch: int, calls: int, size: int):
    prior = Prior(build(way), size, Schedule())
    settings = SampleSettings(Constraint(start=150, stop=90), calls=calls, batch_size=batch)
    guesses = faces(count, size).clamp(0, 1)
    return lambda: sample_targets(guesses, prior, settings)


def target_case(way: tuple[str, bool], published_calls: int = 0, size: int = 512):
    """A pseudo target by our defaults, or so many calls of the published way to one."""
    prior = Prior(build(way), size, Schedule())
    settings = Guidance().settings(prior)
    if published_calls:
        settings = SampleSettings(Constraint(start=150, stop=90), calls=published_calls)
    guess = faces(1, size).clamp(0, 1)
    return lambda: sample_targets(guess, prior, settings)


def constraint_case(size: int) -> Callable[[], object]:
    x = faces(1, size)
    return lambda: lowpass(x, 8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--calls", type=int, default=4, help="network calls a face that is timed")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()

    exact = call_case(PLAIN, args.size)()
    assert isinstance(exact, torch.Tensor)
    plain, _ = in_own_process(call_case, (PLAIN, args.size), args.threads)
    low, _ = in_own_process(constraint_case, (args.size,), args.threads)
    print(f"{'one network call, 1 face':44}{'seconds':>9}{'ratio':>7}{'error':>9}")
    for way in WAYS:
        seconds, _ = in_own_process(call_case, (way, args.size), args.threads)
        output = call_case(way, args.size)()
        assert isinstance(output, torch.Tensor)
        error = (output.float() - exact).square().mean().sqrt() / exact.std()
        name = f"{way[0]}{', channels last' * way[1]}"
        print(f"{name:44}{seconds:9.2f}{plain / seconds:7.2f}{error:9.1e}")
    print(f"{'the constraint (one φ)':44}{low:9.4f}{'':7}")
    print(f"\n{f'sampling, {args.calls} calls a face':44}{'s a face':>9}{'MB':>7}{'ratio':>7}")
    base = None
    for batch in args.batches:
        case = (PLAIN, batch, batch, args.calls, args.size)
        seconds, memory = in_own_process(sampling_case, case, args.threads, 1)
        base = base or seconds / batch
        ratio = base / (seconds / batch)
        print(f"{f'batch of {batch}':44}{seconds / batch:9.2f}{memory:7.0f}{ratio:7.2f}")


if __name__ == "__main__":
    main()
