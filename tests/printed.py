"""Calls as ``polyphase convert`` writes them, carried out word by word with the real package."""

import re
from collections import Counter

import numpy as np
import oracle
from foreign import SIZES, geometry_of, numbers, several

import polyphase
from polyphase import GeometryError, interop
from polyphase.interop import Meaning
from polyphase.tools.convert import translate


class NotHere(Exception):
    """The framework takes the call, but not on this machine."""


def check(
    name,
    evaluate,
    rng,
    rank,
    count,
    groups=(1, 2, 3),
    known=lambda geometry: False,
    same=oracle.assert_same,
):
    """The written calls for random geometries give their values; returns what was found.

    ``evaluate(call, x, weight, bias)`` gives what the text of a call is worth, for arrays as the
    framework has them; ``bias`` is ``None`` where the text says that it is added later. Geometries
    that are ``known`` to go wrong there are left out; ``same`` compares.
    """
    found = Counter()
    while found.total() < count:
        geometry = geometry_of(rng, rank)
        size, split = several(rng, rank, 1, SIZES[rank]), rng.choice(groups)
        try:
            wanted = geometry.output_size(size)
        except GeometryError:
            continue
        if 0 in np.ravel(wanted) or known(geometry):
            continue
        kernel = tuple(axis.kernel_size for axis in geometry.axes)
        x = numbers(rng, (1, 2 * split, *size))
        weight = numbers(rng, (2 * split, rng.choice((1, 2)), *kernel))
        bias = numbers(rng, (weight.shape[1] * split,))
        meant = Meaning(geometry, interop.torch.LAYOUT.permutation(rank), False)
        told = translate(meant, "torch", name, split, size)
        try:
            result = _carried_out(told, told.steps, x, weight, bias, geometry.dilation, evaluate)
        except NotHere:
            found["not here"] += 1
            continue
        expected = oracle.conv_transpose(x, weight, bias, geometry, split)
        same(result, expected, (geometry, size, split, told))
        found["exact" if told.parameters is not None else "instead"] += 1
    return found


def names(x, weight, bias):
    """What the variables of a written call stand for."""
    return {"x": x, "weight": weight, "kernel": weight, "filters": weight, "bias": bias}


def _carried_out(told, steps, x, weight, bias, dilation, evaluate):
    first, *others = steps
    if first.startswith("for each group of channels, on its share of input, weights and bias"):
        assert others.pop() == "join the results along the channels"
        # a group has two input channels
        groups = x.shape[1] // 2
        shares = zip(
            *(np.split(array, groups, axis) for array, axis in ((x, 1), (weight, 0), (bias, 0))),
            strict=True,
        )
        results = [_carried_out(told, others, *share, dilation, evaluate) for share in shares]
        return np.concatenate(results, axis=1)
    y = None
    per_channel = bias.reshape(-1, *[1] * (x.ndim - 2))
    for step in steps:
        if step == "put zeros between the taps of the weights":
            weight = interop.spread_taps(weight, dilation)
        elif step == "add the bias":
            y = y + per_channel
        elif added := re.fullmatch(r"add zeros at the two ends of the spatial axes: (.*)", step):
            ends = [tuple(map(int, pair.split(" and "))) for pair in added[1].split(", ")]
            y = np.pad(y, [(0, 0), (0, 0), *ends])
        elif removed := re.fullmatch(r"remove from the two ends of the spatial axes: (.*)", step):
            ends = [tuple(map(int, pair.split(" and "))) for pair in removed[1].split(", ")]
            y = y[(..., *(slice(a, n - b) for n, (a, b) in zip(y.shape[2:], ends, strict=True)))]
        elif step.startswith("y = y["):
            # the slices are for arrays as the framework has them
            last = told.notes["arrays"] == "channels last"
            y = eval(step.removeprefix("y = "), {"y": np.moveaxis(y, 1, -1) if last else y})
            y = np.moveaxis(y, -1, 1) if last else y
        else:
            assert y is None, step
            later = "add the bias" in told.steps or "bias" in told.notes
            # weights are given to a layer before it is applied
            applied = interop.FRAMEWORKS[told.target].CONVENTION.applied
            call = step.removeprefix("y = ").removesuffix(applied)
            y = _evaluated(told.notes, call, x, weight, None if later else bias, evaluate)
    return y + per_channel if told.notes.get("bias") == "add it to the result" else y


def _evaluated(notes, call, x, weight, bias, evaluate):
    """The call on arrays that lie as the notes say."""
    if notes["weights"] != "as they are":
        known = {"numpy": np, "polyphase": polyphase, "weight": weight}
        weight = np.ascontiguousarray(eval(notes["weights"], known))
    if notes["arrays"] == "channels first":
        return np.asarray(evaluate(call, x, weight, bias))
    assert notes["arrays"] == "channels last"
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    return np.moveaxis(np.asarray(evaluate(call, x, weight, bias)), -1, 1)
