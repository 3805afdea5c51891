"""Models that exist already: their transposed layers run on polyphase, and back again.

A layer stays the same object and only its class changes, as PyTorch's lazy and parametrized layers
change theirs; so parameters, hooks, optimizers and every reference to the layer stay as they are.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch.nn import Module
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from polyphase import functional, nn

Report = Callable[[str], object]
Model = TypeVar("Model", bound=Module)

log = logging.getLogger("polyphase")

_OURS = {getattr(torch.nn, name): getattr(nn, name) for name in nn.__all__}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_LAYERS = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
# what the call of a layer consists of: who changes a part of it may compute something else
_CALL = ("__call__", "_call_impl", "forward", "_output_padding", "__getattr__")
# set on a layer that was accelerated, so that only those are restored
_MARK = "_accelerated"
_ROUTES = {
    getattr(torch, name): getattr(functional, name)
    for name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
}


def accelerate(model: Model, report: Report | None = None) -> Model:
    """Let every ``torch.nn.ConvTranspose1d`` to ``3d`` inside a model run on polyphase.

    The model is changed in place and returned. Parametrized layers (``weight_norm``,
    ``spectral_norm``) and subclasses are included where their call is PyTorch's own; others are
    left as they are and named. ``report`` receives a line for each layer and one at the end;
    without it they go to the logger ``polyphase``, layers that are left as warnings.

    >>> model = torch.nn.Sequential(torch.nn.ConvTranspose2d(8, 4, 2, 2), torch.nn.ReLU())
    >>> model = accelerate(model, report=print)
    0: ConvTranspose2d(8, 4, kernel_size=(2, 2), stride=(2, 2)) runs on polyphase
    1 of 1 transposed layers runs on polyphase

    Raises ``TypeError`` for what is no ``torch.nn.Module``, and for a report that is no function.
    """
    _check_model(model)
    if report is not None and not callable(report):
        raise TypeError(
            f"report must be a function of one line of text, such as print, or None, got {report!r}"
        )
    done = found = 0
    for name, layer in model.named_modules():
        if not isinstance(layer, _LAYERS):
            continue
        found += 1
        told = f"{name or 'the model itself'}: {type(layer).__name__}({layer.extra_repr()})"
        obstacle = _obstacle(layer)
        if obstacle:
            (report or log.warning)(f"{told} is left as it is: {obstacle}")
            continue
        if not _runs_on_polyphase(layer):
            layer.__class__ = _swapped(type(layer), is_parametrized(layer))
            setattr(layer, _MARK, True)
        (report or log.info)(f"{told} runs on polyphase")
        done += 1
    are = "runs" if done == 1 else "run"
    (report or log.info)(f"{done} of {found} transposed layers {are} on polyphase")
    return model


def restore(model: Model) -> Model:
    """Give layers that :func:`accelerate` changed their own class back; the model is returned.

    Layers that were made as polyphase's stay what they are.

    >>> model = accelerate(torch.nn.Sequential(torch.nn.ConvTranspose2d(8, 4, 2, 2)))
    >>> type(restore(model)[0]) is torch.nn.ConvTranspose2d
    True

    Raises ``TypeError`` for what is no ``torch.nn.Module``.
    """
    _check_model(model)
    for layer in model.modules():
        if vars(layer).pop(_MARK, False):
            layer.__class__ = _restored(type(layer), is_parametrized(layer))
    return model


class enabled(TorchFunctionMode):  # noqa: N801
    """Within ``with enabled():`` PyTorch's transposed convolutions run on polyphase.

    For code that cannot be changed: it covers ``torch.nn.functional.conv_transpose1d`` to ``3d``
    and all that calls them, such as ``torch.nn.ConvTranspose2d``, in this thread. Every other
    function of PyTorch takes about a microsecond longer meanwhile, which :func:`accelerate` avoids.

    >>> layer = torch.nn.ConvTranspose2d(8, 4, kernel_size=2, stride=2)
    >>> with enabled():
    ...     y = layer(torch.zeros(1, 8, 5, 5))
    >>> tuple(y.shape)
    (1, 4, 10, 10)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by PyTorch for each of its functions."""
        return _ROUTES.get(func, func)(*args, **(kwargs or {}))


def _check_model(model: object) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def _runs_on_polyphase(layer: Module) -> bool:
    return isinstance(layer, tuple(_THEIRS))


def _obstacle(layer: Module) -> str | None:
    """Why a layer may compute something else than its class from PyTorch does."""
    if _runs_on_polyphase(layer):
        return None
    [base] = [kind for kind in _LAYERS if isinstance(layer, kind)]
    for name in _CALL:
        if name in vars(layer):
            return f"{name} was replaced on the layer itself"
        if getattr(type(layer), name) is not getattr(base, name):
            return f"its class has a {name} of its own"
    return None


def _swapped(kind: type, parametrized: bool = False) -> type:
    """The class that computes on polyphase and is ``kind`` in all else."""
    if kind in _OURS:
        return _OURS[kind]
    return _rebased(kind, _swapped) if parametrized else _joined(kind)


def _restored(kind: type, parametrized: bool = False) -> type:
    if kind in _THEIRS:
        return _THEIRS[kind]
    if parametrized:
        return _rebased(kind, _restored)
    original: type = kind.__bases__[0]
    return original


def _rebased(kind: type, swap: Callable[[type], type]) -> type:
    """A parametrized class, which PyTorch makes for each layer, on another base."""
    [base] = kind.__bases__
    own = {
        name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")
    }
    return type(kind.__name__, (swap(base),), own)


@cache
def _joined(kind: type) -> type:
    """A subclass of PyTorch's layer, with polyphase between itself and that layer."""
    ours = next(_OURS[base] for base in kind.__mro__ if base in _OURS)
    own = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        # pickle looks classes up by name, and would find the one that this stands for
        "__reduce__": lambda layer: (_remake, (kind,), layer.__getstate__()),
    }
    return type(kind.__name__, (kind, ours), own)


def _remake(kind: type) -> Module:
    """An empty layer of the class that stands for ``kind``, for pickle to fill."""
    layer: Module = object.__new__(_joined(kind))
    return layer
