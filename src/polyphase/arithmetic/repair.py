"""What to say, and what to change, when parameters cannot reach the wanted size."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import NamedTuple

from polyphase.arithmetic.axis import Axis, extent, transposed_size
from polyphase.arithmetic.search import LOST, Freedom, Setting
from polyphase.arithmetic.values import plain

# changes that a message offers, and settings among which it looks for the nearest
OFFERS, NEAREST = 3, 2000
PARAMETERS = ("kernel_size", "stride", "padding", "output_padding", "dilation")


class Goal(NamedTuple):
    """What one axis has, and what it should reach.

    ``pairs`` are (input, output) sizes, all to be served by the same parameters.
    ``output_paddings`` are the allowed ones, ``None`` for every legal one.
    """

    setting: Setting
    pairs: tuple[tuple[int, int], ...]
    output_paddings: tuple[int, ...] | None = None

    @property
    def bases(self) -> list[int]:
        """Output size of each input without output padding."""
        x = self.setting
        return [
            transposed_size(n, x.kernel_size, x.stride, x.dilation, x.begin, x.end)
            for n, _ in self.pairs
        ]

    @property
    def legal(self) -> Sequence[int]:
        """Output paddings that are legal and allowed."""
        limit = max(self.setting.stride, self.setting.dilation)
        if self.output_paddings is None:
            return range(limit)
        return self.output_paddings[: bisect_left(self.output_paddings, limit)]

    @property
    def needed(self) -> int | None:
        """The output padding that serves every pair, legal or not; ``None`` if there is none."""
        missing = {out - base for (_, out), base in zip(self.pairs, self.bases, strict=True)}
        return missing.pop() if len(missing) == 1 else None

    @property
    def is_reached(self) -> bool:
        """Whether a legal and allowed output padding serves every pair."""
        # a range looks through all its numbers for what is no number
        return self.needed is not None and self.needed in self.legal

    @property
    def distance(self) -> int:
        """How far the reachable sizes are from those wanted, for the worst pair."""
        legal = self.legal
        top = legal[-1] if legal else 0
        return max(
            max(base - out, out - base - top, 0)
            for (_, out), base in zip(self.pairs, self.bases, strict=True)
        )


def explain_unreachable(
    axes: tuple[Axis, ...], inputs: tuple[int, ...], targets: tuple[int, ...]
) -> str:
    """Why no output padding reaches the targets, and the nearest changes that do.

    >>> text = explain_unreachable((Axis(3, stride=2, begin=1, end=1),), (10,), (30,))
    >>> for part in text.replace(": k", "; k").split("; "):
    ...     print(part)
    output_size 30 cannot be reached from input_size 10
    kernel_size=3, stride=2, padding=1 gives 19 (reachable with output_padding: 19 and 20)
    30 is reached by stride=3, padding=0 (exactly 3 times every size) | ...
    """
    return explain(
        [
            Goal(Setting(0, a.kernel_size, a.stride, a.dilation, a.begin, a.end), ((n, target),))
            for a, n, target in zip(axes, inputs, targets, strict=True)
        ]
    )


def explain(goals: Sequence[Goal], lead: str = "") -> str:
    """The message for goals of which at least one is out of reach; ``lead`` names the attempt."""
    inputs, targets = _sizes(goals, 0), _sizes(goals, 1)
    reasons: dict[tuple[str, str], list[int]] = {}
    for i, goal in enumerate(goals):
        if not goal.is_reached:
            reasons.setdefault((_told(goal.bases), _reach(goal)), []).append(i)
    given = []
    for (bases, reach), failing in reasons.items():
        where = f" on axis {' and '.join(map(str, failing))}" if len(goals) > 1 else ""
        given.append(f"{bases}{where} ({reach})")
    settings = [goal.setting for goal in goals]
    message = (
        f"output_size {targets} cannot be reached from input_size {inputs}: "
        f"{lead}{written(settings)} gives {' and '.join(given)}"
    )
    offers = [written(change, settings) + _remark(goals, change) for change in changes(goals)]
    return message + (f"; {targets} is reached by {' | '.join(offers)}" if offers else "")


def _sizes(goals: Sequence[Goal], side: int) -> str:
    """The input sizes (side 0) or output sizes (side 1) as the user gave them."""
    by_pair = zip(*(goal.pairs for goal in goals), strict=True)
    return _told([plain(tuple(pair[side] for pair in axes)) for axes in by_pair])


def _told(values: Sequence[object]) -> str:
    return str(values[0] if len(values) == 1 else list(values))


def _reach(goal: Goal) -> str:
    """What output padding adds to the base size, in words."""
    base, legal = goal.bases[0], goal.legal
    if not legal or base + legal[-1] < 0:
        return "no output"
    if max(goal.setting.stride, goal.setting.dilation) == 1:
        return "output_padding must be 0 where stride and dilation are 1"
    name = "output_padding"
    if goal.output_paddings is not None:
        name += f" {_span(legal[:2], legal[-1])}"
        if tuple(legal) == (0,):
            return "with output_padding=0"
    if len(goal.pairs) > 1:
        return f"{name} adds {_span(legal[:2], legal[-1])} to each"
    return f"reachable with {name}: {_span([base + op for op in legal[:2]], base + legal[-1])}"


def _span(few: Sequence[int], last: int) -> str:
    if len(few) == 1:
        return str(few[0])
    return f"{few[0]} and {last}" if few[1] == last else f"{few[0]} to {last}"


def _remark(goals: Sequence[Goal], change: Sequence[Setting]) -> str:
    """That a change loses inputs, or that it multiplies every input size by the stride."""
    if any(x.faults >= LOST for x in change):
        return " (loses inputs at the border)"
    if not all(_is_multiple(goal, x.stride) for goal, x in zip(goals, change, strict=True)):
        return ""
    strides = {x.stride for x in change}
    if strides == {1}:
        return " (keeps every size)"
    return f" (exactly {max(strides)} times every size)" if len(strides) == 1 else ""


def _is_multiple(goal: Goal, stride: int) -> bool:
    return all(out == stride * n for n, out in goal.pairs)


def written(settings: Sequence[Setting], instead_of: Sequence[Setting] | None = None) -> str:
    """Parameters as keyword arguments; all that differ from others, or all that say something.

    >>> written([Setting(1, 3, 2, 1, 1, 1), Setting(1, 5, 2, 1, 1, 1)])
    'kernel_size=(3, 5), stride=2, padding=1, output_padding=1'
    """
    shown = []
    for name in PARAMETERS:
        values = [_value(setting, name) for setting in settings]
        if instead_of is None:
            default = 1 if name == "dilation" else 0
            says_nothing = set(values) == {default}
            wanted = not (name in ("output_padding", "dilation") and says_nothing)
        else:
            wanted = values != [_value(setting, name) for setting in instead_of]
        if wanted:
            same = len(set(values)) == 1 and isinstance(values[0], int)
            shown.append(f"{name}={values[0] if same else tuple(values)}")
    return ", ".join(shown)


def _value(setting: Setting, name: str) -> int | tuple[int, int]:
    if name != "padding":
        value: int = getattr(setting, name)
        return value
    a, b = setting.begin, setting.end
    return a if a == b and a >= 0 else (a, b)


def changes(goals: Sequence[Goal], offers: int = OFFERS) -> list[list[Setting]]:
    """The smallest changes that make every axis reach its target, best first; one entry per axis.

    No two of them change the same parameters. Axes that reach their target stay as they are.
    """
    by_axis = []
    for goal in goals:
        if goal.is_reached:
            by_axis.append([goal.setting._replace(output_padding=goal.needed or 0)])
        else:
            by_axis.append(_axis_changes(goal, offers))
    if not all(by_axis):
        return []
    most = max(map(len, by_axis))
    return [[axis[min(i, len(axis) - 1)] for axis in by_axis] for i in range(most)]


def _axis_changes(goal: Goal, offers: int) -> list[Setting]:
    best: dict[tuple[bool, ...], tuple[int, Setting]] = {}
    for setting in _neighbours(goal):
        needed = goal._replace(setting=setting).needed
        if needed is None or not 0 <= needed < max(setting.stride, setting.dilation):
            continue
        new = setting._replace(output_padding=needed)
        which = tuple(_value(new, p) != _value(goal.setting, p) for p in PARAMETERS)
        offer = (_price(goal, new), new)
        if which not in best or offer < best[which]:
            best[which] = offer
    found = [setting for _, setting in sorted(best.values())]
    # what loses inputs is no advice where something else is
    spares = [setting for setting in found if setting.faults < LOST]
    return (spares if spares and goal.setting.faults < LOST else found)[:offers]


def _price(goal: Goal, new: Setting) -> int:
    """How large a change is: each parameter costs 2 and the distance that it moves."""
    old = goal.setting
    moves = (
        abs(new.kernel_size - old.kernel_size),
        abs(new.stride - old.stride),
        max(abs(new.begin - old.begin), abs(new.end - old.end)),
    )
    price = sum(2 + move for move in moves if move)
    if new.dilation != old.dilation:
        price += 6 + abs(new.dilation - old.dilation)
    price += 2 * (new.output_padding > 0) + 3 * (new.begin != new.end)
    # a multiple of every size is worth more than a hit at one size
    n, target = goal.pairs[0]
    if target % n == 0 and not _is_multiple(goal, new.stride):
        price += 3
    return price + 2 * max(0, new.faults - old.faults)


def _neighbours(goal: Goal) -> Iterator[Setting]:
    """Settings near the present one, among them all that reach the target with little change."""
    old = goal.setting
    n, target = goal.pairs[0]
    crop = old.begin + old.end
    strides = {old.stride, old.stride - 1, old.stride + 1, target // n, -(-target // n)}
    if n > 1:
        solved = (target - extent(old.kernel_size, old.dilation) + crop) // (n - 1)
        strides |= {solved, solved - 1}
    strides |= {(b - target) // (m - n) for m, b in goal.pairs if m != n}
    for s in filter(lambda s: s >= 1, strides):
        need = target - (n - 1) * s
        dilations = {old.dilation}
        if s == old.stride and old.kernel_size > 1:
            exact = (need + crop - 1) // (old.kernel_size - 1)
            dilations |= {exact, exact - 1}
        for d in filter(lambda d: d >= 1, dilations):
            kernels = {old.kernel_size + step for step in (-2, -1, 0, 1, 2)}
            kernels |= {(need + c - 1) // d + 1 - less for c in (0, crop) for less in (0, 1)}
            kernels |= {s, 2 * s}
            for k in filter(lambda k: k >= 1, kernels):
                for a, b in _crops(old, extent(k, d) - need):
                    yield Setting(0, k, s, d, a, b)


def _crops(old: Setting, surplus: int) -> set[tuple[int, int]]:
    """The present crop, none, and those that remove ``surplus`` positions or one more."""
    half, begin = -(-surplus // 2), max(surplus, 0) // 2
    found = {(0, 0), (begin, surplus - begin)} | ({(half, half)} if half > 0 else set())
    # nobody wants positions added at both ends
    return {(old.begin, old.end)} | {(a, b) for a, b in found if max(a, b) >= 0}


def nearest(freedom: Freedom, pairs: tuple[tuple[int, int], ...]) -> tuple[Goal, bool]:
    """The setting within the freedom that comes nearest to the targets, and whether that is sure.

    For a message: of a free parameter only the likeliest values are looked at.
    """
    size, target = pairs[0]

    def settings() -> Iterator[Setting]:
        for d, (a, b) in product(freedom.dilation or (1,), freedom.padding or ((0, 0),)):
            for s in freedom.stride or {max(1, target // size), -(-target // size)}:
                need = target - (size - 1) * s
                for k in freedom.kernel_size or (max(1, (need + a + b - 1) // d + 1),):
                    yield Setting(0, k, s, d, a, b)

    goals = [
        Goal(setting, pairs, freedom.output_padding) for setting in islice(settings(), NEAREST)
    ]
    return min(goals, key=lambda goal: goal.distance), len(goals) < NEAREST
