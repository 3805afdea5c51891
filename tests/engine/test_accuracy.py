"""Random reals: the largest error over real layers is no larger than PyTorch's own."""

from dataclasses import replace
from math import prod

import kernels
import numpy as np
import pytest

from polyphase.engine import arrays, reference
from polyphase.tools.bench.suite import SUITE, read

torch = pytest.importorskip("torch")
# multiply-adds of a layer here; its channels and kernel stay, for they make the error
WORK = 6_000_000
LEAST_SIZE = 3
DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def narrowed(problem):
    """The layer with one image, and as few positions as it takes."""
    taps = prod(axis.kernel_size for axis in problem.geometry.axes)
    each = problem.in_channels * problem.out_channels // problem.groups * taps
    size = list(problem.input_size)
    while each * prod(size) > WORK and max(size) > LEAST_SIZE:
        size = [-(-n // 2) if n > LEAST_SIZE else n for n in size]
    return replace(problem, batch=1, input_size=tuple(size))


@pytest.fixture(scope="module")
def layers():
    """Layers with operands in float64, and PyTorch's names for their parameters."""
    found = []
    for problem in map(narrowed, read(SUITE)):
        generator = np.random.default_rng(len(found))
        shapes = problem.input_shape, problem.weight_shape, (problem.out_channels,)
        operands = [torch.from_numpy(generator.standard_normal(shape)) for shape in shapes]
        g = problem.geometry
        parameters = {
            "stride": g.stride,
            "padding": tuple(begin for begin, _ in g.pads),
            "output_padding": g.output_padding,
            "dilation": g.dilation,
            "groups": problem.groups,
        }
        found.append((problem, operands, parameters))
    return found


def theirs(problem, operands, parameters):
    function = getattr(torch.nn.functional, f"conv_transpose{problem.rank}d")
    return function(*operands, **parameters)


def rounded(operands, dtype):
    """The operands in a dtype, and the same values in float64."""
    narrow = [operand.to(dtype) for operand in operands]
    return narrow, [operand.double() for operand in narrow]


def as_array(tensor, dtype):
    # NumPy gets bfloat16 from ml_dtypes, and torch does not know of it
    if dtype == "bf16":
        return tensor.view(torch.int16).numpy().view(kernels.strategies.DTYPES[dtype])
    return tensor.numpy()


def error(result, exact):
    """Largest difference, relative to the largest value."""
    return float(abs(np.asarray(result, np.float64) - exact).max() / abs(exact).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_error_is_no_larger_than_that_of_pytorch(layers, dtype):
    kind = getattr(torch, DTYPES[dtype])
    chosen = layers if dtype == "f32" else layers[::4]
    their_errors = []
    our_errors = {target.name: [] for target in kernels.TARGETS}
    for problem, operands, parameters in chosen:
        narrow, wide = rounded(operands, kind)
        exact = theirs(problem, wide, parameters).numpy()
        result = theirs(problem, narrow, parameters)
        their_errors.append(error(result.double().numpy(), exact))
        ours = [as_array(operand, dtype) for operand in narrow]
        typed = replace(problem, dtype=dtype)
        for target in kernels.TARGETS:
            with kernels.engine_on(target):
                computed = arrays.compute(typed, *ours)
            our_errors[target.name].append(error(computed.astype(np.float64), exact))
    for errors in our_errors.values():
        assert max(errors) <= max(their_errors)
        # nor is a single layer off by more than a few roundings of its sums
        assert max(errors) < 4 * float(torch.finfo(kind).eps) + 1e-6


def test_the_largest_error_in_float64_is_no_larger_either(layers):
    # integers whose sums of products fit 64 bits, but not the 53 of float64
    ours, theirs_ = [], []
    # the largest of a few thousand outputs is a matter of luck: that of three draws is less so
    draws = [np.random.default_rng(seed) for seed in range(3)]
    for problem, operands, parameters in layers[::4]:
        for draw in draws:
            drawn = [torch.from_numpy(draw.standard_normal(a.shape) * 2**26) for a in operands]
            whole = [operand.round() for operand in drawn]
            exact = reference.conv_transpose(
                *(operand.long().numpy() for operand in whole), problem.geometry, problem.groups
            )
            typed = replace(problem, dtype="f64")
            result = arrays.compute(typed, *(operand.numpy() for operand in whole))
            largest = abs(exact).max()
            for errors, values in ((ours, result), (theirs_, theirs(problem, whole, parameters))):
                # the difference must not be rounded: as integers it is not
                off = abs(np.asarray(values).astype(np.int64) - exact).max()
                errors.append(float(off / largest))
    assert 0 < max(ours) <= max(theirs_)
