"""The boxes of method ``minimal_weights``: sums of both sides, and products of these."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.kernels.weights_context import FORM, STEP
from polyphase.engine.minimal_weights_tiling import MinimalWeightsTiling
from polyphase.engine.weights_boxes import Boxes, Lines, Reached, Run, Side, Span
from polyphase.engine.weights_sizes import Corner


class MinimalBoxes(Boxes):
    """The table of boxes whose positions are taken in groups, and those that it points into."""

    tiling: MinimalWeightsTiling

    def __init__(self, tiling: MinimalWeightsTiling, x: Side, y: Side) -> None:
        self.grouped = tiling.grouped
        self.groups, self.forms = Lines(2), Lines(len(FORM))
        super().__init__(tiling, x, y)
        self.steps = self._steps()

    def _axes(self) -> Sequence[Reached]:
        return self.grouped

    def _order_taps(self) -> None:
        """Where the gradients of the taps are found, among the sums of the products."""
        kernels = [range(axis.kernel_size) for axis in self.tiling.axes]
        self.entries = np.array([(0, *tap) for tap in product(*kernels)], np.int64)
        counts = [len(axis.products) for axis in self.grouped]
        self.tile_count = self.live_tiles = prod(counts)
        self.slots = np.zeros(len(self.entries), np.int64)
        for number, axis in enumerate(self.grouped):
            self.slots = self.slots * counts[number] + axis.slots[self.entries[:, 1 + number]]

    def _steps(self) -> Table:
        """What the sums of a block go through, axis by axis."""
        counts = [len(axis.products) for axis in self.grouped]
        size = self.shape.sums * self.tiling.lanes
        strides = [size * prod(counts[axis + 1 :]) for axis in range(3)]
        found = []
        for number in (2, 1, 0):
            # what becomes no gradient is not looked at again
            others: list[Sequence[int]] = [
                range(counts[a]) if a < number else sorted(set(axis.slots.tolist()))
                for a, axis in enumerate(self.grouped)
            ]
            others[number] = [0]
            for base in product(*others):
                at = sum(b * s for b, s in zip(base, strides, strict=True))
                for target, *terms in self.grouped[number].steps:
                    read = [target, *(term.product for term in terms)]
                    places = [at + slot * strides[number] for slot in read]
                    found.append([*places, *(int(2 * term.factor) for term in terms)])
        return np.array(found, np.int64).reshape(-1, len(STEP))

    def _class(self, size: Corner, runs: list[Run]) -> tuple[int, ...]:
        full = self.tiling.full(size)
        x = self._pack(self.x, [np.arange(n) for n in size], full)
        cells = [np.arange(size[0]), *(run.cells for run in runs)]
        y = self._pack(self.y, cells, self._extents(full))
        lacks = any(run.lacks for run in runs)
        origins = [axis.origins(n) for axis, n in zip(self.grouped, size[1:], strict=True)]
        at_x, at_y = np.zeros(1, np.int64), np.zeros(1, np.int64)
        for places, x_weight, y_weight in zip(
            [np.arange(size[0]), *origins], x.weights, y.weights, strict=True
        ):
            at_x = np.add.outer(at_x, places * x_weight).ravel()
            at_y = np.add.outer(at_y, places * y_weight).ravel()
        groups = self.groups.add(np.stack([at_x, at_y], 1))
        x_plane, y_plane = (self.tiling.plane(len(at_x), side.pitch) for side in (self.x, self.y))
        apart = [axis.apart for axis in self.grouped]
        x_steps = [a * weight for a, weight in zip(apart, x.weights[1:], strict=True)]
        tap_steps = [axis.tap_step for axis in self.grouped]
        y_steps = [a * weight for a, weight in zip(tap_steps, y.weights[1:], strict=True)]
        forms = self._forms(full, y.weights, y_plane)
        tiles = self._products(size, x_plane, y_plane)
        fields = *x.fields, *y.fields, full != size, lacks, *tiles, *x.ahead, *y.ahead
        return *fields, *groups, *x_steps, *y_steps, x_plane, y_plane, *forms

    def _forms(self, full: Corner, weights: Corner, plane: int) -> Span:
        """For each phase the kind of its sums, where its outputs begin, and where the sums go."""
        table, tiling = [], self.tiling
        every = zip(tiling.phases, tiling.y_sums, tiling.y_starts, strict=True)
        for phases, sums, start in every:
            cells = (
                axis.reach.cell(phase.taps[0], length)
                for axis, phase, length in zip(self.grouped, phases, full[1:], strict=True)
            )
            source = sum(c * weight for c, weight in zip(cells, weights[1:], strict=True))
            table.append((self.shape.y_sums.index(sums), source, start * plane))
        return self.forms.add(np.array(table, np.int64))

    def _products(self, size: Corner, x_plane: int, y_plane: int) -> Span:
        """Register tiles of a box: a product of three axes each, and its list of positions."""
        starts = dict(zip(self.tiling.phases, self.tiling.y_starts, strict=True))
        x_strides = _strides([len(sums) for sums in self.tiling.x_sums], x_plane)
        table = []
        for chosen in product(*(axis.products for axis in self.grouped)):
            phases = tuple(phase for phase, _ in chosen)
            y_strides = _strides([len(phase.sums) for phase in phases], y_plane)
            products = [found for _, found in chosen]
            at_x = sum((p.x or 0) * s for p, s in zip(products, x_strides, strict=True))
            at_y = sum(p.y * s for p, s in zip(products, y_strides, strict=True))
            whole = [p.x is None for p in products]
            listed = self._positions(size, whole, x_strides, y_strides)
            table.append([*listed, at_x, starts[phases] * y_plane + at_y])
        return self.tiles.add(np.array(table, np.int64))

    def _positions(
        self, size: Corner, whole: list[bool], x_strides: list[int], y_strides: list[int]
    ) -> Span:
        """The list of all groups of a box; of all positions along axes that are ``whole``."""
        y_strides = [stride * w for stride, w in zip(y_strides, whole, strict=True)]
        key = (size, tuple(whole), tuple(y_strides))
        if key not in self._known_lists:
            group, at_x, at_y = (np.arange(size[0]), *np.zeros((2, size[0]), np.int64))
            for number, axis in enumerate(self.grouped):
                length = size[1 + number]
                places = np.arange(length) if whole[number] else axis.origins(length)
                cell = places // axis.group * axis.apart + places % axis.apart
                residue = places // axis.apart % axis.positions
                group = np.add.outer(group * axis.count(length), cell).ravel()
                at_x = np.add.outer(at_x, residue * x_strides[number]).ravel()
                at_y = np.add.outer(at_y, residue * y_strides[number]).ravel()
            at_x, at_y = at_x + group * self.x.pitch, at_y + group * self.y.pitch
            self._known_lists[key] = self.lists.add(np.stack([at_x, at_y], 1))
        return self._known_lists[key]


def _strides(counts: list[int], plane: int) -> list[int]:
    """Elements between neighbours along each axis of planes."""
    return [plane * prod(counts[axis + 1 :]) for axis in range(3)]
