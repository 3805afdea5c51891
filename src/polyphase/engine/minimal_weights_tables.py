"""Tables of method ``minimal_weights``: those of ``weights``, for planes in the place of cells."""

from polyphase.engine.minimal_weights_boxes import MinimalBoxes
from polyphase.engine.minimal_weights_tiling import MinimalWeightsTiling
from polyphase.engine.weights_boxes import Boxes
from polyphase.engine.weights_tables import WeightsTables, rounded


class MinimalWeightsTables(WeightsTables):
    """Every table of one tiling, and the context that points to them."""

    tiling: MinimalWeightsTiling

    def _make_boxes(self) -> Boxes:
        return MinimalBoxes(self.tiling, self.x, self.y)

    def _panels(self) -> tuple[int, int, int]:
        line = 64 // self.tiling.item
        # steps that read further on may end in a vector that begins behind the last plane
        x, y = (
            rounded(elements(self.tile, self.choice.box) + 2 * self.tiling.lanes, line)
            for elements in (self.tiling.x_elements, self.tiling.y_elements)
        )
        return x, y, y
