"""The operators over one more axis, for ``torch.vmap``: it becomes a batch, or groups."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from polyphase.functional.tensors.spatial import Spatial

Place = int | None


def batched_conv(
    operator: Callable[[Tensor, Tensor, Tensor | None, Spatial], Tensor],
    places: tuple[Place, Place, Place],
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    s: Spatial,
) -> Tensor:
    """``conv_transpose`` or ``conv`` for each entry of the axes at ``places``, stacked in front."""
    x_place, w_place, b_place = places
    rank = w.dim() - 2 - (w_place is not None)
    unbatched = x.dim() - (x_place is not None) == rank + 1
    count = next(
        t.shape[place]
        for t, place in zip((x, w, b), places, strict=True)
        if t is not None and place is not None
    )
    own_bias = None if b_place is not None else b
    if w_place is not None:
        y = _by_groups(operator, count, x, x_place, w.movedim(w_place, 0), own_bias, s, unbatched)
    elif x_place is None:
        y = operator(x, w, own_bias, s).expand(count, *(-1,) * x.dim())
    else:
        x = x.movedim(x_place, 0)
        y = operator(x if unbatched else x.flatten(0, 1), w, own_bias, s)
        y = y if unbatched else y.unflatten(0, (count, -1))
    if b is None or b_place is None:
        return y
    values = b.movedim(b_place, 0)
    lead = (count,) if unbatched else (count, 1)
    return y + values.reshape(*lead, values.shape[1], *(1,) * rank)


def _by_groups(
    operator: Callable[[Tensor, Tensor, Tensor | None, Spatial], Tensor],
    count: int,
    x: Tensor,
    x_place: Place,
    w: Tensor,
    b: Tensor | None,
    s: Spatial,
    unbatched: bool,
) -> Tensor:
    x = _stacked(x, x_place, count)
    channels = 1 if unbatched else 2
    x = x.movedim(0, channels - 1).flatten(channels - 1, channels)
    b = None if b is None else b.repeat(count)
    y = operator(x, w.flatten(0, 1), b, s._replace(groups=s.groups * count))
    return y.unflatten(channels - 1, (count, -1)).movedim(channels - 1, 0)


def batched_weight_grad(
    weight_grad: Callable[[Tensor, Tensor, Any, Spatial], Tensor],
    places: tuple[Place, Place],
    x: Tensor,
    y: Tensor,
    kernel_size: Any,
    s: Spatial,
) -> Tensor:
    """``weight_grad`` for each entry of the axes at ``places``, stacked in front."""
    x_place, y_place = places
    count = x.shape[x_place] if x_place is not None else y.shape[y_place or 0]
    x, y = _stacked(x, x_place, count), _stacked(y, y_place, count)
    channels = x.dim() - len(kernel_size) - 1
    x, y = (t.movedim(0, channels - 1).flatten(channels - 1, channels) for t in (x, y))
    w = weight_grad(x, y, kernel_size, s._replace(groups=s.groups * count))
    return w.unflatten(0, (count, -1))


def _stacked(tensor: Tensor, place: Place, count: int) -> Tensor:
    if place is None:
        return tensor.expand(count, *tensor.shape)
    return tensor.movedim(place, 0)
