"""Complex transposed convolutions as one call; PyTorch makes three real ones of each."""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from polyphase import functional as ours

AS_ONE = {
    functional.conv_transpose1d: ours.conv_transpose1d,
    functional.conv_transpose2d: ours.conv_transpose2d,
    functional.conv_transpose3d: ours.conv_transpose3d,
}


class ComplexAsOne(TorchFunctionMode):
    """Gives complex calls of PyTorch's function to polyphase's, which is one operator.

    >>> x, weight = torch.ones(1, 1, 2, dtype=torch.complex64), torch.ones(1, 1, 2)
    >>> with ComplexAsOne():
    ...     functional.conv_transpose1d(x, weight.to(x.dtype), stride=2).shape
    torch.Size([1, 1, 4])
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in AS_ONE and args and isinstance(args[0], torch.Tensor) and args[0].is_complex():
            func = AS_ONE[func]
        return func(*args, **(kwargs or {}))
