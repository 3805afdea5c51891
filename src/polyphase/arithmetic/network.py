"""Sizes through a whole network with skip connections, and what makes the skips fit."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Self

from polyphase.arithmetic.layers import KINDS, ConvTranspose, Layer, SkipIn, SkipOut
from polyphase.arithmetic.mend import (
    TRIALS,
    Budget,
    Fitting,
    InputPadding,
    OutputPaddings,
    Track,
    by_input_padding,
    by_output_paddings,
)
from polyphase.arithmetic.values import PerAxis, at_least, entries, plain, whole
from polyphase.errors import GeometryError, OutputSizeError


@dataclass(frozen=True, slots=True)
class Row:
    """One layer of a report: the sizes before and after it, and that of the skip that comes in."""

    layer: Layer
    before: tuple[int, ...]
    after: tuple[int, ...]
    skip: tuple[int, ...] | None = None

    @property
    def short(self) -> tuple[int, ...]:
        """How much the size falls short of the skip, per axis; negative where it is longer."""
        return tuple(b - a for a, b in zip(self.after, self.skip or self.after, strict=True))

    @property
    def fits(self) -> bool:
        """Whether the skip has the size that it meets; true for every other layer."""
        return not any(self.short)


@dataclass(frozen=True, slots=True)
class Report:
    """Every size of a network for one input size, the skips that do not fit, and what mends them.

    Behind a skip that does not fit, sizes go on as they arrived, as if the skip were cropped.
    Each proposal mends all skips by itself: ``output_paddings`` for this input size, or
    ``input_padding`` with the layers as they are. Where neither can, ``together`` has both, the
    output paddings for the padded input; it is not looked for where a skip grows unlike what it
    meets. ``fitting`` says per axis which input sizes fit at all,
    ``None`` where that is not known. ``stopped`` says so where a search was broken off. Of a
    network that fits, all of these are ``None`` or empty.

    ``str(report)`` is a table with the proposals below; :meth:`to_dict` is plain data for JSON.
    """

    input_size: tuple[int, ...]
    rows: tuple[Row, ...]
    output_paddings: OutputPaddings | None = None
    input_padding: InputPadding | None = None
    together: tuple[InputPadding, OutputPaddings] | None = None
    fitting: tuple[Fitting | None, ...] = ()
    stopped: str | None = None

    @property
    def output_size(self) -> Any:
        """Size after the last layer."""
        return plain(self.rows[-1].after)

    @property
    def misfits(self) -> tuple[Row, ...]:
        """The skips that do not fit."""
        return tuple(row for row in self.rows if not row.fits)

    @property
    def fits(self) -> bool:
        """Whether every skip fits."""
        return not self.misfits

    def to_dict(self) -> dict[str, Any]:
        """Plain data: dicts, tuples, ints, text, ``None``."""
        data = asdict(self)
        for row, entry in zip(self.rows, data["rows"], strict=True):
            entry |= {"layer": row.layer.name, "kind": row.layer.kind, "short": row.short}
        if self.together is not None:
            padding, outputs = data["together"]
            data["together"] = {"input_padding": padding, "output_paddings": outputs}
        return {**data, "output_size": self.rows[-1].after, "fits": self.fits}

    def __str__(self) -> str:
        """The table, and what mends the skips that do not fit."""
        cells = [
            (row.layer.name, row.layer.kind, _by(row.before), _by(row.after), _remark(row))
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, *self._proposals()])

    def _proposals(self) -> list[str]:
        meetings = sum(row.skip is not None for row in self.rows)
        if self.fits:
            return ["every skip fits"] if meetings else []
        lines = [f"{len(self.misfits)} of {meetings} skips do not fit"]
        if self.output_paddings is not None:
            lines += ["give the transposed layers these sizes:", str(self.output_paddings)]
        if self.input_padding is not None:
            alternative = "or " if self.output_paddings else ""
            lines += [f"{alternative}pad the input:", str(self.input_padding)]
        if self.together is not None:
            padding, outputs = self.together
            lines += ["pad the input:", str(padding)]
            lines += ["and give the transposed layers these sizes:", str(outputs)]
        if self.stopped is not None:
            lines.append(self.stopped)
        elif not (self.output_paddings or self.input_padding or self.together):
            lines.append("neither output_padding nor a larger input mends that: crop the skips")
        for fitting in dict.fromkeys(self.fitting):
            axes = [str(i) for i, other in enumerate(self.fitting) if other == fitting]
            where = "" if len(axes) == len(self.fitting) else f" on axis {' and '.join(axes)}"
            if fitting is not None:
                lines.append(f"the layers fit as they are{where} for {fitting}")
        return lines


@dataclass(frozen=True, init=False, slots=True)
class Network:
    """A chain of layers, with skips that go out at one place and come in at a later one.

    The layers are in :mod:`polyphase.arithmetic.layers`; int parameters serve every axis of
    whatever input size is asked about.

    >>> from polyphase.arithmetic.layers import ConvTranspose, Pool, SkipIn, SkipOut
    >>> network = Network(
    ...     [SkipOut("top"), Pool("pool", 2), ConvTranspose("up", 2, stride=2), SkipIn("top")]
    ... )
    >>> print(network.report(31))
    top   skip_out        31  31
    pool  pool            31  15
    up    conv_transpose  15  30
    top   skip_in         30  30  skip 31, short by 1
    1 of 1 skips do not fit
    give the transposed layers these sizes:
      up  output_size=31  output_padding=1
    or pad the input:
      to 32: 0 before and 1 after
    the layers fit as they are for multiples of 2

    Raises :class:`~polyphase.GeometryError` for names that are not unique, and for a skip that
    comes in before it goes out; ``TypeError`` for what is no layer.
    """

    layers: tuple[Layer, ...]

    def __init__(self, layers: Iterable[Layer]) -> None:
        object.__setattr__(self, "layers", tuple(layers))
        if not self.layers:
            raise GeometryError("a network needs at least one layer, got none")
        names: set[str] = set()
        stored: set[str] = set()
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"a layer is one of {', '.join(_kinds())}, got {layer!r}")
            if isinstance(layer, SkipIn):
                if layer.name not in stored:
                    raise GeometryError(
                        f"skip {layer.name!r} comes in before it goes out; "
                        f"out so far: {', '.join(map(repr, sorted(stored))) or 'none'}"
                    )
                continue
            taken = stored if isinstance(layer, SkipOut) else names
            if layer.name in taken:
                raise GeometryError(f"two layers are called {layer.name!r}: names must be unique")
            taken.add(layer.name)

    @classmethod
    def from_dicts(cls, layers: Iterable[Mapping[str, Any]]) -> Self:
        """The network that dicts describe, each with ``kind``, ``name`` and the parameters.

        >>> Network.from_dicts([{"kind": "pool", "name": "p", "kernel_size": 2}]).output_size(7)
        3
        """
        return cls(_read(layer) for layer in layers)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data that :meth:`from_dicts` reads.

        >>> from polyphase.arithmetic.layers import SkipOut
        >>> Network([SkipOut("top")]).to_dicts()
        [{'kind': 'skip_out', 'name': 'top'}]
        """
        return [{"kind": layer.kind, **asdict(layer)} for layer in self.layers]

    def output_size(self, input_size: PerAxis) -> Any:
        """Size after the last layer; an int for one axis, a tuple for several.

        >>> from polyphase.arithmetic.layers import Conv
        >>> Network([Conv("down", 3, stride=2, padding=1)]).output_size((11, 12))
        (6, 6)
        """
        size, tracks = self._tracks(input_size)
        return plain(self._rows(size, tracks)[-1].after)

    def report(self, input_size: PerAxis) -> Report:
        """Every size for this input size, the skips that do not fit, and what mends them.

        Raises :class:`~polyphase.OutputSizeError` where the input is too small for a layer.
        """
        size, tracks = self._tracks(input_size)
        rows = self._rows(size, tracks)
        if all(row.fits for row in rows):
            return Report(size, rows)
        budget = Budget()
        outputs = by_output_paddings(tracks, size, budget)
        padding = by_input_padding(tracks, size, budget)
        together = None
        if outputs is None and padding is None:
            both = by_input_padding(tracks, size, budget, output_paddings=True)
            mends = both and by_output_paddings(tracks, both.input_size, Budget())
            together = (both, mends) if both and mends else None
        # a proposal is made only after the sizes it leads to were computed
        assert outputs is None or self.mended(outputs)._fits(size)
        assert padding is None or self._fits(padding.input_size)
        assert together is None or self.mended(together[1])._fits(together[0].input_size)
        return Report(
            size,
            rows,
            outputs,
            padding,
            together,
            tuple(track.fitting() for track in tracks),
            f"the search stopped after {TRIALS} sizes" if budget.is_exhausted else None,
        )

    def _fits(self, size: tuple[int, ...]) -> bool:
        return all(row.fits for row in self._rows(*self._tracks(size)))

    def mended(self, proposal: OutputPaddings) -> Self:
        """The network with the output paddings of a proposal.

        >>> from polyphase.arithmetic.layers import Conv, ConvTranspose, SkipIn, SkipOut
        >>> down, up = Conv("down", 2, stride=2), ConvTranspose("up", 2, stride=2)
        >>> network = Network([SkipOut("top"), down, up, SkipIn("top")])
        >>> network.mended(network.report(31).output_paddings).report(31).fits
        True
        """
        wanted = {layer.name: plain(layer.output_padding) for layer in proposal.layers}
        return type(self)(
            replace(layer, output_padding=wanted[layer.name])
            if isinstance(layer, ConvTranspose)
            else layer
            for layer in self.layers
        )

    def _tracks(self, input_size: PerAxis) -> tuple[tuple[int, ...], tuple[Track, ...]]:
        found = entries("input_size", input_size)
        size = tuple(whole("input_size", n) for n in ((input_size,) if found is None else found))
        if not size:
            raise GeometryError(f"input_size must have at least one axis, got {input_size!r}")
        at_least("input_size", size, 1)
        by_layer = [layer.steps(len(size)) for layer in self.layers]
        return size, tuple(Track(self.layers, steps) for steps in zip(*by_layer, strict=True))

    def _rows(self, size: tuple[int, ...], tracks: tuple[Track, ...]) -> tuple[Row, ...]:
        rows: list[Row] = []
        stored: dict[str, tuple[int, ...]] = {}
        for i, layer in enumerate(self.layers):
            before = rows[-1].after if rows else size
            after = tuple(track.steps[i].size(n) for track, n in zip(tracks, before, strict=True))
            if min(after) < 1:
                raise OutputSizeError(
                    f"layer {layer.name!r} has no output for size {plain(before)}; "
                    f"{_advice(size, tracks)}"
                )
            skip = stored[layer.name] if isinstance(layer, SkipIn) else None
            rows.append(Row(layer, before, after, skip))
            if isinstance(layer, SkipOut):
                stored[layer.name] = after
        return tuple(rows)


def _advice(size: tuple[int, ...], tracks: tuple[Track, ...]) -> str:
    least = [track.smallest_input() for track in tracks]
    if None in least:
        return f"no larger input than {plain(size)} helps: change the layer"
    return f"the input must be at least {plain(tuple(least))}, got {plain(size)}"


def _read(data: Mapping[str, Any]) -> Layer:
    if not isinstance(data, Mapping):
        raise TypeError(f"a layer is written as a dict, got {data!r}")
    values = dict(data)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise GeometryError(f"kind must be one of {', '.join(KINDS)}, got {kind!r} in {data!r}")
    allowed = {field.name: field.default is MISSING for field in fields(KINDS[kind])}
    required = [name for name, is_required in allowed.items() if is_required]
    if not set(required) <= set(values) <= set(allowed):
        raise GeometryError(
            f"a {kind} layer has {', '.join(allowed)}, of which {' and '.join(required)} must be "
            f"given, got {data!r}"
        )
    layer: Layer = KINDS[kind](**values)
    return layer


def _kinds() -> list[str]:
    return [kind.__name__ for kind in KINDS.values()]


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _remark(row: Row) -> str:
    if row.skip is None or row.fits:
        return ""
    if min(row.short) < 0 < max(row.short):
        return f"skip {_by(row.skip)}"
    word = "short" if max(row.short) > 0 else "long"
    return f"skip {_by(row.skip)}, {word} by {_by(tuple(map(abs, row.short)))}"
