"""Tiling of method ``weights_in_lines``: that of ``weights``, with channels among the taps.

Few channels leave lanes of vectors empty; in line with the taps they fill them.
"""

from polyphase.arithmetic.problem import Problem
from polyphase.engine.lines import in_lines
from polyphase.engine.target import Target
from polyphase.engine.weights_tiling import WeightsTiling

# estimates of long lines fall short by so much
LINES_SHARE = 1.5


class LinesTiling(WeightsTiling):
    """All that the method decides about one problem on one target."""

    def __init__(self, problem: Problem, target: Target, cache_bytes: int) -> None:
        super().__init__(in_lines(problem), target, cache_bytes)

    @property
    def cycles(self) -> float:
        """Estimated cycles of one core for the whole problem."""
        return super().cycles * LINES_SHARE

    @property
    def weights_last(self) -> bool:
        """They lie in lines, too."""
        return True
