"""Minimal filtering of the weights' gradient: its algebra, its products, where it is taken."""

import kernels
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import polyphase as pp
from polyphase import Problem
from polyphase.arithmetic.axis import Axis
from polyphase.engine.methods import METHODS
from polyphase.engine.minimal_weights_axis import GroupedAxis, grouped
from polyphase.engine.target import NEON
from polyphase.engine.weights_reach import Reach

(METHOD,) = (method for method in METHODS if method.name == "minimal_weights")


@st.composite
def reaches(draw):
    """An axis all of whose taps reach an output."""
    kernel, stride = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 3))
    begin = draw(st.integers(-1, 3))
    size, output = draw(st.integers(1, 14)), draw(st.integers(1, 40))
    axis = Axis(kernel, stride, begin=begin, end=0, dilation=dilation)
    reach = Reach(axis, size, output)
    assume(len(reach.live) == kernel)
    return reach


def value(terms, array, place, step):
    """A signed sum of neighbours in an array that is 0 outside."""
    places = [(place + offset * step, sign) for offset, sign in terms]
    return sum(sign * array[at] for at, sign in places if 0 <= at < len(array))


@given(reaches(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_products_make_the_sums_of_the_definition(reach, positions, seed):
    axis = GroupedAxis(reach, positions)
    generator = np.random.default_rng(seed)
    x = generator.integers(-9, 10, reach.size)
    g = generator.integers(-9, 10, reach.output_size)
    s = reach.axis.stride
    sums = []
    for phase, (number, y) in axis.products:
        start = reach.starts[phase.taps[0]]
        # the outputs of the phase, from where its first tap meets the first position
        outputs = [g[at] if 0 <= (at := start + s * i) < len(g) else 0 for i in range(60)]
        if number is None:
            # one tap, with every position by itself
            pairs = [(((i, 1),), phase.sums[y + i]) for i in range(positions)]
        else:
            pairs = [(axis.x_sums[number], phase.sums[y])]
        sums.append(
            sum(
                value(mine, x, origin, axis.apart) * value(theirs, outputs, origin, axis.tap_step)
                for origin in axis.origins(reach.size).tolist()
                for mine, theirs in pairs
            )
        )
    for target, first, second in axis.steps:
        sums[target] = first.factor * sums[first.product] + second.factor * sums[second.product]
    expected = [
        sum(x[i] * g[s * i + start] for i in range(len(x)) if 0 <= s * i + start < len(g))
        for start in reach.starts
    ]
    assert [sums[slot] for slot in axis.slots] == expected


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "size", "positions", "work"),
    [
        # two taps a phase: three products for four with pairs of positions, four for six else
        (4, 2, 1, 8, 2, 2 * 1.5),
        (4, 2, 1, 9, 3, 2 * 4 / 3),
        # three taps
        (3, 1, 1, 8, 2, 2.0),
        (3, 1, 2, 8, 2, 2.0),
        # two and one
        (3, 2, 1, 9, 3, 4 / 3 + 1),
        # twos save more than three taps, where groups of three positions fit
        (6, 1, 1, 9, 3, 4.0),
        (6, 1, 1, 8, 2, 4.0),
        # one tap a phase
        (2, 2, 1, 8, 1, 2.0),
        # groups whose positions lie far apart would make boxes too large
        (3, 1, 5, 90, 1, 3.0),
        # and one position
        (4, 2, 1, 1, 1, 4.0),
    ],
)
def test_an_axis_takes_the_groups_with_the_fewest_products(
    kernel, stride, dilation, size, positions, work
):
    axis = Axis(kernel, stride, begin=0, end=0, dilation=dilation)
    output = stride * (size - 1) + dilation * (kernel - 1) + 1
    found = grouped(Reach(axis, size, output))
    assert (found.positions, found.work) == (positions, pytest.approx(work))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("weight_grad c64:32 i24x24 k2x2 s2x2", "no axis has taps and positions"),
        ("weight_grad c64:32 i64x64 k3x3 p24x24 d24x24", "no axis has taps and positions"),
        ("weight_grad c64:64 g64 i24x24 k4x4 s2x2 p1x1", "channels that meet one by one"),
        ("weight_grad c64:32 i1x9 k4x4 s2x2 p1x1", "some taps reach no output"),
        ("weight_grad c8:8 i99x99 k33x33", "products, more than 400"),
        ("conv_transpose c64:32 i24x24 k4x4 s2x2", "it computes the gradient of the weights"),
    ],
)
def test_it_tells_what_it_refuses(line, reason):
    assert reason in METHOD.refuse(Problem.parse(line), NEON)


def test_few_channels_are_not_filtered():
    # sums of both sides would take longer than the products that they save
    for line in ("n8 c12:12 i64x64 k4x4 s2x2 p1x1", "n1 c64:2 i64x64 k3x3 p1x1"):
        refusals = pp.plan(f"weight_grad {line}").refusals
        assert "it would take an estimated" in refusals["minimal_weights"], line


@pytest.mark.parametrize(
    "line",
    [
        "n1 c8192:512 i64x64 k3x3 p4x4 d4x4",
        "n1 c64:64 i64x64x64 k3x3x3 p4x4x4 d4x4x4",
        "n2 c320:320 i16x16x16 k4x4x4 s2x2x2 p1x1x1",
        "n2 c320:320 i15x15x15 k4x4x4 s2x2x2 p1x1x1",
    ],
)
@pytest.mark.parametrize("cache", [1 << 18, 1 << 20])
def test_panels_stay_near_whatever_the_layer(line, cache):
    problem = Problem.parse(f"weight_grad {line}")
    for target in (NEON, *kernels.TARGETS):
        assert METHOD.refuse(problem, target) is None
        tables = METHOD.tables(METHOD.tiling(problem, target, cache))
        weights = 4 * np.prod(problem.weight_shape)
        # panels, cells, and the sums of a task, which has about a sixteenth of the weights
        assert tables.scratch_bytes < 16 * cache + weights, target.name


@pytest.mark.parametrize(
    "line",
    [
        "n1 c8192:512 i64x64 k3x3 p24x24 d24x24",
        "n1 c32:32 i128x128x128 k3x3x3 p32x32x32 d32x32x32",
        "n1 c64:64 i16x16x16 k7x7x7 p3x3x3",
        "n1 c64:64 i1000000 k3 p100000 d100000",
        "n1 c1024:512 i60000 k512 s256",
    ],
)
def test_what_would_leave_the_caches_is_left_to_all_products(line):
    found = pp.plan(f"weight_grad {line}")
    assert found.method.name == "weights"
    assert found.tiling.choice.tasks >= 1
    assert "minimal_weights" in found.refusals


def test_the_largest_error_is_no_larger_than_that_of_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x, y = torch.randn(8, 64, 32, 32), torch.randn(8, 64, 64, 64)
    s = pp.functional.conv_transpose2d
    w = torch.randn(64, 64, 4, 4, requires_grad=True)
    errors = []
    exact = None
    for dtype, function in (
        (torch.float64, torch.nn.functional.conv_transpose2d),
        (torch.float32, torch.nn.functional.conv_transpose2d),
        (torch.float32, s),
    ):
        result = function(x.to(dtype), w.to(dtype), stride=2, padding=1)
        (found,) = torch.autograd.grad(result, w, y.to(dtype))
        exact = found.double() if exact is None else exact
        errors.append(float((found.double() - exact).abs().max() / exact.abs().max()))
    assert pp.plan("weight_grad n8 c64:64 i32x32 k4x4 s2x2 p1x1").method is METHOD
    assert 0 < errors[2] <= errors[1]
