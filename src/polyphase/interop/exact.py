"""The way into a framework: its own parameters, or a refusal that says what to write instead."""

from collections.abc import Callable
from typing import Any, NamedTuple

from polyphase.arithmetic.axis import extent
from polyphase.arithmetic.geometry import Geometry
from polyphase.errors import Unsupported
from polyphase.interop.convention import (
    Convention,
    Crop,
    checked_groups,
    columns,
    effective_dilation,
)

Parameters = dict[str, Any]
# the framework's parameters for a geometry and groups, or a sentence that says why there are none
Express = Callable[[Geometry, int], Parameters | str]


class Instead(NamedTuple):
    """What gives exactly the same numbers where no single call does.

    Call the framework with ``parameters``, without a bias where ``crop`` has a negative entry. Add
    as many zeros as the negative entries of ``crop`` say, remove as much as the positive ones say,
    and add the bias last. With ``spread_taps`` the call has dilation 1
    and takes the weights with zeros between the taps (:func:`polyphase.interop.spread_taps`). With
    ``per_group`` it is one call for each group, on its share of the input channels, of the weights
    and of the bias; the results are joined along the channels.
    """

    parameters: Parameters
    crop: tuple[Crop, ...]
    spread_taps: bool
    per_group: bool

    def steps(self, convention: Convention, groups: int) -> list[str]:
        """The instruction, one line for each step; those with ``y =`` are code of the framework."""
        rank, told = len(self.crop), []
        if self.per_group:
            told.append("for each group of channels, on its share of input, weights and bias:")
        if self.spread_taps:
            told.append("put zeros between the taps of the weights")
        added = [(max(-begin, 0), max(-end, 0)) for begin, end in self.crop]
        taken = [(max(begin, 0), max(end, 0)) for begin, end in self.crop]
        grows = any(map(any, added))
        together = 1 if self.per_group else groups
        call = convention.written(self.parameters, rank, together, bias=not grows)
        told.append(f"{convention.result}{call}{convention.applied}")
        if grows:
            told.append(f"add zeros at the two ends of the spatial axes: {_ends(added)}")
        if any(map(any, taken)):
            told.append(
                f"y = y[{_slices(taken, convention.channels_last)}]"
                if convention.slices
                else f"remove from the two ends of the spatial axes: {_ends(taken)}"
            )
        if grows:
            told.append("add the bias")
        if self.per_group:
            told.append("join the results along the channels")
        return told


def _ends(pairs: list[Crop]) -> str:
    return ", ".join(f"{begin} and {end}" for begin, end in pairs)


def _slices(taken: list[Crop], channels_last: bool) -> str:
    """One slice for each axis; channels that come last need none."""
    spatial = [f"{begin or ''}:{-end if end else ''}" for begin, end in taken]
    return ", ".join([":", *spatial] if channels_last else [":", ":", *spatial])


class NoExactCall(Unsupported):
    """No single call of the framework means exactly this; ``instead`` says what does, if anything.

    >>> from polyphase import Geometry, interop
    >>> try:
    ...     interop.keras.parameters(Geometry(3, stride=2, padding=1, output_padding=1))
    ... except interop.NoExactCall as error:
    ...     print(error.instead.parameters["padding"], error.instead.crop)
    valid ((1, 0),)
    """

    def __init__(
        self, convention: Convention, reason: str, instead: Instead | None, groups: int
    ) -> None:
        self.framework = convention.name
        self.reason = reason
        self.instead = instead
        self.steps = instead.steps(convention, groups) if instead else []
        exact = f"; exact instead: {'; '.join(self.steps)}" if instead else ""
        super().__init__(f"{convention.title} has no exact call for this: {reason}{exact}")


def exactly(
    convention: Convention, express: Express, geometry: Geometry, groups: int = 1
) -> Parameters:
    """The parameters that ``express`` finds, or :class:`NoExactCall`."""
    if not isinstance(geometry, Geometry):
        raise TypeError(f"geometry must be a polyphase.Geometry, got {geometry!r}")
    groups = checked_groups("groups", groups)

    def find(wanted: Geometry, groups: int) -> Parameters | str:
        if wanted.rank not in convention.ranks:
            return _no_such_rank(wanted.rank, convention.ranks)
        if groups > 1 and not (convention.groups and wanted.rank in convention.grouped_ranks):
            return f"it has {groups} groups, and the call knows none"
        return express(wanted, groups)

    found = find(geometry, groups)
    if isinstance(found, dict):
        return found
    raise NoExactCall(convention, found, _instead(find, geometry, groups), groups)


def _instead(express: Express, geometry: Geometry, groups: int) -> Instead | None:
    """The first that works, from the least intervention to the most."""
    for per_group in (False, True) if groups > 1 else (False,):
        for spread in (False, True) if max(effective_dilation(geometry)) > 1 else (False,):
            for full in (False, True):
                wanted = _changed(geometry, spread, full)
                found = express(wanted, 1 if per_group else groups)
                if isinstance(found, dict):
                    crop = geometry.crops if full else ((0, 0),) * geometry.rank
                    return Instead(found, crop, spread, per_group)
    return None


def _changed(geometry: Geometry, spread: bool, full: bool) -> Geometry:
    """The geometry with the taps written out, with nothing removed, or both."""
    kernel, stride, dilation = columns(geometry)
    if spread:
        kernel = tuple(map(extent, kernel, dilation))
        dilation = (1,) * geometry.rank
    crops = ((0, 0),) * geometry.rank if full else geometry.crops
    return Geometry(kernel, stride, padding=crops, dilation=dilation)


def _no_such_rank(rank: int, ranks: tuple[int, ...]) -> str:
    told = f"it has {rank} spatial {'axis' if rank == 1 else 'axes'}, and the call takes "
    told += " or ".join(map(str, ranks))
    if rank < min(ranks):
        told += ": give input and weights a further one of size 1"
    return told
