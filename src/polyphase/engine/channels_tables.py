"""Tables and weight panels of method ``channels``: its tiling spelled out for the kernel."""

from collections.abc import Iterator
from functools import cached_property
from itertools import chain, compress, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.phases import Phase
from polyphase.engine.channels import ChannelsTiling, Phases
from polyphase.engine.cover import Grid
from polyphase.engine.kernels import channels as kernel
from polyphase.engine.pack import Offsets, Panel, Strides, tap_count
from polyphase.engine.tables import Tables, tap_number
from polyphase.engine.tiling import Corner

Limits = tuple[int, int, int]


class ChannelsTables(Tables):
    """The tables of one tiling."""

    more_context = kernel.Channels.more_context
    tiling: ChannelsTiling

    def __init__(self, tiling: ChannelsTiling) -> None:
        choice = tiling.choice
        self.width = choice.vectors * tiling.lanes
        super().__init__(tiling, choice.box, choice.depth, False, 1)
        self.choice = choice
        self.shape = tiling.kernel_shape
        self._fill_rows()
        self.fill_tasks()
        self.columns = self.joined("columns", len(kernel.COLUMN))
        # a register tile may read past the last plane, but never past this
        reach = (choice.pattern.groups - 1) * choice.pattern.stride + choice.pattern.width
        beyond = (reach + self.packing.row) * self.cell + tiling.lanes
        self.finish(
            self.packing.channel * tiling.cell_elements(self.depth) + beyond,
            choice.pattern.size * self.width,
            places=self.joined("places", len(kernel.PLACE)),
            lane_bits=self.lane_bits,
            y_channel=self.y_strides[1],
            x_channels=tiling.problem.in_channels,
            tile_group=choice.pattern.stride * self.cell,
        )

    @property
    def fetches_input(self) -> bool:
        """Whether the kernel fetches the input of later boxes."""
        return self.shape.fetch_input

    @property
    def planes(self) -> int:
        """Residues of the last axis lie side by side, so one plane holds them all."""
        return 1

    @property
    def cell(self) -> int:
        """A position is as many pixels wide as the input's stride."""
        return self.pixel * self.tiling.axes[2].in_step

    @cached_property
    def pixel(self) -> int:
        """Tile elements of a pixel."""
        return self.tiling.pixel

    @property
    def row_height(self) -> int:
        """Outputs of a position in a row tile."""
        return self.width

    @property
    def step_weights(self) -> int:
        """Weights that one input channel of one outer tap meets in a row tile."""
        return self.width

    def _fill_rows(self) -> None:
        """One row tile per panel of each stretch, with its own taps."""
        tiling, width = self.tiling, self.width
        _, yc, yd, yh, yw = self.y_strides
        self.limits: list[Limits] = []
        self._known: dict[object, tuple[Offsets, Offsets]] = {}
        # taps of phases that read at the same offsets
        self._spans: dict[object, tuple[int, int]] = {}
        taps: list[tuple[int, int]] = []
        kinds = [self._kind(phases, taps) for phases in tiling.kinds]
        self.taps, self.lane_bits = np.array(taps, np.int64).reshape(-1, 2).T.copy()
        self.kinds = kinds
        apart = yc if tiling.scattered else 1
        rows = []
        panel = 0
        starts = [
            phases[0][0].start * yd + phases[1][0].start * yh + phases[2][0].start * yw
            for phases in tiling.kinds
        ]
        numbers = [self._limit_number(phases) for phases in tiling.kinds]
        for channels in tiling.channel_sets:
            for start, number, parts in zip(starts, numbers, kinds, strict=True):
                for part in parts:
                    y = channels[0] * yc + start + part.first * apart
                    rows.append((panel, y, *part.span, number, part.first))
                    panel += width + (part.span[1] - part.span[0]) * tiling.in_channels * width
        self.rows = np.array(rows, np.int64)
        self.panel_size = panel

    def _kind(self, phases: Phases, taps: list[tuple[int, int]]) -> list["Part"]:
        """The row tiles of one kind of stretch; their taps are added to the table.

        A tap is the offset that it reads at, and a bit for each lane that has it.
        """
        tiling, width = self.tiling, self.width
        if max(map(len, phases)) == 1:
            return self._single_phase(phases, taps)
        channels = np.arange(len(tiling.channel_sets[0]))
        grid = np.meshgrid(channels, *(np.arange(len(part)) for part in phases), indexing="ij")
        count = -(-grid[0].size // width)
        # channel and phases of each lane of each row tile, -1 where there is none
        lanes = np.full((4, count * width), -1, np.int64)
        lanes[:, : grid[0].size] = [axis.ravel() for axis in grid]
        channel, *members = lanes.reshape(4, count, width)
        found = [_taps_of(part, number) for part, number in zip(phases, members, strict=True)]
        offsets = list(product(*(places for places, _ in found)))
        # (depth, height, width, row tile, lane)
        d, h, w = found[0][1][:, None, None], found[1][1][:, None], found[2][1]
        having = (d >= 0) & (h >= 0) & (w >= 0)
        used = ((d >= 0).any(-1) & (h >= 0).any(-1) & (w >= 0).any(-1)).reshape(-1, count)
        numbers = tap_number(tiling, d, h, w)
        every = tap_count(tiling)
        # row tiles count from their first channel and lowest tap, so that many are alike
        lowest = np.where(having, numbers, every).min((0, 1, 2, 4), initial=every) % every
        own = channel - channel[:, :1]
        entries = numbers - lowest[:, None] + own * Strides.of(tiling).out_channel
        entries = np.where(having, entries, -1).reshape(-1, count, width)
        biases = np.where(channel < 0, -1, own)
        parts: list[Part] = []
        spans: dict[tuple[object, ...], tuple[int, int]] = {}
        for number in range(count):
            rows = used[:, number]
            sources = self._alike(biases[number], entries[rows, number])
            first = number * width
            # where each lane has its own input, taps also lead to the first lane's channel
            lane = first if tiling.lanewise else 0
            reached = list(compress(offsets, rows))
            bits = [_bits(line >= 0) if tiling.mixed else 0 for line in sources[1]]
            key = (lane, *reached, *bits)
            if key not in spans:
                spans[key] = (len(taps), len(taps) + len(reached))
                places = [self._tile_offset(*offset) + lane for offset in reached]
                taps += zip(places, bits, strict=True)
            tap = int(lowest[number])
            parts.append(Part(first, spans[key], int(channel[number, 0]), tap, *sources))
        return parts

    def _alike(self, biases: Offsets, weights: Offsets) -> tuple[Offsets, Offsets]:
        """The same, as one object for all row tiles that are alike."""
        key = biases.tobytes(), weights.tobytes()
        return self._known.setdefault(key, (biases, weights))

    def _single_phase(self, phases: Phases, taps: list[tuple[int, int]]) -> list["Part"]:
        """The same where the lanes are channels of one phase: only the channel differs."""
        tiling, width = self.tiling, self.width
        axes = [sorted(zip(part[0].offsets, part[0].taps, strict=True)) for part in phases]
        numbers = [tap_number(tiling, *(tap for _, tap in found)) for found in product(*axes)]
        offsets = tuple(tuple(offset for offset, _ in axis) for axis in axes)
        lowest = min(numbers, default=0)
        counted = tuple(number - lowest for number in numbers)
        count = len(tiling.channel_sets[0])
        parts: list[Part] = []
        for first in range(0, count, width):
            # where each lane has its own input, taps also lead to the first lane's channel
            key = offsets, first if tiling.lanewise else 0
            if key not in self._spans:
                self._spans[key] = (len(taps), len(taps) + len(numbers))
                taps += [(self._tile_offset(*offset) + key[1], 0) for offset in product(*offsets)]
            sources = self._channel_lanes(min(count - first, width), counted)
            parts.append(Part(first, self._spans[key], first, lowest, *sources))
        return parts

    def _channel_lanes(self, count: int, numbers: tuple[int, ...]) -> tuple[Offsets, Offsets]:
        """Biases of ``count`` channels, and their weights at taps that count from the lowest."""
        key = count, numbers
        if key not in self._known:
            channels = np.arange(self.width)
            inside = channels < count
            lines = np.array(numbers, np.int64)[:, None]
            entries = lines + channels * Strides.of(self.tiling).out_channel
            self._known[key] = np.where(inside, channels, -1), np.where(inside, entries, -1)
        return self._known[key]

    def _limit_number(self, phases: Phases) -> int:
        """Number of the positions that these phases have; those of a stretch agree on it."""
        counts = [
            part[0].count(axis.output_size)
            for part, axis in zip(phases, self.tiling.axes, strict=True)
        ]
        limit = (counts[0], counts[1], counts[2])
        if limit not in self.limits:
            self.limits.append(limit)
        return self.limits.index(limit)

    def _tile_offset(self, d: int, h: int, w: int) -> int:
        along = w - self.tiling.axes[2].offsets[0]
        return self.outer_offset(d, h) * self.cell + along * self.pixel

    def class_spans(self, origin: Corner, size: Corner) -> list[tuple[int, int]]:
        """Columns of a box for each triple of limits."""
        return [self._columns(origin, size, limit) for limit in self.limits]

    def _columns(self, origin: Corner, size: Corner, limit: Limits) -> tuple[int, int]:
        tiling = self.tiling
        width = tiling.axes[2]
        local = [max(0, min(c - o, e)) for c, o, e in zip(limit, origin[1:], size[1:], strict=True)]
        # outputs of a row from here on, where a stretch holds the phases of the last axis
        left = width.output_size - origin[3] * width.out_step
        key = (size, *local, min(left, size[3] * width.out_step))
        span = self.known("columns", key)
        if span is not None:
            return span
        grid = Grid(size, self.packing.grid.packed)
        pattern = self.choice.pattern
        bases = np.array(pattern.bases(grid), np.int64)
        cells = np.arange(pattern.groups)[:, None] * pattern.stride + np.arange(pattern.width)
        rest = bases[:, None] + cells.ravel()
        y = np.zeros_like(rest)
        valid = np.ones(rest.shape, bool)
        for stride, bound, output in zip(
            grid.strides, (size[0], *local), self.position_strides, strict=True
        ):
            place, rest = np.divmod(rest, stride)
            valid &= place < bound
            y += place * output
        limits = np.where(valid, self._stretch_limit(left, place), 0)
        kept = valid.any(1)
        places = np.stack([y[kept].ravel(), limits[kept].ravel()], 1)
        start = self.append("places", key, places)[0]
        count = int(kept.sum())
        columns = np.stack([bases[kept] * self.cell, start + np.arange(count) * pattern.size], 1)
        return self.append("columns", key, columns)

    def _stretch_limit(self, left: int, place: NDArray[np.int64]) -> NDArray[np.int64] | int:
        """Outputs of a stretch that exist at each position of the last axis."""
        tiling = self.tiling
        if tiling.out_last or tiling.scattered or tiling.one_position:
            return tiling.adjacent
        return np.minimum(left - place * tiling.axes[2].out_step, tiling.adjacent)

    def panels(self) -> Iterator[Panel]:
        """Where the weights of every row tile come from."""
        targets = iter(self.rows[:, 0].tolist())
        for channels in self.tiling.channel_sets:
            for part in chain.from_iterable(self.kinds):
                channel = channels[0] + part.channel
                yield Panel(next(targets), channel, part.biases, part.weights, part.first_tap)


def _taps_of(phases: tuple[Phase, ...], members: Offsets) -> tuple[list[int], Offsets]:
    """Offsets of some phases of an axis, and each member's tap at each of them, -1 where none is.

    Member -1 is no phase.
    """
    offsets = sorted({offset for phase in phases for offset in phase.offsets})
    places = {offset: place for place, offset in enumerate(offsets)}
    table = np.full((len(offsets), len(phases) + 1), -1, np.int64)
    for number, phase in enumerate(phases):
        for tap, offset in zip(phase.taps, phase.offsets, strict=True):
            table[places[offset], number] = tap
    return offsets, table[:, members]


def _bits(lanes: NDArray[np.bool_]) -> int:
    """The first lane as the lowest bit of a signed 64-bit integer."""
    padded = np.zeros(64, bool)
    padded[: len(lanes)] = lanes
    return int(np.packbits(padded, bitorder="little").view("<i8")[0])


class Part(NamedTuple):
    """A row tile: its first output in the stretch, its taps, and what fills its panel.

    Biases and weights count from a channel and a tap.
    """

    first: int
    span: tuple[int, int]
    channel: int
    first_tap: int
    biases: Offsets
    weights: Offsets
