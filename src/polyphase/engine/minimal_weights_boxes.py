"""The boxes of method ``minimal_weights``: their planes, and the steps and products of these."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.minimal_weights_planes import Planes
from polyphase.engine.minimal_weights_tiling import MinimalWeightsTiling
from polyphase.engine.weights_boxes import Boxes, Reached, Run, Side, Span
from polyphase.engine.weights_sizes import Corner


class MinimalBoxes(Boxes):
    """The tables of boxes whose positions are taken in groups."""

    tiling: MinimalWeightsTiling

    def __init__(self, tiling: MinimalWeightsTiling, x: Side, y: Side) -> None:
        self.grouped = tiling.grouped
        super().__init__(tiling, x, y)
        self.w_steps = self.steps.add(self._sum_steps())

    def _axes(self) -> Sequence[Reached]:
        return self.grouped

    def _order_taps(self) -> None:
        """Where the gradients of the taps are found, among the sums of the products."""
        kernels = [range(axis.kernel_size) for axis in self.tiling.axes]
        taps = list(product(*kernels))
        self.entries = np.array([(0, *tap) for tap in taps], np.int64)
        depth, height, width = (len(axis.products) for axis in self.grouped)
        self.tile_count = self.live_tiles = depth * height * width
        d, h, w = (
            axis.slots[self.entries[:, 1 + number]] for number, axis in enumerate(self.grouped)
        )
        self.slots = (d * height + h) * width + w

    def _sum_steps(self) -> Table:
        """What a block of sums goes through."""
        counts = [len(axis.products) for axis in self.grouped]
        tile = self.shape.sums * self.tiling.lanes
        strides = [tile * prod(counts[axis + 1 :]) for axis in range(3)]
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
                for target, *terms in self.grouped[number].w_steps:
                    places = [
                        at + plane * strides[number]
                        for plane in (target, *(t.plane for t in terms))
                    ]
                    found.append([*places, tile, *(int(2 * t.factor) for t in terms)])
        return np.array(found, np.int64).reshape(-1, 6)

    def _class(self, size: Corner, runs: list[Run]) -> tuple[int, ...]:
        lanes = self.tiling.lanes
        sides = []
        for side, planes in ((self.x, self.tiling.x_planes), (self.y, self.tiling.y_planes)):
            sides.append(planes(self.tile.shape, size))
        x, y = sides
        places = [axis.place(np.arange(n)) for axis, n in zip(self.grouped, size[1:], strict=True)]
        at_x = [np.arange(size[0]) * x.weights[0]]
        at_x += [x.offsets(number, *place) for number, place in enumerate(places)]
        at_y = [np.arange(size[0]) * y.weights[0]]
        for number, (axis, run) in enumerate(zip(self.grouped, runs, strict=True)):
            plane, cell = np.divmod(run.cells, axis.y_cells(size[1 + number]))
            at_y.append(y.offsets(number, plane, cell))
        fields: list[int] = []
        ahead: list[int] = []
        for side, offsets, panel in ((self.x, at_x, x), (self.y, at_y, y)):
            told, fetched = self._lines(side, offsets, self._line_axis(side, offsets), panel.spare)
            fields += told
            ahead += fetched
        cut = any(n % axis.group for axis, n in zip(self.grouped, size[1:], strict=True))
        clear = any(run.lacks for run in runs)
        apart = [axis.apart for axis in self.grouped]
        steps: list[int] = []
        for panel, through, raw in (
            (
                x,
                [axis.x_steps for axis in self.grouped],
                [range(axis.positions) for axis in self.grouped],
            ),
            (y, [axis.y_steps for axis in self.grouped], [axis.y_raw for axis in self.grouped]),
        ):
            lines = list(panel.steps(through, raw, apart, lanes))
            steps += self.steps.add(np.array(lines, np.int64).reshape(-1, 6))
        tiles = self._products(size, x, y)
        return *fields, cut, clear, *tiles, *ahead, *steps

    def _products(self, size: Corner, x: Planes, y: Planes) -> Span:
        """Register tiles of a box: a product of three axes each, and its list of positions."""
        table = []
        for chosen in product(*(axis.products for axis in self.grouped)):
            at_x = sum((p.x or 0) * s for p, s in zip(chosen, x.strides, strict=True))
            at_y = sum(
                p.y * s + p.shift * w
                for p, s, w in zip(chosen, y.strides, y.weights[1:], strict=True)
            )
            whole = tuple(p.x is None for p in chosen)
            table.append([*self._positions(whole, size, x, y), at_x, at_y])
        return self.tiles.add(np.array(table, np.int64))

    def _positions(self, whole: tuple[bool, ...], size: Corner, x: Planes, y: Planes) -> Span:
        """The list of all groups of a box, or where an axis is ``whole`` of all its positions."""
        key = (whole, size)
        if key not in self._known_lists:
            at_x = np.arange(size[0]) * x.weights[0]
            at_y = np.arange(size[0]) * y.weights[0]
            for number, axis in enumerate(self.grouped):
                length = size[1 + number]
                if whole[number]:
                    plane, cell = axis.place(np.arange(length))
                else:
                    cell = np.arange(axis.x_cells(length))
                    plane = np.zeros_like(cell)
                at_x = np.add.outer(at_x, x.offsets(number, plane, cell)).ravel()
                at_y = np.add.outer(at_y, y.offsets(number, plane, cell)).ravel()
            self._known_lists[key] = self.lists.add(np.stack([at_x, at_y], 1))
        return self._known_lists[key]
