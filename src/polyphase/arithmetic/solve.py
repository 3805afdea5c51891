"""Parameters of a transposed convolution that map an input size to a wanted output size."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from heapq import heappop, heappush
from itertools import islice
from math import lcm, prod
from typing import Any

from polyphase.arithmetic.freedom import VALUES, Task, read_tasks
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.repair import Goal, explain, nearest
from polyphase.arithmetic.search import TRIALS, Found, Outcome, Setting, search
from polyphase.arithmetic.values import PerAxis, at_least, whole
from polyphase.errors import OutputSizeError

# settings per axis, and combinations of them over the axes, that are ranked together at least
DEPTH, COMBINATIONS = 25, 300

# one size, a tuple with one per axis, or a list of such for several inputs
Sizes = int | tuple[int, ...] | list[int] | list[tuple[int, ...]]
# an int is fixed, None is free, an iterable holds allowed values; a tuple may be per axis
Allowed = int | Iterable[Any] | None


class Solutions(list[Geometry]):
    """What :func:`solve` found, best first.

    ``stopped`` is ``None`` if every parameter set within the given freedom was considered, else a
    sentence that says where the search was broken off.

    >>> solve(7, 14, stride=2).stopped is None
    True
    """

    stopped: str | None = None


def solve(
    input_size: Sizes,
    output_size: Sizes,
    kernel_size: Allowed = None,
    stride: Allowed = None,
    padding: Allowed = None,
    output_padding: Allowed = None,
    dilation: Allowed = 1,
    limit: int = 10,
) -> Solutions:
    """Every parameter set within the given freedom that maps ``input_size`` to ``output_size``.

    The best come first. What counts against a set is added up: the distance of its stride from the
    ratio of the sizes, uneven overlap, holes, output padding, an output off the centre of the
    input, and every stride of length of its kernel. Sets that lose inputs at the border come last.
    At most ``limit`` are returned.

    >>> solve(7, 16, stride=2, limit=2)
    [Geometry(kernel_size=4, stride=2), Geometry(kernel_size=6, stride=2, padding=1)]
    >>> solve(6, 12, kernel_size=3, limit=1)
    [Geometry(kernel_size=3, stride=2, padding=1, output_padding=1)]

    **Sizes.** An int, or a tuple with one int per axis. A list of sizes means several inputs that
    one geometry must serve, in the order of the outputs; two different sizes fix the ratio, so this
    asks for an upsampler that doubles every size:

    >>> solve([5, 7, 9], [10, 14, 18], kernel_size=range(3, 6))
    [Geometry(kernel_size=4, stride=2, padding=1), ...]

    **Parameters.** Each is an int (fixed), ``None`` (free), or an iterable of allowed values, which
    serve every axis. Where the sizes are tuples, a *tuple* of that length is read per axis instead,
    with an int, ``None`` or an iterable for each; lists, ranges and sets are always allowed values.

    >>> solve((7, 7), (14, 7), kernel_size=(4, [1, 3]), limit=1)
    [Geometry(kernel_size=(4, 3), stride=(2, 1), padding=(1, 1))]

    ``output_padding`` is smaller than stride or dilation, PyTorch's rule. A padding value may be a
    ``(begin, end)`` pair; a free padding is an int, or a pair where no int reaches the target.

    Raises :class:`~polyphase.OutputSizeError` when nothing within the freedom reaches the target,
    with the reachable sizes and the smallest changes that do; ``TypeError`` and
    :class:`~polyphase.GeometryError` for arguments that are no sizes or parameters. The search
    looks at no more than 20000 parameter sets per axis, as many combinations of axes, and 4096
    allowed values per parameter; if that was not everything, ``stopped`` of the result says so,
    and so does the error.
    """
    limit = whole("limit", limit)
    at_least("limit", (limit,), 1)
    tasks = read_tasks(
        input_size,
        output_size,
        {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
        },
    )
    depth = limit if len(tasks) == 1 else max(limit, DEPTH)
    searched = {task: _axis(task, depth) for task in dict.fromkeys(tasks)}
    outcomes = [searched[task] for task in tasks]
    notes = _notes(tasks, outcomes)
    if not all(outcome.found for outcome in outcomes):
        raise OutputSizeError("; ".join([_failure(tasks, outcomes), *notes]))
    result = Solutions(
        _geometry(settings)
        for settings in _combined(
            [outcome.found for outcome in outcomes], limit, len(searched) == 1
        )
    )
    most = prod(len(outcome.found) for outcome in outcomes)
    if len(result) < min(limit, most):
        notes.append(f"only the best {len(result)} combinations of the axes were ranked")
    result.stopped = "; ".join(notes) or None
    return result


def inverse_of(geometry: Geometry, size: PerAxis) -> Geometry:
    """The transposed convolution that brings the output of a convolution back to ``size``.

    ``geometry`` holds the parameters of the convolution. The output padding of the result is
    ``(m + 2*p - e) % s`` for size ``m``: what the convolution's division left over.

    >>> inverse_of(Geometry(3, stride=2, padding=1), 12)
    Geometry(kernel_size=3, stride=2, padding=1, output_padding=1)

    Raises :class:`~polyphase.OutputSizeError` where the kernel does not fit ``size``.
    """
    return geometry.for_output_size(geometry.conv_output_size(size), size)


def _axis(task: Task, limit: int) -> Outcome:
    """The best settings of one axis; a pair of paddings only where no int serves."""
    size, target = task.pairs[0]
    freedom = task.narrowed
    if freedom is None:
        return Outcome([])
    outcome = search(size, target, freedom, limit)
    if not outcome.found and freedom.padding is None:
        outcome = search(size, target, freedom, limit, asymmetric=True)
    if not outcome.found and outcome.stopped is not None:
        # what the message would name may be what the search did not come to
        goal, _ = nearest(freedom, task.pairs)
        if goal.is_reached:
            setting = goal.setting._replace(output_padding=goal.needed or 0)
            return replace(outcome, found=[Found(Fraction(0), setting.faults, setting)])
    return outcome


def _failure(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> str:
    goals, lead = [], ""
    for task, outcome in zip(tasks, outcomes, strict=True):
        if outcome.found:
            setting = outcome.found[0].setting._replace(output_padding=0)
            goals.append(Goal(setting, task.pairs))
            continue
        goal, is_sure = nearest(task.narrowed or task.freedom, task.pairs)
        goals.append(goal)
        if not task.is_fixed:
            lead = "nearest of what is allowed, " if is_sure else "for example "
    return explain(goals, lead)


def _notes(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> list[str]:
    """What was left out, one sentence each."""
    notes = []
    for i, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True)):
        where = f" on axis {i}" if len(tasks) > 1 else ""
        notes += [
            f"of {name}{where} only the first {VALUES} values were tried" for name in task.unread
        ]
        if outcome.stopped is not None:
            notes.append(
                f"the search{where} stopped after {TRIALS} parameter sets, "
                f"at stride {outcome.stopped}: fix or narrow a parameter"
            )
    return notes


def _combined(
    by_axis: Sequence[Sequence[Found]], limit: int, same_task: bool
) -> list[tuple[Setting, ...]]:
    """Best combinations over the axes; unlike parameters cost more where the task is the same."""
    if len(by_axis) == 1:
        return [(found.setting,) for found in by_axis[0][:limit]]
    common = lcm(*(found.cost.denominator for axis in by_axis for found in axis))
    prices = [
        {found.setting: (int(found.cost * common), found.faults) for found in axis}
        for axis in by_axis
    ]
    alike = set.intersection(*(set(table) for table in prices))
    candidates = {(setting,) * len(by_axis) for setting in alike}
    costs = [[(cost, setting) for setting, (cost, _) in table.items()] for table in prices]
    candidates.update(islice(_cheapest(costs), max(COMBINATIONS, min(2 * limit, TRIALS))))
    weight = (10 if same_task else 4) * common

    def price(settings: tuple[Setting, ...]) -> tuple[Any, ...]:
        parts = [table[setting] for table, setting in zip(prices, settings, strict=True)]
        unlike = sum(len(set(values)) - 1 for values in zip(*settings, strict=True))
        return sum(cost for cost, _ in parts) + weight * unlike, sum(f for _, f in parts), settings

    return sorted(candidates, key=price)[:limit]


def _cheapest(axes: Sequence[Sequence[tuple[int, Setting]]]) -> Iterator[tuple[Setting, ...]]:
    """Combinations of ascending (cost, setting) lists in the order of their summed cost."""
    start = (0,) * len(axes)
    heap = [(0, start)]
    seen = {start}
    while heap:
        cost, index = heappop(heap)
        yield tuple(axis[i][1] for axis, i in zip(axes, index, strict=True))
        for j, axis in enumerate(axes):
            at = index[j]
            further = (*index[:j], at + 1, *index[j + 1 :])
            if at + 1 < len(axis) and further not in seen:
                seen.add(further)
                heappush(heap, (cost + axis[at + 1][0] - axis[at][0], further))


def _geometry(settings: Sequence[Setting]) -> Geometry:
    columns: dict[str, list[Any]] = {
        "kernel_size": [x.kernel_size for x in settings],
        "stride": [x.stride for x in settings],
        "padding": [
            x.begin if x.begin == x.end and x.begin >= 0 else (x.begin, x.end) for x in settings
        ],
        "output_padding": [x.output_padding for x in settings],
        "dilation": [x.dilation for x in settings],
    }
    return Geometry(**columns)
