"""The functions on tensors: straight to the engine where nobody else takes part in the call."""

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._C import _ExcludeDispatchKeyGuard, _is_any_autocast_enabled
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function

from polyphase.errors import GeometryError, Unsupported
from polyphase.functional.arguments import check_axes, hashable, read
from polyphase.functional.tensors import derivatives, elsewhere, exported
from polyphase.functional.tensors.derivatives import (
    AUTOCAST,
    differentiable,
    plain,
    recorder,
    registered,
    unwatched,
)
from polyphase.functional.tensors.prepared import prepared
from polyphase.functional.tensors.spatial import spatial

# registers the operators with PyTorch
importlib.import_module("polyphase.functional.ops")

_RECORD = {
    "conv_transpose": recorder(derivatives.ConvTranspose),
    "conv": recorder(derivatives.Conv),
}
_ELSEWHERE = {"conv_transpose": elsewhere.conv_transpose, "conv": elsewhere.conv}
_EXPORTED = {"conv_transpose": exported.conv_transpose, "conv": elsewhere.conv}
_PARAMETERS = ("stride", "padding", "output_padding", "dilation", "groups")
_NO_PARAMETER = ("output_padding", "conv")
# devices of the registered operators; tensors on meta have no values
_OURS = ("cpu", "meta")


def run(
    operator: str,
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Tensor:
    """The operator on tensors of any kind, with the arguments of the public functions."""
    watched = is_dynamo_compiling() or not (
        unwatched() and plain(input) and plain(weight) and (bias is None or plain(bias))
    )
    if watched or _is_any_autocast_enabled():
        recorded = watched or differentiable(input, weight, bias)
        call: Callable[..., Tensor] = _watched if recorded else _autocasting
        parameters = stride, padding, output_padding, dilation, groups
        return call(operator, rank, input, weight, bias, *parameters)
    found = prepared(
        operator,
        rank,
        input.shape,
        weight.shape,
        None if bias is None else bias.shape,
        input.dtype,
        weight.dtype,
        None if bias is None else bias.dtype,
        hashable("stride", stride),
        hashable("padding", padding),
        hashable("output_padding", output_padding),
        hashable("dilation", dilation),
        hashable("groups", groups),
    )
    if differentiable(input, weight, bias):
        return _RECORD[operator](input, weight, bias, found.companion, found.compute)
    return found.infer(input, weight, bias)


def _autocasting(
    operator: str,
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *parameters: Any,
) -> Tensor:
    """The same where nothing but autocast takes part, and no gradient will be asked for.

    Weights are converted only when they are packed, so that what is packed of them can be kept.
    """
    shapes = input.shape, weight.shape, None if bias is None else bias.shape
    dtypes = _dtype(input), _dtype(weight), None if bias is None else _dtype(bias)
    given = [hashable(*pair) for pair in zip(_PARAMETERS, parameters, strict=True)]
    found = prepared(operator, rank, *shapes, *dtypes, *given)
    with _ExcludeDispatchKeyGuard(AUTOCAST):
        return found.infer(input.to(dtypes[0]), weight, bias)


def _watched(
    operator: str,
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Tensor:
    """The same through PyTorch's dispatcher, or on a device that PyTorch serves."""
    tensors = (input, weight) if bias is None else (input, weight, bias)
    parameters = stride, padding, output_padding, dilation, groups
    name = f"{operator}{rank}d"
    if not is_dynamo_compiling():
        check_kinds(input=input, weight=weight, bias=bias)
        if has_torch_function(tensors):
            named = zip(_PARAMETERS, parameters, strict=True)
            given = {key: value for key, value in named if (key, operator) != _NO_PARAMETER}
            public = getattr(importlib.import_module("polyphase.functional"), name)
            return handle_torch_function(public, tensors, input, weight, bias, **given)
        shapes = input.shape, weight.shape, None if bias is None else bias.shape
        dtypes = _dtype(input), _dtype(weight), None if bias is None else _dtype(bias)
        if not are_symbols((*input.shape, *weight.shape, *parameters)):
            read(operator, rank, shapes, dtypes, *parameters)
    check_axes(name, rank, input.shape, weight.shape, operator == "conv_transpose")
    if any(tensor.device != input.device for tensor in tensors):
        places = ", ".join(str(tensor.device) for tensor in tensors)
        raise GeometryError(f"input, weight and bias must be on one device, got {places}")
    s = spatial(weight.shape[2:], *parameters)
    if not is_dynamo_compiling() and any(isinstance(op, Tensor) for op in s.output_padding):
        # torch.jit.trace keeps sizes as tensors, and these become constants as in PyTorch's layers
        s = s._replace(output_padding=tuple(int(op) for op in s.output_padding))
    if _is_exporting_to_onnx():
        # a node of ours would mean nothing there
        return _EXPORTED[operator](input, weight, bias, s)
    if input.device.type in _OURS:
        return registered(operator, input, weight, bias, s)
    return _ELSEWHERE[operator](input, weight, bias, s)


def _dtype(tensor: Tensor) -> torch.dtype:
    """The dtype in which autocast lets a tensor be computed, or its own."""
    kind = tensor.device.type
    casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    if casts and tensor.is_floating_point() and tensor.dtype is not torch.float64:
        return torch.get_autocast_dtype(kind)
    return tensor.dtype


def _is_exporting_to_onnx() -> bool:
    # PyTorch imports the module when it is used
    module = None if is_dynamo_compiling() else sys.modules.get("torch.onnx")
    return module is not None and module.is_in_onnx_export()


def are_symbols(values: Iterable[Any]) -> bool:
    """Whether a value belongs to a tracer, and can be neither kept nor compared freely."""
    return any(
        are_symbols(value)
        if isinstance(value, tuple | list)
        else isinstance(value, torch.SymInt | Tensor)
        for value in values
    )


def check_kinds(**tensors: Any) -> None:
    """Refuse what is no tensor, by name; a bias may be ``None``."""
    for name, value in tensors.items():
        if isinstance(value, Tensor) and value.is_nested:
            raise Unsupported(
                f"{name} is a nested tensor, which is not computed; pass its rows one by one, as "
                f"{name}.unbind() gives them"
            )
        if isinstance(value, Tensor) or (name == "bias" and value is None):
            continue
        # tracers stand in for tensors
        if not hasattr(type(value), "__torch_function__"):
            like = "" if name == "input" else " as input is"
            raise TypeError(
                f"{name} must be a torch.Tensor{like}, got {type(value).__name__}; "
                f"convert it with torch.as_tensor({name})"
            )
