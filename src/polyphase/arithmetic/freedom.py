"""Reading of the solver's arguments: what each axis must reach, and what it may use for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from polyphase.arithmetic.search import Freedom
from polyphase.arithmetic.values import at_least, has_entries, pad_pair, whole
from polyphase.errors import GeometryError, OutputSizeError

# values read from one iterable of allowed values, which may have no end
VALUES = 4096

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Task:
    """One axis: the (input, output) sizes to serve, and the allowed parameters.

    ``stride`` is the one that several inputs fix. ``unread`` names the parameters of whose allowed
    values only the first :data:`VALUES` were read.
    """

    pairs: tuple[Pair, ...]
    stride: int | None
    freedom: Freedom
    unread: tuple[str, ...]

    @property
    def narrowed(self) -> Freedom | None:
        """The freedom with the stride that several inputs fix; ``None`` if that is not allowed."""
        allowed = self.freedom.stride
        if self.stride is None:
            return self.freedom
        if allowed is not None and self.stride not in allowed:
            return None
        return replace(self.freedom, stride=(self.stride,))

    @property
    def is_fixed(self) -> bool:
        """Whether every parameter but output padding has one value."""
        f = self.freedom
        given = (f.kernel_size, f.stride, f.padding, f.dilation)
        return all(values is not None and len(values) == 1 for values in given)


def read_tasks(input_size: Any, output_size: Any, allowed: dict[str, Any]) -> list[Task]:
    """One task per axis."""
    sizes, per_axis = _read_sizes(input_size, output_size)
    rank = len(sizes)
    columns = {name: _by_axis(name, value, rank, per_axis) for name, value in allowed.items()}
    tasks = []
    for i, pairs in enumerate(sizes):
        read = {name: column[i] for name, column in columns.items()}
        unread = tuple(name for name, values in read.items() if values and len(values) > VALUES)
        freedom = Freedom(
            **{name: values and _ascending(values[:VALUES]) for name, values in read.items()}
        )
        _check_output_padding(freedom)
        stride = _common_stride(pairs, f" on axis {i}" if rank > 1 else "")
        tasks.append(Task(pairs, stride, freedom, unread))
    return tasks


def _read_sizes(input_size: Any, output_size: Any) -> tuple[list[tuple[Pair, ...]], bool]:
    """The pairs of each axis, and whether the sizes were tuples."""
    several = isinstance(input_size, list)
    if several != isinstance(output_size, list):
        raise TypeError(
            "input_size and output_size must both be lists (several inputs for one geometry) or "
            f"both be ints or tuples, got {input_size!r} and {output_size!r}"
        )
    inputs, outputs = (input_size, output_size) if several else ([input_size], [output_size])
    if len(inputs) != len(outputs) or not inputs:
        raise GeometryError(
            "input_size and output_size must list equally many sizes, at least one, "
            f"got {len(inputs)} and {len(outputs)}"
        )
    ranks = {len(n) if isinstance(n, tuple) else None for n in (*inputs, *outputs)}
    if len(ranks) > 1 or 0 in ranks:
        raise GeometryError(
            "every input_size and output_size must be an int, or a tuple with the same number of "
            f"axes, got {input_size!r} and {output_size!r}"
        )
    per_axis = None not in ranks
    checked = [
        list(zip(_sizes("input_size", n), _sizes("output_size", target), strict=True))
        for n, target in zip(inputs, outputs, strict=True)
    ]
    return list(zip(*checked, strict=True)), per_axis


def _sizes(name: str, size: Any) -> tuple[int, ...]:
    values = tuple(whole(name, v) for v in (size if isinstance(size, tuple) else (size,)))
    at_least(name, values, 1)
    return values


def _by_axis(name: str, value: Any, rank: int, per_axis: bool) -> Sequence[tuple[Any, ...] | None]:
    """The allowed values of one parameter on each axis, ``None`` where it is free."""
    if not (per_axis and isinstance(value, tuple)):
        return [_values(name, value)] * rank
    if len(value) != rank:
        raise GeometryError(
            f"a tuple for {name} must have {rank} entries, one per axis, got {value!r}; "
            "allowed values that serve every axis are written as a list"
        )
    # inside, a tuple is one (begin, end) pair of padding
    return [
        (_value(name, entry),)
        if name == "padding" and isinstance(entry, tuple)
        else _values(name, entry)
        for entry in value
    ]


def _values(name: str, value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    if not has_entries(value):
        return (_value(name, value),)
    found = tuple(dict.fromkeys(_value(name, entry) for entry in islice(value, VALUES + 1)))
    if not found:
        raise GeometryError(f"{name} must allow at least one value, got {value!r}")
    return found


def _ascending(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(values, key=lambda v: (sum(v), v) if isinstance(v, tuple) else v))


def _value(name: str, value: Any) -> Any:
    if name == "padding":
        return pad_pair(value)
    number = whole(name, value)
    at_least(name, (number,), 0 if name == "output_padding" else 1)
    return number


def _check_output_padding(freedom: Freedom) -> None:
    s, d, op = freedom.stride, freedom.dilation, freedom.output_padding
    if s is not None and d is not None and op is not None and op[0] >= max(*s, *d):
        raise GeometryError(
            f"output_padding must be smaller than stride or dilation, got output_padding {op[0]} "
            f"with stride up to {s[-1]} and dilation up to {d[-1]}: 0 to {max(*s, *d) - 1} are "
            "allowed"
        )


def _common_stride(pairs: Sequence[Pair], where: str) -> int | None:
    """The stride that all pairs ask for, ``None`` for a single pair."""
    n, target = min(pairs)
    rest = [pair for pair in pairs if pair != (n, target)]
    for m, other in rest:
        if m == n:
            raise OutputSizeError(
                f"input_size {n} cannot give both {target} and {other}{where}: "
                "one geometry has one output size for each input size"
            )
    if not rest:
        return None
    m, other = rest[0]
    stride = max(1, (other - target) // (m - n))
    if any(out - target != stride * (size - n) for size, out in rest):
        inputs = [size for size, _ in pairs]
        offers = [[target + s * (size - n) for size in inputs] for s in (stride, stride + 1)]
        raise OutputSizeError(
            f"input sizes {inputs} cannot give {[out for _, out in pairs]}{where} with one "
            "geometry: each further input adds one stride of outputs; "
            f"stride={stride} could give {offers[0]}, stride={stride + 1} {offers[1]}"
        )
    return stride
