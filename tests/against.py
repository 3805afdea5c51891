"""Comparison of a framework with what polyphase says: values, refusals, and the way back."""

from typing import Any, NamedTuple

import numpy as np
import oracle
from foreign import SIZES, Call, draw, geometry_of, numbers, several

from polyphase import GeometryError, Unsupported, interop


class NotHere(Exception):
    """The framework takes the call, but not on this machine."""


class Problem(NamedTuple):
    """A call with arrays, weights in PyTorch's order, and what polyphase says that it means.

    ``expected`` comes from the oracle; it is ``None`` where polyphase refuses, and ``refusal`` then
    is what it says.
    """

    call: Call
    x: Any
    weight: Any
    bias: Any
    groups: int
    meaning: Any
    expected: Any
    refusal: Exception | None

    @property
    def empty(self):
        return self.expected is not None and not self.expected.size


def problem(name, rng, rank=1, grouped=False):
    groups = rng.choice((1, 2, 3)) if grouped else 1
    call, meaning, refusal = _call(name, rng, rank, groups)
    # depthwise is a case of its own in many kernels
    inputs = groups * (1 if groups > 1 and rng.random() < 0.4 else 2)
    outputs = groups * rng.choice((1, 2))
    x = numbers(rng, (rng.choice((1, 2)), inputs, *call.size))
    weight = numbers(rng, (inputs, outputs // groups, *call.kernel))
    bias = numbers(rng, (outputs,)) if rng.random() < 0.5 else None
    expected = None
    if refusal is None:
        expected = oracle.conv_transpose(x, weight, bias, meaning.geometry, groups)
    return Problem(call, x, weight, bias, groups, meaning, expected, refusal)


def without_bias(problem):
    if problem.bias is None or problem.expected is None:
        return problem._replace(bias=None)
    bias = problem.bias.reshape(-1, *[1] * (problem.x.ndim - 2))
    return problem._replace(bias=None, expected=problem.expected - bias)


def _call(name, rng, rank, groups):
    """A call with what it means or why not; with more axes most drawn ones would be illegal."""
    wants_legal = rng.random() < 0.7
    while True:
        call = draw(name, rng, rank)
        if name in ("openvino", "mlx"):
            # here groups change the meaning
            call.keywords["groups"] = groups
        try:
            meaning = interop.FRAMEWORKS[name].geometry(**call.keywords)
            meaning.geometry.output_size(call.size)
        except (GeometryError, Unsupported) as error:
            if not wants_legal:
                return call, None, error
        else:
            return call, meaning, None


def check(problem, run, refusals=(Exception,), known=lambda problem: None):
    """Compare with what ``run`` gives; returns what was found, for counting.

    Both must refuse, or both must give the same values. An empty result may be refused by them, and
    what is refused here may be empty there.
    ``known`` names a known fault of theirs, for which nothing is compared.
    """
    fault = known(problem)
    if fault is not None:
        return fault
    try:
        theirs = run(problem)
    except NotHere:
        return "not here"
    except refusals as error:
        if problem.refusal is None and not problem.empty:
            raise AssertionError(problem.call) from error
        return "refused" if problem.refusal else "empty"
    if problem.refusal is not None and not theirs.size:
        return "nothing"
    assert problem.refusal is None, (problem.call, problem.refusal, theirs)
    oracle.assert_same(theirs, problem.expected, problem.call)
    return "equal"


def last(array):
    """Channels last."""
    return np.moveaxis(array, 1, -1)


def first(array):
    """Channels first."""
    return np.moveaxis(np.asarray(array), -1, 1)


def with_bias(array, bias, axis=-1):
    """The bias added along the channels, for calls that take none."""
    if bias is None:
        return array
    shape = [1] * array.ndim
    shape[axis] = -1
    return array + bias.reshape(shape)


def check_way_back(
    name, rng, rank, count, call, groups=(1, 2, 3), needs=(), known=lambda geometry: False, **more
):
    """``parameters`` of random geometries give the geometry's values when the framework runs them.

    Where there is no exact call, what is to be written instead is carried out. ``call(x, weight,
    groups, parameters)`` takes and gives PyTorch's order. Geometries that are ``known`` to go wrong
    there are left out; ``needs`` and ``more`` are further arguments of ``parameters``.
    """
    found = {"exact": 0, "instead": 0}
    for _ in range(count):
        geometry = geometry_of(rng, rank)
        size = several(rng, rank, 1, SIZES[rank])
        try:
            wanted = geometry.output_size(size)
        except GeometryError:
            continue
        if 0 in _tuple(wanted) or known(geometry):
            continue
        split = rng.choice(groups)
        x = numbers(rng, (1, 2 * split, *size))
        weight = numbers(rng, (2 * split, rng.choice((1, 2)), *_tuple(geometry.kernel_size)))
        expected = oracle.conv_transpose(x, weight, None, geometry, split)
        given = {"input_size": size, "batch": 1, "out_channels": weight.shape[1] * split}
        given = {key: given[key] for key in needs} | more
        module = interop.FRAMEWORKS[name]
        try:
            way, result = _way_back(module, x, weight, split, geometry, call, given)
        except NotHere:
            continue
        found[way] += 1
        oracle.assert_same(result, expected, (geometry, size, split))
    assert min(found.values()) > 0, found


def _way_back(module, x, weight, groups, geometry, call, given):
    try:
        parameters = module.parameters(geometry, groups, **given)
    except interop.NoExactCall as error:
        return "instead", carry_out(error.instead, x, weight, groups, geometry, call)
    return "exact", call(x, weight, groups, parameters)


def carry_out(instead, x, weight, groups, geometry, call):
    """Do what an ``Instead`` says."""
    if instead.per_group:
        inputs = np.split(x, groups, axis=1)
        weights = np.split(weight, groups)
        once = instead._replace(per_group=False)
        results = [
            carry_out(once, *pair, 1, geometry, call) for pair in zip(inputs, weights, strict=True)
        ]
        return np.concatenate(results, axis=1)
    if instead.spread_taps:
        weight = interop.spread_taps(weight, geometry.dilation)
    result = call(x, weight, groups, instead.parameters)
    added = [(max(-begin, 0), max(-end, 0)) for begin, end in instead.crop]
    result = np.pad(result, [(0, 0), (0, 0), *added])
    ends = [
        slice(max(begin, 0), size - max(end, 0))
        for (begin, end), size in zip(instead.crop, result.shape[2:], strict=True)
    ]
    return result[(..., *ends)]


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)
