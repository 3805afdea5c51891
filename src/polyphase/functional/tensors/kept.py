"""Packed weights that are kept from one inference to the next, and never believed unseen.

Nothing that PyTorch counts tells of every change: ``.data``, NumPy views and other processes write
without raising a version. So beside the packed weights stands a checksum of what was packed, and
they are used only while the parameter has the same one. That takes at most a third of the time of
packing, and a seventeenth or less where packing computes.
"""

import weakref
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from polyphase.engine.checksum import checksum
from polyphase.engine.run import Operation, Panels

# what tells weights from what they were or will be: digest of the bytes in their order in memory,
# the type that gives them values, and that order, as shape and strides, if it is not the usual one
_State = tuple[bytes, torch.dtype, tuple[torch.Size, tuple[int, ...]] | None]


# inputs of different sizes may ask for panels of different kinds; so many stay with a parameter
MOST_KINDS = 4


class _Kept(NamedTuple):
    """``panels`` are by the recipe they were filled with, the oldest first."""

    owner: weakref.ref[Parameter]
    weight: _State
    bias: _State | None
    panels: dict[bytes, Panels]


# by the identity of the parameter, which two living objects never share
_kept: dict[int, _Kept] = {}


def kept_panels(
    operation: Operation, weight: Parameter, bias: Tensor | None, dtype: torch.dtype
) -> Panels:
    """The panels of a parameter as it is now; packed anew where anything has changed.

    They are of its values in ``dtype``, that of the operation, to which autocast converts them.
    It packs: arrays that are read as they lie are nobody's to keep.
    """
    assert operation.packs
    kept = _kept.get(id(weight))
    if (
        kept is not None
        and operation.recipe in kept.panels
        and kept.owner() is weight
        and _holds(kept.weight, weight)
        and (kept.bias is None if bias is None else _holds(kept.bias, bias))
    ):
        return kept.panels[operation.recipe]
    return _pack(operation, weight, bias, dtype)


def _state(tensor: Tensor) -> _State:
    """The state of a tensor without gaps."""
    return checksum(tensor.data_ptr(), tensor.nbytes), tensor.dtype, _order(tensor)


def _order(tensor: Tensor) -> tuple[torch.Size, tuple[int, ...]] | None:
    return None if tensor.is_contiguous() else (tensor.shape, tensor.stride())


def _holds(state: _State | None, tensor: Tensor) -> bool:
    """Whether a tensor is still in a state; the recipe of the panels knows the shape."""
    if state is None:
        return False
    digest, dtype, order = state
    # the order first: an expanded tensor is read no further than its memory goes
    alike = dtype is tensor.dtype and order == _order(tensor)
    return alike and digest == checksum(tensor.data_ptr(), tensor.nbytes)


def _pack(
    operation: Operation, weight: Parameter, bias: Tensor | None, dtype: torch.dtype
) -> Panels:
    # from copies, so that panels and checksum agree whatever happens to the parameter meanwhile
    copy = weight.detach().clone()
    dense = copy.to(dtype).contiguous()
    bias_copy = None if bias is None else bias.detach().contiguous().clone()
    dense_bias = None if bias_copy is None else bias_copy.to(dtype)
    address = None if dense_bias is None else dense_bias.data_ptr()
    panels = operation.pack(dense.data_ptr(), address)
    # a copy of what has gaps has none, and a checksum would not see all of it
    if copy.stride() == weight.stride() and (bias is None or bias.is_contiguous()):
        key = id(weight)
        owner = weakref.ref(weight, lambda _: _kept.pop(key, None))
        states = _state(copy), None if bias_copy is None else _state(bias_copy)
        others = _others(_kept.get(key), weight, states)
        _kept[key] = _Kept(owner, *states, {**others, operation.recipe: panels})
    return panels


def _others(
    kept: _Kept | None, weight: Parameter, states: tuple[_State, _State | None]
) -> dict[bytes, Panels]:
    """Panels of other kinds that still hold."""
    if kept is None or kept.owner() is not weight or (kept.weight, kept.bias) != states:
        return {}
    return dict(list(kept.panels.items())[1 - MOST_KINDS :])
