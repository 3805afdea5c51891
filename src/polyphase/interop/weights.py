"""Weights from one framework to another: axes, flips and groups."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.values import PerAxis
from polyphase.errors import GeometryError, Unsupported
from polyphase.interop.convention import Convention, checked_groups, per_axis

Array = NDArray[Any]


def converted(weight: Array, source: Convention, target: Convention, groups: int) -> Array:
    """The weights of ``source`` as ``target`` has them, as a new array."""
    if not isinstance(weight, np.ndarray):
        raise TypeError(f"weight must be a numpy.ndarray, got {type(weight).__name__}")
    groups = checked_groups("groups", groups)
    ordered = _to_torch(weight, source, groups)
    _check_fit(target, ordered.ndim - 2, groups)
    return np.array(_from_torch(ordered, target, groups), order="C", copy=True)


def channel_axis_of(convention: Convention, rank: int, groups: int) -> int:
    """The axis of the weights that counts every output channel."""
    _check_fit(convention, rank, checked_groups("groups", groups))
    inputs, outputs, *_ = convention.layout.permutation(rank)
    if groups > 1 and (outputs > inputs or _has_group_axis(convention, groups)):
        raise Unsupported(
            f"with {groups} groups no axis of {convention.title}'s weights counts every output "
            "channel, so that scales per channel have no axis: use one scale for all weights, or "
            "one call for each group"
        )
    return outputs


def spread_taps(weight: Array, dilation: PerAxis) -> Array:
    """Weights ``(.., .., *kernel_size)`` with ``dilation - 1`` zeros between the taps.

    With dilation 1 they mean what the given weights mean with ``dilation``.

    >>> spread_taps(np.array([[[1, 2, 3]]]), 2)
    array([[[1, 0, 2, 0, 3]]])
    """
    dilations = per_axis("dilation", dilation, weight.ndim - 2, low=1)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    result = np.zeros((*weight.shape[:2], *kernel), weight.dtype)
    at: Any = (..., *(slice(None, None, d) for d in dilations))
    result[at] = weight
    return result


def _to_torch(weight: Array, source: Convention, groups: int) -> Array:
    grouped = _has_group_axis(source, groups)
    rank = weight.ndim - 2 - grouped
    if rank < 1:
        raise GeometryError(
            f"weights of {source.title} must have at least {3 + grouped} axes, "
            f"{source.layout.shape(groups > 1)}, got shape {weight.shape}"
        )
    _check_fit(source, rank, groups)
    if (weight.shape[0] != groups) if grouped else (weight.shape[0] % groups):
        rule = "be" if grouped else "be divided by"
        raise GeometryError(
            f"the first axis of the weights must {rule} the {groups} groups, "
            f"got shape {weight.shape}"
        )
    parts = list(weight) if grouped else np.split(weight, groups)
    order = source.layout.permutation(rank)
    ordered = np.concatenate([part.transpose(order) for part in parts])
    return _flipped(ordered) if source.layout.flip else ordered


def _from_torch(weight: Array, target: Convention, groups: int) -> Array:
    if weight.shape[0] % groups:
        raise GeometryError(
            f"groups must divide the input channels, got {groups} groups and {weight.shape[0]} "
            "channels"
        )
    flipped = _flipped(weight) if target.layout.flip else weight
    order = np.argsort(target.layout.permutation(weight.ndim - 2))
    parts = [part.transpose(order) for part in np.split(flipped, groups)]
    return np.stack(parts) if _has_group_axis(target, groups) else np.concatenate(parts)


def _flipped(weight: Array) -> Array:
    return np.flip(weight, axis=tuple(range(2, weight.ndim)))


def _has_group_axis(convention: Convention, groups: int) -> bool:
    return groups > 1 and convention.group_axis


def _check_fit(convention: Convention, rank: int, groups: int) -> None:
    if groups > 1 and not convention.groups:
        raise Unsupported(
            f"{convention.title} has no groups, got {groups}: convert the weights of each group by "
            "themselves and make one call for each"
        )
    if rank not in convention.ranks:
        raise Unsupported(
            f"{convention.title} has no weights with {rank} spatial axes: "
            f"{' or '.join(map(str, convention.ranks))} can be"
        )
    if groups > 1 and rank not in convention.grouped_ranks:
        raise Unsupported(f"{convention.title} has no groups on {rank} spatial axes")
