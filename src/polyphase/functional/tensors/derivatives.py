"""The three operators on tensors of any kind, and their derivatives in terms of each other.

``conv_transpose(x, w)``, ``conv(y, w)`` and ``weight_grad(x, y)`` are bilinear, and each one's
derivatives are the other two, so that derivatives of every order come out of these formulas.
Complex derivatives are conjugated, as PyTorch's are.

Where nothing watches a call (no tracer, mode or transform) and its tensors are plain, it goes to
the engine directly. Otherwise it goes through the operators registered with PyTorch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import (
    DispatchKey,
    DispatchKeySet,
    _are_functorch_transforms_active,
    _ExcludeDispatchKeyGuard,
    _get_tracing_state,
    _has_storage,
    _len_torch_dispatch_stack,
    _len_torch_function_stack,
)
from torch._C._autograd import _profiler_enabled
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from polyphase.functional.tensors.native import is_dense_last
from polyphase.functional.tensors.prepared import (
    Backward,
    prepared,
    prepared_backward,
    prepared_sums,
    prepared_weights,
)
from polyphase.functional.tensors.spatial import Spatial

# derivatives are computed in the type of the call that they belong to, as PyTorch's are
AUTOCAST = DispatchKeySet(DispatchKey.AutocastCPU) | DispatchKeySet(DispatchKey.AutocastCUDA)

Gradients = tuple[Tensor | None, ...]
Compute = Callable[..., Tensor]


def conv_transpose(x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    """The transposed convolution."""
    return _conv("conv_transpose", ConvTranspose, x, w, b, s)


def conv(y: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    """The strided convolution."""
    return _conv("conv", Conv, y, w, b, s)


def weight_grad(x: Tensor, y: Tensor, kernel_size: tuple[int, ...], s: Spatial) -> Tensor:
    """The gradient of the transposed convolution's weights, from its input and output gradient."""
    if not (unwatched() and plain(x) and plain(y) and x.numel() and y.numel()):
        with _ExcludeDispatchKeyGuard(AUTOCAST):
            return registered_weights(x, y, kernel_size, s)
    rank = len(kernel_size)
    compute = prepared_weights(rank, x.shape, y.shape, x.dtype, y.dtype, kernel_size, s)
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        return recorder(WeightGrad)(x, y, kernel_size, s, compute)
    return compute(x, y)


def _conv(
    operator: str, function: type[Function], x: Tensor, w: Tensor, b: Tensor | None, s: Spatial
) -> Tensor:
    direct = unwatched() and plain(x) and plain(w) and (b is None or plain(b))
    if not (direct and x.numel()):
        with _ExcludeDispatchKeyGuard(AUTOCAST):
            return registered(operator, x, w, b, s)
    found = prepared(
        operator,
        w.dim() - 2,
        x.shape,
        w.shape,
        None if b is None else b.shape,
        x.dtype,
        w.dtype,
        None if b is None else b.dtype,
        s.stride,
        s.padding,
        s.output_padding,
        s.dilation,
        s.groups,
    )
    if differentiable(x, w, b):
        return recorder(function)(x, w, b, found.companion, found.compute)
    return found.compute(x, w, b)


def registered(operator: str, x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    """The operator as PyTorch knows it, for tracers, modes, transforms and other devices."""
    begin, end = s.begins_and_ends()
    if operator == "conv":
        return torch.ops.polyphase.conv.default(x, w, b, s.stride, begin, end, s.dilation, s.groups)
    return torch.ops.polyphase.conv_transpose.default(
        x, w, b, s.stride, begin, end, s.output_padding, s.dilation, s.groups
    )


def registered_weights(x: Tensor, y: Tensor, kernel_size: tuple[int, ...], s: Spatial) -> Tensor:
    """``weight_grad`` as PyTorch knows it."""
    begin, end = s.begins_and_ends()
    return torch.ops.polyphase.weight_grad.default(
        x, y, kernel_size, s.stride, begin, end, s.dilation, s.groups
    )


def unwatched() -> bool:
    """Whether a call may skip PyTorch's dispatcher: nobody there but autocast waits for it."""
    return not (
        _len_torch_dispatch_stack()
        or _len_torch_function_stack()
        or _are_functorch_transforms_active()
        or _profiler_enabled()
        or forward_ad._current_level >= 0
        or _get_tracing_state() is not None
    )


def plain(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but values in CPU memory, as they stand."""
    kind = type(tensor)
    return (
        (kind is Tensor or kind is Parameter)
        and tensor.is_cpu
        # sparse tensors have none, and neither has what stands for a batch of tensors
        and _has_storage(tensor)
        and not tensor.is_neg()
        # zeros that derivatives make have no memory behind them
        and not tensor._is_zerotensor()
        # nor has what has sizes of its own in every row
        and not tensor.is_nested
    )


def differentiable(x: Tensor, w: Tensor, b: Tensor | None) -> bool:
    """Whether autograd records a call."""
    return torch.is_grad_enabled() and (
        x.requires_grad or w.requires_grad or (b is not None and b.requires_grad)
    )


def recorder(function: type[Function]) -> Compute:
    """``function.apply`` without its look for transforms, for those who know that there is none."""
    apply: Compute = super(Function, function).apply  # type: ignore[misc]
    return apply


class ConvTranspose(Function):
    """``compute(x, w, b)``, which is the transposed convolution with parameters ``s``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, s: Spatial, compute: Compute
    ) -> Tensor:
        """The result, and what its derivatives need."""
        _remember(ctx, x, w, s)
        return compute(x, w, b)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Gradients:
        """Gradients of input, weight and bias."""
        x, w = ctx.saved_tensors
        of_x, of_w, of_b, *_ = ctx.needs_input_grad
        gy = _without_gaps(gy, w.dim() - 2)
        direct = _direct("conv_transpose", x, w, gy, ctx.spatial)
        if direct:
            return (
                direct.of_input(gy, w, None) if of_x else None,
                direct.of_weights(x, gy, w) if of_w else None,
                direct.of_bias(gy) if of_b else None,
                None,
                None,
            )
        return (
            conv(gy, _conj(w), None, ctx.spatial) if of_x else None,
            weight_grad(_conj(x), gy, w.shape[2:], ctx.spatial) if of_w else None,
            channel_sums(gy, w.dim() - 2) if of_b else None,
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dw: Tensor | None, db: Tensor | None, *_: None) -> Any:
        """Change of the result when input, weight and bias change."""
        return _tangent(conv_transpose, ctx, dx, dw, db)


class Conv(Function):
    """``compute(y, w, b)``, which is the convolution whose transpose has parameters ``s``."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, w: Tensor, b: Tensor | None, s: Spatial, compute: Compute
    ) -> Tensor:
        """The result, and what its derivatives need."""
        _remember(ctx, y, w, s)
        return compute(y, w, b)

    @staticmethod
    def backward(ctx: Any, gx: Tensor) -> Gradients:
        """Gradients of input, weight and bias."""
        y, w = ctx.saved_tensors
        of_y, of_w, of_b, *_ = ctx.needs_input_grad
        gx = _without_gaps(gx, w.dim() - 2)
        direct = _direct("conv", y, w, gx, ctx.spatial)
        if direct:
            return (
                direct.of_input(gx, w, None) if of_y else None,
                direct.of_weights(gx, y, w) if of_w else None,
                direct.of_bias(gx) if of_b else None,
                None,
                None,
            )
        return (
            conv_transpose(gx, _conj(w), None, ctx.spatial) if of_y else None,
            weight_grad(gx, _conj(y), w.shape[2:], ctx.spatial) if of_w else None,
            channel_sums(gx, w.dim() - 2) if of_b else None,
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, dy: Tensor | None, dw: Tensor | None, db: Tensor | None, *_: None) -> Any:
        """Change of the result when input, weight and bias change."""
        return _tangent(conv, ctx, dy, dw, db)


class WeightGrad(Function):
    """``compute(x, y)``, which is the gradient of the weights with parameters ``s``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, kernel_size: Any, s: Spatial, compute: Compute
    ) -> Tensor:
        """The result, and what its derivatives need."""
        _remember(ctx, x, y, s)
        ctx.kernel_size = kernel_size
        return compute(x, y)

    @staticmethod
    def backward(ctx: Any, gw: Tensor) -> Gradients:
        """Gradients of input and output gradient."""
        x, y = ctx.saved_tensors
        of_x, of_y, *_ = ctx.needs_input_grad
        return (
            conv(_conj(y), gw, None, ctx.spatial) if of_x else None,
            conv_transpose(_conj(x), gw, None, ctx.spatial) if of_y else None,
            None,
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dy: Tensor | None, *_: None) -> Any:
        """Change of the result when input and output gradient change."""
        size, s = ctx.kernel_size, ctx.spatial
        # PyTorch switches this off for functions like this one, and with it all outer levels
        with forward_ad._set_fwd_grad_enabled(True):
            x, y = _primals(ctx)
            change = None if dx is None else weight_grad(dx, y, size, s)
            if dy is None:
                return change
            other = weight_grad(x, dy, size, s)
            return other if change is None else change + other


class ChannelSums(Function):
    """``compute(g)``, which sums every channel."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, rank: int, compute: Compute) -> Tensor:
        """The sums."""
        ctx.shape, ctx.rank = g.shape, rank
        return compute(g)

    @staticmethod
    def backward(ctx: Any, gb: Tensor) -> Gradients:
        """Every element of a channel counts once."""
        return gb.reshape(-1, *(1,) * ctx.rank).expand(ctx.shape), None, None


def channel_sums(g: Tensor, rank: int) -> Tensor:
    """The gradient of the bias: ``g`` summed over all axes but that of the channels."""
    if g.is_complex():
        return torch.complex(channel_sums(g.real, rank), channel_sums(g.imag, rank))
    # PyTorch's own sums to one number depend on the number of threads
    if unwatched() and plain(g) and g.numel():
        compute = prepared_sums(rank, g.shape, g.dtype)
        return recorder(ChannelSums)(g, rank, compute) if g.requires_grad else compute(g)
    axis = g.dim() - rank - 1
    return g.sum([other for other in range(g.dim()) if other != axis])


def _direct(operator: str, x: Tensor, w: Tensor, g: Tensor, s: Spatial) -> Backward | None:
    """What computes the gradients, where all are plain and nobody records them in turn."""
    if torch.is_grad_enabled() or not unwatched():
        return None
    if not (plain(x) and plain(w) and plain(g)) or g.is_complex():
        return None
    if not (x.numel() and g.numel()):
        return None
    return prepared_backward(operator, x.shape, w.shape, g.shape, g.dtype, s)


def _without_gaps(g: Tensor, rank: int) -> Tensor:
    """A gradient that is read several times, copied once where it would be copied every time."""
    if g.is_contiguous() or not plain(g) or is_dense_last(g, rank):
        return g
    return g.contiguous()


def _remember(ctx: Any, first: Tensor, second: Tensor, s: Spatial) -> None:
    ctx.spatial = s
    ctx.save_for_backward(first, second)
    ctx.save_for_forward(first, second)


def _conj(tensor: Tensor) -> Tensor:
    return tensor.conj() if tensor.is_complex() else tensor


def _tangent(
    operator: Callable[[Tensor, Tensor, Tensor | None, Spatial], Tensor],
    ctx: Any,
    dx: Tensor | None,
    dw: Tensor | None,
    db: Tensor | None,
) -> Tensor:
    with forward_ad._set_fwd_grad_enabled(True):
        x, w = _primals(ctx)
        # the bias adds its own change, which either product can carry
        if dx is None:
            return operator(x, torch.zeros_like(w) if dw is None else dw, db, ctx.spatial)
        change = operator(dx, w, db, ctx.spatial)
        return change if dw is None else change + operator(x, dw, None, ctx.spatial)


def _primals(ctx: Any) -> tuple[Tensor, Tensor]:
    """What was saved, without its tangents of this level, so that outer levels see only theirs."""
    first, second = ctx.saved_tensors
    return forward_ad.unpack_dual(first).primal, forward_ad.unpack_dual(second).primal
