"""The parameter sets that reach a size, as data."""

from dataclasses import dataclass
from typing import Any

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.solve import solve
from polyphase.arithmetic.values import plain
from polyphase.errors import GeometryError
from polyphase.tools.sizes import parameters


@dataclass(frozen=True, slots=True)
class Solutions:
    """Parameter sets that map each input size to its output size, best first.

    ``is_full`` where as many as were asked for were found, so that there may be more; ``stopped``
    says where the search was broken off, ``None`` if it looked at everything.
    """

    input_sizes: list[tuple[int, ...]]
    output_sizes: list[tuple[int, ...]]
    geometries: list[Geometry]
    is_full: bool
    stopped: str | None

    def as_data(self) -> dict[str, Any]:
        """The solutions in dicts, lists, ints and strings, ready for JSON."""
        inputs, outputs = map(_sizes, (self.input_sizes, self.output_sizes))
        return {
            "input_size": inputs,
            "output_size": outputs,
            "solutions": [
                parameters(geometry) | {"even": geometry.is_uniform} for geometry in self.geometries
            ],
            "stopped": self.stopped,
        }


def solutions(
    input_sizes: list[tuple[int, ...]],
    output_sizes: list[tuple[int, ...]],
    freedom: dict[str, Any],
    limit: int,
) -> Solutions:
    """Parameter sets within a freedom; several sizes are served by one set.

    >>> found = solutions([(7,)], [(16,)], {"stride": [2]}, limit=2).as_data()
    >>> [(each["kernel_size"], each["padding"]) for each in found["solutions"]]
    [(4, 0), (6, 1)]

    Raises :class:`~polyphase.OutputSizeError` where nothing within the freedom reaches the sizes,
    :class:`~polyphase.GeometryError` for sizes that do not go together.
    """
    if len(input_sizes) != len(output_sizes):
        raise GeometryError(
            f"every input size needs its output size, got {len(input_sizes)} and "
            f"{len(output_sizes)} sizes"
        )
    ranks = len(input_sizes[0]), len(output_sizes[0])
    if ranks[0] != ranks[1]:
        raise GeometryError(
            f"input and output need the same number of axes, got {ranks[0]} and {ranks[1]}"
        )
    found = solve(_sizes(input_sizes), _sizes(output_sizes), **freedom, limit=limit)
    return Solutions(input_sizes, output_sizes, list(found), len(found) == limit, found.stopped)


def _sizes(sizes: list[tuple[int, ...]]) -> Any:
    found = [plain(size) for size in sizes]
    return found[0] if len(found) == 1 else found
