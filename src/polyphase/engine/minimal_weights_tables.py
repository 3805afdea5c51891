"""Tables of method ``minimal_weights``: those of ``weights``, with sums in the place of cells."""

from functools import cached_property
from math import prod

from polyphase.engine.cover import Table
from polyphase.engine.minimal_weights_boxes import MinimalBoxes
from polyphase.engine.minimal_weights_tiling import MinimalWeightsTiling
from polyphase.engine.weights_tables import WeightsTables, rounded


class MinimalWeightsTables(WeightsTables):
    """Every table of one tiling, and the context that points to them."""

    tiling: MinimalWeightsTiling
    boxes: MinimalBoxes

    def _make_boxes(self) -> MinimalBoxes:
        return MinimalBoxes(self.tiling, self.x, self.y)

    def _panels(self) -> tuple[int, int, int]:
        tiling, box, line = self.tiling, self.choice.box, 64 // self.tiling.item
        x = rounded(tiling.x_elements(self.tile, box), line)
        y = rounded(tiling.y_elements(self.tile, box), line)
        return x, y, y

    @cached_property
    def _packed(self) -> tuple[int, int]:
        """Elements of a packed block of either side, from which the sums are made."""
        full, lanes = self.tiling.full(self.choice.box), self.tiling.lanes
        cells = [r.cells(n) for r, n in zip(self.boxes.reaches, full[1:], strict=True)]
        sizes = []
        for side, counts in ((self.x, full), (self.y, (full[0], *cells))):
            # each line may be followed by a cell that no tap uses, and a vector may read on
            cells_and_ends = prod(counts) + prod(counts[:3])
            sizes.append(rounded(cells_and_ends * side.pitch + 2 * lanes, lanes))
        return sizes[0], sizes[1]

    def _more(self) -> dict[str, int | Table]:
        x, y = self._packed
        return {
            "steps": self.boxes.steps,
            "step_count": len(self.boxes.steps),
            "groups": self.boxes.groups.joined(),
            "forms": self.boxes.forms.joined(),
            "x_packed": x,
            "y_packed": y,
        }

    def _extra(self) -> int:
        x, y = self._packed
        return max(self.choice.x_range * x, self.choice.y_group * y)
