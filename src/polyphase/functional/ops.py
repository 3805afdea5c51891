"""The operators as PyTorch knows them: ``torch.ops.polyphase``.

One schema and one fake each; a kernel for the CPU, PyTorch's own operators for other devices;
derivatives, ``vmap`` and autocast. Padding is two lists, ``begin`` and ``end``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, enable_grad
from torch._C import _AutoDispatchBelowAutograd
from torch._functorch.utils import enable_single_level_autograd_function
from torch._prims_common import suggest_memory_format
from torch.autograd import Function
from torch.autograd.forward_ad import _set_fwd_grad_enabled
from torch.library import Library, register_fake, register_vmap

from polyphase.arithmetic.axis import conv_size, transposed_size
from polyphase.functional.arguments import read
from polyphase.functional.tensors import derivatives, elsewhere
from polyphase.functional.tensors.batching import batched_conv, batched_weight_grad
from polyphase.functional.tensors.derivatives import recorder, registered, registered_weights
from polyphase.functional.tensors.native import strides_are_last
from polyphase.functional.tensors.prepared import prepared, prepared_weights
from polyphase.functional.tensors.results import strides
from polyphase.functional.tensors.spatial import Spatial

Kernel = Callable[..., Tensor]

_CONV = "(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] begin, SymInt[] end"
_SCHEMAS = {
    "conv_transpose": f"{_CONV}, SymInt[] output_padding, SymInt[] dilation, SymInt groups)",
    "conv": f"{_CONV}, SymInt[] dilation, SymInt groups)",
    "weight_grad": (
        "(Tensor input, Tensor output, SymInt[] kernel_size, SymInt[] stride, SymInt[] begin, "
        "SymInt[] end, SymInt[] dilation, SymInt groups)"
    ),
}
_FUNCTIONS: dict[str, type[Function]] = {
    "conv_transpose": derivatives.ConvTranspose,
    "conv": derivatives.Conv,
    "weight_grad": derivatives.WeightGrad,
}
_AUTOCAST = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}


def _parameters(*given: Any) -> Spatial:
    """What follows the tensors in a schema."""
    stride, begin, end, *between, dilation, groups = given
    output_padding = between[0] if between else (0,) * len(begin)
    pads = tuple(zip(begin, end, strict=True))
    return Spatial(tuple(stride), pads, tuple(output_padding), tuple(dilation), groups)


def _with_parameters(kernel: Kernel) -> Kernel:
    """``kernel`` on the arguments of its schema: two tensors and what is third, then parameters."""
    return lambda x, w, third, *given: kernel(x, w, third, _parameters(*given))


def _conv_on_cpu(operator: str, x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    rank = w.dim() - 2
    if operator == "conv" and 0 in x.shape[-rank:]:
        # the gradient of an empty result
        y = x.new_zeros(_shape(operator, x, w, s))
        return y if b is None else y + b.reshape(-1, *(1,) * rank)
    shapes = x.shape, w.shape, None if b is None else b.shape
    dtypes = x.dtype, w.dtype, None if b is None else b.dtype
    return prepared(operator, rank, *shapes, *dtypes, *s).compute(x, w, b)


def _weights_on_cpu(x: Tensor, y: Tensor, kernel_size: Any, s: Spatial) -> Tensor:
    if not (x.numel() and y.numel()):
        return x.new_zeros(_weight_shape(x, y, kernel_size, s))
    shapes = x.shape, y.shape
    size = tuple(kernel_size)
    return prepared_weights(len(size), *shapes, x.dtype, y.dtype, size, s)(x, y)


def _conv_fake(operator: str, x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    rank = w.dim() - 2
    _check(operator, rank, x, w, b, s)
    shape = _shape(operator, x, w, s)
    last = x.dim() == rank + 2 and _is_last(x, w)
    return torch.empty_strided(shape, strides(shape, last), dtype=x.dtype, device=x.device)


def _is_last(x: Tensor, w: Tensor) -> bool:
    """Whether a batch of results is channels-last, as ``Layouts`` says it for numbers."""
    if x.dim() == 3:
        return not x.is_contiguous() and strides_are_last(x.shape, x.stride())
    return any(suggest_memory_format(t) is not torch.contiguous_format for t in (x, w))


def _weights_fake(x: Tensor, y: Tensor, kernel_size: Any, s: Spatial) -> Tensor:
    return x.new_empty(_weight_shape(x, y, kernel_size, s))


def _shape(operator: str, x: Tensor, w: Tensor, s: Spatial) -> list[Any]:
    """Shape of the result; its sizes may be symbols."""
    rank = w.dim() - 2
    transposed = operator == "conv_transpose"
    size = transposed_size if transposed else conv_size
    sizes, crops = x.shape[-rank:], s.folded().padding
    axes = zip(sizes, w.shape[2:], s.stride, s.dilation, crops, strict=True)
    channels = w.shape[1] * s.groups if transposed else w.shape[0]
    found = [size(n, k, stride, dilation, a, b) for n, k, stride, dilation, (a, b) in axes]
    return [*x.shape[: -rank - 1], channels, *found]


def _weight_shape(x: Tensor, y: Tensor, kernel_size: Any, s: Spatial) -> list[Any]:
    channels = -len(kernel_size) - 1
    return [x.shape[channels], y.shape[channels] // s.groups, *kernel_size]


def _check(operator: str, rank: int, x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> None:
    """Refuse what a call would refuse, as far as the sizes are numbers and not symbols."""
    shapes = x.shape, w.shape, None if b is None else b.shape
    numbers = (*x.shape, *w.shape, *(n for entry in s[:-1] for n in _flat(entry)))
    if all(type(n) is int for n in numbers) and 0 not in x.shape[-rank:]:
        read(operator, rank, shapes, (x.dtype, w.dtype, None if b is None else b.dtype), *s)


def _flat(entry: Any) -> Any:
    return [n for part in entry for n in (part if isinstance(part, tuple) else (part,))]


def _companion(operator: str, x: Tensor, w: Tensor, s: Spatial) -> Spatial:
    """Parameters of the gradients."""
    if operator == "conv":
        rank = w.dim() - 2
        return s.reaching(_shape(operator, x, w, s)[-rank:], x.shape[-rank:], w.shape[2:])
    return s.folded() if operator == "conv_transpose" else s


def _differentiated(operator: str) -> Kernel:
    """The kernel that records derivatives, and then computes below autograd."""
    op = getattr(torch.ops.polyphase, operator).default
    record = recorder(_FUNCTIONS[operator])

    def kernel(x: Tensor, w: Tensor, third: Any, *given: Any) -> Tensor:
        # where the third argument is a tensor, it comes from the function
        def compute(x: Tensor, w: Tensor, third: Any = third) -> Tensor:
            # for the outer levels of torch.func: a function switches both off
            with enable_grad(), _set_fwd_grad_enabled(True), _AutoDispatchBelowAutograd():
                return op(x, w, third, *given)

        companion = _companion(operator, x, w, _parameters(*given))
        # PyTorch calls this kernel once for each level of torch.func
        with enable_single_level_autograd_function():
            return record(x, w, third, companion, compute)

    return kernel


def _autocast(operator: str, device: str) -> Kernel:
    """The kernel that converts to autocast's dtype what autocast converts."""
    op = getattr(torch.ops.polyphase, operator).default
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _AUTOCAST[device]))

    def kernel(*arguments: Any) -> Tensor:
        dtype = torch.get_autocast_dtype(device)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return op(*(_cast(value, dtype) for value in arguments))

    return kernel


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value if value.dtype is torch.float64 else value.to(dtype)


def _batched(operator: str) -> Callable[..., tuple[Tensor, int]]:
    def kernel(info: Any, places: Any, x: Tensor, w: Tensor, third: Any, *given: Any) -> Any:
        s = _parameters(*given)
        if operator == "weight_grad":
            return batched_weight_grad(registered_weights, places[:2], x, w, third, s), 0
        return batched_conv(partial(registered, operator), places[:3], x, w, third, s), 0

    return kernel


def _register(library: Library, operator: str, cpu: Kernel, other: Kernel, fake: Kernel) -> None:
    tags = (torch.Tag.pt2_compliant_tag,)
    library.define(f"{operator}{_SCHEMAS[operator]} -> Tensor", tags=tags)
    library.impl(operator, _with_parameters(cpu), "CPU")
    library.impl(operator, _with_parameters(other), "CompositeExplicitAutograd")
    library.impl(operator, _differentiated(operator), "Autograd")
    for device, key in _AUTOCAST.items():
        library.impl(operator, _autocast(operator, device), key)
    name = f"polyphase::{operator}"
    register_fake(name, _with_parameters(fake), lib=library)
    register_vmap(name, _batched(operator), lib=library)


# the operators live as long as their library
_library = Library("polyphase", "DEF")
for _name, _other in (("conv_transpose", elsewhere.conv_transpose), ("conv", elsewhere.conv)):
    _register(_library, _name, partial(_conv_on_cpu, _name), _other, partial(_conv_fake, _name))
_register(_library, "weight_grad", _weights_on_cpu, elsewhere.weight_grad, _weights_fake)
