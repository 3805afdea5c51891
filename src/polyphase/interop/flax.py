"""Flax: ``flax.nnx.ConvTranspose`` and ``flax.linen.ConvTranspose``, on ``jax.lax``.

``padding`` in numbers pads the input, as in JAX: PyTorch's ``p`` is ``dilation*(kernel_size-1) -
p``. ``CIRCULAR`` wraps the result around its ends, which is no crop of it.
"""

from collections.abc import Sequence
from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import PerAxis, entries
from polyphase.errors import GeometryError, Unsupported
from polyphase.interop import jax
from polyphase.interop.convention import Convention, Crop, Meaning, Rule, columns, frame, per_axis
from polyphase.interop.exact import exactly

CONVENTION = Convention(
    name="flax",
    title="Flax",
    call="flax.nnx.ConvTranspose(in_features, out_features, {}, rngs=rngs)",
    bias=("rngs=rngs", "use_bias=False, rngs=rngs"),
    applied="(x)",
    layout=jax.LAYOUT,
    rules=(
        Rule("SAME", "max(e - s, 0)//2", "e - s - a"),
        Rule("VALID", "0", "e - max(e, s)"),
        Rule("(lo, hi)", "e - 1 - lo", "e - 1 - hi"),
    ),
    names={
        "kernel_size": "kernel_size",
        "stride": "strides",
        "padding": "padding",
        "dilation": "kernel_dilation",
    },
    defaults={"strides": 1, "padding": "SAME", "kernel_dilation": 1},
    channels_last=True,
    checked="flax 0.12",
    source="`flax/nnx/nn/linear.py`",
    trap="An int or pairs pad the input. `CIRCULAR` has no equivalent. With "
    "`transpose_kernel=True` the weights are those of Keras.",
)


def geometry(
    kernel_size: PerAxis,
    strides: PerAxis | None = None,
    padding: str | int | Sequence[int | Crop] = "SAME",
    kernel_dilation: PerAxis | None = None,
    *,
    transpose_kernel: bool = False,
) -> Meaning:
    """What the arguments mean.

    >>> geometry((4,), 2, padding=2).geometry.crops
    ((1, 1),)

    Raises :class:`~polyphase.Unsupported` for ``"CIRCULAR"``.
    """
    around = frame(kernel_size, 1 if strides is None else strides, kernel_dilation or 1)
    if padding == "CIRCULAR":
        raise Unsupported(
            "padding 'CIRCULAR' wraps the result around, which no geometry describes; compute with "
            "padding 'VALID' and add the parts beyond the period to the beginning"
        )
    if not isinstance(padding, str):
        padding = _pairs(padding, around.rank)
    elif padding not in ("SAME", "VALID"):
        raise GeometryError(
            f"padding must be 'SAME', 'VALID', 'CIRCULAR', an int or pairs, got {padding!r}"
        )
    return jax.geometry(
        around.kernel_size,
        around.stride,
        padding,
        around.dilation,
        transpose_kernel=transpose_kernel,
    )


def parameters(geometry: Geometry, groups: int = 1) -> dict[str, Any]:
    """The arguments that mean this geometry.

    >>> parameters(Geometry(4, stride=2, padding=1))
    {'kernel_size': (4,), 'strides': (2,), 'padding': 'SAME', 'kernel_dilation': (1,)}

    Raises :class:`~polyphase.interop.NoExactCall` where JAX's ``parameters`` does.
    """
    return exactly(CONVENTION, _express, geometry, groups)


def _pairs(padding: int | Sequence[int | Crop], rank: int) -> list[Crop]:
    found = entries("padding", padding)
    given = (padding,) * rank if found is None else found
    pairs = [per_axis("a padding pair", entry, 2) for entry in given]
    return [(low, high) for low, high in pairs]


def _express(geometry: Geometry, groups: int) -> dict[str, Any] | str:
    wrong = jax.fault(geometry)
    if wrong:
        return wrong
    kernel, stride, dilation = columns(geometry)
    return {
        "kernel_size": kernel,
        "strides": stride,
        "padding": jax.padding_of(geometry),
        "kernel_dilation": dilation,
    }
