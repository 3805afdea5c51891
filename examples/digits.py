"""Train a DCGAN or a variational autoencoder on handwritten digits, on PyTorch and on polyphase.

Both runs draw the same numbers and differ in nothing but the class of their transposed layers:

    python examples/digits.py dcgan
    python examples/digits.py vae --steps 500

Training multiplies differences, those of rounding too. So a third run tells what rounding alone
does: PyTorch again, with the last bit of each of the decoder's weights changed.

Needs scikit-learn, whose 1797 digits of 8 x 8 are enlarged to 32 x 32.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, softplus

import polyphase as pp

CODE = 64
# where each run takes its transposed layers from
RUNS = {"PyTorch": nn, "polyphase": pp.nn, "rounding": nn}
# a step of training: pictures in, losses by name out
Step = Callable[[Tensor], dict[str, Tensor]]


def digits(dtype: torch.dtype) -> Tensor:
    """The pictures, ``(1797, 1, 32, 32)`` from -1 to 1."""
    from sklearn.datasets import load_digits

    pictures = torch.from_numpy(load_digits().images).to(dtype)[:, None]
    return interpolate(pictures, size=(32, 32), mode="bilinear") / 8 - 1


def decoder(layers: Any, width: int) -> nn.Sequential:
    """From a code ``(N, CODE, 1, 1)`` to a picture ``(N, 1, 32, 32)`` from -1 to 1."""
    return nn.Sequential(
        layers.ConvTranspose2d(CODE, 4 * width, 4, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(inplace=True),
        layers.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(inplace=True),
        layers.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        layers.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def encoder(width: int, outputs: int) -> nn.Sequential:
    """From a picture to ``outputs`` numbers, ``(N, outputs, 1, 1)``."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(4 * width, outputs, 4),
    )


def dcgan(layers: Any, width: int, dtype: torch.dtype) -> tuple[Step, nn.Module]:
    """Radford, Metz & Chintala 2016, arXiv 1511.06434."""
    generator, judge = decoder(layers, width).to(dtype), encoder(width, 1).to(dtype)
    for module in [*generator.modules(), *judge.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
    adam = [
        torch.optim.Adam(part.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for part in (generator, judge)
    ]

    def step(pictures: Tensor) -> dict[str, Tensor]:
        fakes = generator(torch.randn(len(pictures), CODE, 1, 1, dtype=dtype))
        # softplus(-x) is the loss of a verdict that should be "real", softplus(x) of the other
        judged = softplus(-judge(pictures)).mean() + softplus(judge(fakes.detach())).mean()
        adam[1].zero_grad()
        judged.backward()
        adam[1].step()
        fooled = softplus(-judge(fakes)).mean()
        adam[0].zero_grad()
        fooled.backward()
        adam[0].step()
        return {"discriminator": judged, "generator": fooled}

    return step, generator


def vae(layers: Any, width: int, dtype: torch.dtype) -> tuple[Step, nn.Module]:
    """Kingma & Welling 2014, arXiv 1312.6114, with convolutions."""
    inward, outward = encoder(width, 2 * CODE).to(dtype), decoder(layers, width).to(dtype)
    adam = torch.optim.Adam([*inward.parameters(), *outward.parameters()], lr=1e-3)

    def step(pictures: Tensor) -> dict[str, Tensor]:
        mean, spread = inward(pictures).chunk(2, 1)
        code = mean + torch.exp(spread / 2) * torch.randn_like(mean)
        error = (outward(code) - pictures).square().sum((1, 2, 3)).mean()
        distance = (mean.square() + spread.exp() - spread - 1).sum((1, 2, 3)).mean() / 2
        adam.zero_grad()
        (error + distance).backward()
        adam.step()
        return {"picture": error, "code": distance}

    return step, outward


MODELS = {"dcgan": dcgan, "vae": vae}


def train(
    model: str, run: str, steps: int, batch: int, width: int, dtype: torch.dtype
) -> Iterator[tuple[float, dict[str, float]]]:
    """Seconds and losses of each step; the seed is the same in every run."""
    pictures = digits(dtype)
    torch.manual_seed(0)
    step, decoder = MODELS[model](RUNS[run], width, dtype)
    if run == "rounding":
        with torch.no_grad():
            for weights in decoder.parameters():
                weights.copy_(torch.nextafter(weights, weights + 1))
    state = torch.get_rng_state()
    for _ in range(steps):
        # the runs take turns, each with random numbers of its own
        torch.set_rng_state(state)
        chosen = pictures[torch.randint(len(pictures), (batch,))]
        start = time.perf_counter()
        losses = step(chosen)
        taken = time.perf_counter() - start
        state = torch.get_rng_state()
        yield taken, {name: loss.item() for name, loss in losses.items()}


def compare(model: str, steps: int, batch: int, width: int, dtype: torch.dtype) -> dict[str, float]:
    """Train on each, print the curves and the time of a step; largest difference from PyTorch."""
    turns = zip(*(train(model, run, steps, batch, width, dtype) for run in RUNS), strict=True)
    runs = dict(zip(RUNS, zip(*turns, strict=True), strict=True))
    names = list(runs["PyTorch"][0][1])
    print(f"{'':>6}" + "".join(f"{name:>24}{'':12}" for name in names))
    print(f"{'step':>6}" + "".join(f"{run:>12}" for _ in names for run in RUNS))
    for i in range(steps):
        if i % max(steps // 15, 1) == 0 or i == steps - 1:
            row = (runs[run][i][1][name] for name in names for run in RUNS)
            print(f"{i + 1:>6}" + "".join(f"{loss:>12.5f}" for loss in row))
    furthest = {
        run: max(
            abs(losses[name] - exact[name]) / abs(exact[name])
            for (_, losses), (_, exact) in zip(found, runs["PyTorch"], strict=True)
            for name in names
        )
        for run, found in runs.items()
    }
    print("\nrun         ms a step (median)   furthest from PyTorch (relative)")
    for run, found in runs.items():
        median = sorted(taken for taken, _ in found)[steps // 2]
        print(f"{run:<10}{1000 * median:>20.1f}{furthest[run]:>35.1e}")
    return furthest


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=32, help="channels of the widest layer / 4")
    parser.add_argument("--double", action="store_true", help="compute in float64")
    given = parser.parse_args(arguments)
    dtype = torch.float64 if given.double else torch.float32
    compare(given.model, given.steps, given.batch, given.width, dtype)


if __name__ == "__main__":
    main()
