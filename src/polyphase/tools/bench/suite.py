"""Layers to measure: the suite, or the problems of a file."""

import runpy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.errors import GeometryError

SUITE = Path(__file__).with_name("suite.txt")
KNOWN = Path(__file__).with_name("known.txt")


def read(path: Path) -> list[Problem]:
    """The problems of a text file, one line each, or of the ``LAYERS`` of a Python file.

    In a text file ``#`` begins a comment. Raises :class:`~polyphase.GeometryError` for what cannot
    be read.

    >>> read(SUITE)[1].name
    'dcgan-2'
    """
    try:
        if path.suffix == ".py":
            return from_layers(runpy.run_path(str(path))["LAYERS"])
        return from_text(path.read_text("utf-8"))
    except OSError as error:
        raise GeometryError(f"cannot read the layers in {str(path)!r}: {error.strerror}") from None
    except KeyError:
        raise GeometryError(
            f"{str(path)!r} must define LAYERS, a list of layers such as those in bench/layers.py"
        ) from None


def from_text(text: str) -> list[Problem]:
    """The problems of a text, in order.

    >>> [str(problem) for problem in from_text("# one axis\\nc1:1 i4 k3 s2 @small")]
    ['conv_transpose n1 c1:1 g1 i4 k3 s2 p0 o0 d1 f32 ncl @small']
    """
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [_named(Problem.parse(line)) for line in lines if line]


def from_layers(layers: Iterable[Any]) -> list[Problem]:
    """The problems of layer objects, whose per-axis values are ints or tuples."""
    problems = (
        Problem(
            Geometry(
                # one tuple is enough to say how many axes there are
                layer.per_axis(layer.kernel_size),
                layer.stride,
                padding=layer.padding,
                output_padding=layer.output_padding,
                dilation=layer.dilation,
            ),
            layer.input_size,
            layer.in_channels,
            layer.out_channels,
            batch=layer.batch,
            groups=layer.groups,
            name=layer.name,
        )
        for layer in layers
    )
    return [_named(problem) for problem in problems]


def _named(problem: Problem) -> Problem:
    """The problem, called by what it is where it has no name."""
    if problem.name:
        return problem
    _, _, channels, _, size, kernel, stride, *_ = str(problem).split()
    return replace(problem, name=f"{channels}-{size}-{kernel}-{stride}")


def gradients(problem: Problem) -> tuple[Problem, Problem]:
    """The problems of the input's and the weights' gradient of a transposed convolution.

    >>> [str(p) for p in gradients(Problem.parse("c1:2 i4 k3 s2 p1 o1"))]  # doctest: +ELLIPSIS
    ['conv n1 c2:1 g1 i8 k3 s2 p1 o1 ...', 'weight_grad n1 c1:2 g1 i4 k3 s2 p1 o1 ...']
    """
    of_input = replace(
        problem,
        operator="conv",
        input_size=problem.output_size,
        in_channels=problem.out_channels,
        out_channels=problem.in_channels,
    )
    return of_input, replace(problem, operator="weight_grad")


@dataclass(frozen=True)
class Known:
    """An engine, and how many times faster than torch on channels-first tensors it was."""

    engine: str
    ratio: float


def known() -> dict[Problem, Known]:
    """By layer of the suite: the best engine known.

    >>> known()[Problem.parse("c256:128 i112x112 k2x2 s2x2 @unet-3")]
    Known(engine='torch, memory kept', ratio=5.01)
    """
    problems = {problem.name: problem for problem in read(SUITE)}
    lines = [
        line for line in KNOWN.read_text("utf-8").splitlines() if line and not line.startswith("#")
    ]
    parts = [line.split(maxsplit=2) for line in lines]
    return {problems[name]: Known(engine, float(ratio)) for name, ratio, engine in parts}
