"""Where in a model an operation happens: the layer, its weights, and the size it is asked for."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as torch_modules
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from polyphase.tools.check.loading import own_line
from polyphase.tools.check.walk import Array, Shape


class Names:
    """What a tensor is called, and where we are in the model."""

    def __init__(self, model: Any) -> None:
        self.stack: list[nn.Module] = []
        # the size that the layer which runs now is asked for
        self.asked: Shape = ()
        is_module = isinstance(model, nn.Module)
        self._modules = {id(m): name for name, m in model.named_modules()} if is_module else {}
        self._parameters = {
            id(p): name
            for name, p in (
                [*model.named_parameters(), *model.named_buffers()] if is_module else []
            )
        }

    def of(self, weight: Tensor) -> tuple[str, Callable[[], Array | None]]:
        """Name of the layer that uses this weight, and how to read it."""
        here = self.stack[-1] if self.stack else None
        name = self._modules.get(id(here), "")
        own = self._parameters.get(id(weight), "")
        if isinstance(here, _ConvTransposeNd) and name:
            # two layers may share one weight
            pass
        elif own:
            name = own.removesuffix(".weight")
        elif not isinstance(here, _ConvTransposeNd):
            name = f"{name}.conv_transpose".lstrip(".")
        if name == "weight":
            name = type(here).__name__ if here is not None else name
        if not isinstance(weight, FakeTensor):
            return name or "conv_transpose", lambda: _array(weight)
        return name or "conv_transpose", lambda: _computed(here)

    def place(self, error: Exception) -> str:
        """Where an error was raised: the innermost module, and the line of the user's own code."""
        module = ""
        for frame, _ in traceback.walk_tb(error.__traceback__):
            module = self._modules.get(id(frame.f_locals.get("self")), "") or module
        return ", ".join(filter(None, [f"in {module}" if module else "", own_line(error)]))


@contextmanager
def following(model: Any) -> Iterator[Names]:
    """Follow the calls of modules while the block runs."""
    names = Names(model)

    def enter(module: nn.Module, _: Any) -> None:
        names.stack.append(module)

    def leave(module: nn.Module, *_: Any) -> None:
        while names.stack and names.stack.pop() is not module:
            pass

    handles = [
        torch_modules.register_module_forward_pre_hook(enter),
        torch_modules.register_module_forward_hook(leave, always_call=True),
    ]
    was_training = isinstance(model, nn.Module) and model.training
    modes = {m: m.training for m in model.modules()} if was_training else {}
    if was_training and not isinstance(model, torch.fx.GraphModule):
        model.eval()
    try:
        with _asking(names):
            yield names
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _asking(names: Names) -> Iterator[None]:
    """See every size that a layer is asked for; one out of reach is noted and raises nothing."""

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def output_padding(module: Any, x: Tensor, size: Any, *rest: Any, **given: Any) -> Any:
            if size is None:
                return original(module, x, size, *rest, **given)
            rank = len(module.kernel_size)
            try:
                return original(module, x, size, *rest, **given)
            except ValueError:
                if len(size) not in (rank, x.dim()):
                    raise
                return (0,) * rank
            finally:
                names.asked = tuple(map(int, size))[-rank:]

        return output_padding

    # polyphase's layers have it only where a model has brought them
    ours = getattr(sys.modules.get("polyphase.nn"), "_Layer", None)
    classes: list[Any] = [_ConvTransposeNd, *([ours] if ours else [])]
    before = [cls._output_padding for cls in classes]
    try:
        for cls, original in zip(classes, before, strict=True):
            cls._output_padding = watched(original)
        yield
    finally:
        for cls, original in zip(classes, before, strict=True):
            cls._output_padding = original


def _computed(module: nn.Module | None) -> Array | None:
    """The weights of a module that makes them anew in every call: weight norm, spectral norm."""
    if not isinstance(module, _ConvTransposeNd):
        return None
    with torch.no_grad():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm):
                hook(module, ())
        weight = module.weight
    return None if isinstance(weight, FakeTensor) else _array(weight)


def _array(weight: Tensor) -> Array | None:
    if isinstance(weight, FakeTensor) or weight.is_meta:
        return None
    plain = weight.detach().cpu()
    return (plain if plain.is_complex() else plain.float()).numpy()
