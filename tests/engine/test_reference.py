"""The reference against the oracle, the textbook forms and itself, always exactly."""

import sys

import numpy as np
import oracle
import problem_files
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from polyphase import Geometry, OutputSizeError
from polyphase.engine import reference

FORMS = (
    reference.conv_transpose,
    reference.conv_transpose_by_zero_insertion,
    reference.conv_transpose_by_matrix,
)
DTYPES = tuple(strategies.DTYPES)
HALF = ("f16", "bf16")


def small_and_large(problem, seed=0):
    """Arrays for both sides and the weights, whatever the operator."""
    generator = np.random.default_rng(seed)
    shapes = [problem.input_shape, problem.output_shape, problem.weight_shape]
    if problem.operator == "conv":
        shapes[:2] = reversed(shapes[:2])
    return [strategies.numbers(generator, shape, problem.dtype) for shape in shapes]


@pytest.mark.parametrize("problem", problem_files.problems(), ids=str)
def test_every_listed_problem_agrees_with_the_oracle(problem):
    small, large, w = small_and_large(problem)
    arguments = problem.geometry, problem.groups
    operands = {
        "conv_transpose": (small, w, None),
        "conv": (large, w, None),
        "weight_grad": (small, large),
    }
    if problem.operator == "conv":
        # it forgets how many positions were left over, so the two others have another geometry
        operands = {"conv": operands["conv"]}
    for operator, arrays in operands.items():
        result = getattr(reference, operator)(*arrays, *arguments)
        expected = getattr(oracle, operator)(*arrays, *arguments)
        assert result.dtype == small.dtype
        oracle.assert_same(result, expected.astype(result.dtype), problem)


@given(strategies.cases(dtypes=DTYPES))
def test_transposed_agrees_with_the_oracle(case):
    problem, x, w, b = case
    result = reference.conv_transpose(x, w, b, problem.geometry, problem.groups)
    expected = oracle.conv_transpose(x, w, b, problem.geometry, problem.groups)
    assert result.shape == problem.output_shape
    assert result.dtype == x.dtype
    oracle.assert_same(result, expected.astype(result.dtype), problem)


@given(strategies.cases("conv", dtypes=DTYPES))
def test_convolution_agrees_with_the_oracle(case):
    problem, y, w, b = case
    result = reference.conv(y, w, b, problem.geometry, problem.groups)
    expected = oracle.conv(y, w, b, problem.geometry, problem.groups)
    assert result.shape == problem.output_shape
    assert result.dtype == y.dtype
    oracle.assert_same(result, expected.astype(result.dtype), problem)


@given(strategies.cases(dtypes=DTYPES))
def test_weight_gradient_agrees_with_the_oracle(case):
    problem, x, w, _ = case
    y = small_and_large(problem)[1]
    result = reference.weight_grad(x, y, problem.geometry, problem.groups)
    expected = oracle.weight_grad(x, y, problem.geometry, problem.groups)
    assert result.shape == w.shape
    assert result.dtype == x.dtype
    oracle.assert_same(result, expected.astype(result.dtype), problem)


@given(strategies.cases(dtypes=DTYPES))
def test_the_three_forms_agree(case):
    problem, x, w, b = case
    first, *others = (form(x, w, b, problem.geometry, problem.groups) for form in FORMS)
    for other in others:
        assert other.dtype == first.dtype
        oracle.assert_same(other, first, problem)


@given(strategies.cases())
def test_the_matrix_is_that_of_the_convolution(case):
    problem, _, w, _ = case
    small, large, _ = small_and_large(problem)
    matrix = reference.convolution_matrix(w, problem.input_size, problem.geometry, problem.groups)
    rows = (matrix @ large.reshape(len(large), matrix.shape[1]).T).T
    x = reference.conv(large, w, None, problem.geometry, problem.groups)
    assert x.shape == small.shape
    oracle.assert_same(rows.reshape(x.shape), x, problem)


@given(strategies.cases(dtypes=("f64", "c128", "int64")))
def test_the_operators_are_adjoint(case):
    problem, x, w, _ = case
    arguments = problem.geometry, problem.groups
    y = small_and_large(problem)[1]
    across = (reference.conv_transpose(x, w, None, *arguments) * y).sum()
    assert across == (reference.conv(y, w, None, *arguments) * x).sum()
    assert across == (reference.weight_grad(x, y, *arguments) * w).sum()


@given(strategies.cases())
def test_multiplications_are_those_of_all_ones(case):
    problem, x, w, _ = case
    ones = np.ones(x.shape), np.ones(w.shape), None, problem.geometry, problem.groups
    assert reference.conv_transpose(*ones).sum() == oracle.multiplications(problem)


@given(strategies.cases(), st.integers(-3, 3))
def test_linear_in_input_and_weights(case, factor):
    problem, x, w, _ = case

    def apply(x, w):
        return reference.conv_transpose(x, w, None, problem.geometry, problem.groups)

    other_x, _, other_w = small_and_large(problem)
    oracle.assert_same(apply(x + factor * other_x, w), apply(x, w) + factor * apply(other_x, w))
    oracle.assert_same(apply(x, w + factor * other_w), apply(x, w) + factor * apply(x, other_w))


@given(strategies.cases())
def test_images_of_a_batch_and_groups_are_independent(case):
    problem, x, w, b = case
    whole = reference.conv_transpose(x, w, b, problem.geometry, problem.groups)
    for image, result in zip(x, whole, strict=True):
        alone = reference.conv_transpose(image[None], w, b, problem.geometry, problem.groups)
        oracle.assert_same(alone[0], result, problem)
    parts = [
        reference.conv_transpose(part, own, None, problem.geometry)
        for part, own in zip(
            np.split(x, problem.groups, axis=1), np.split(w, problem.groups), strict=True
        )
    ]
    joined = np.concatenate(parts, axis=1)
    oracle.assert_same(
        joined, whole if b is None else whole - b.reshape(-1, *[1] * problem.rank), problem
    )


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_rounds_once(dtype):
    # 256 + 8 * 1 is 264 in the end, but bfloat16 forgets every single 1 on the way
    numpy_dtype = strategies.DTYPES[dtype]
    x = np.array([[[256.0], *[[1.0]] * 8]]).astype(numpy_dtype)
    w = np.ones((9, 1, 1), numpy_dtype)
    result = reference.conv_transpose(x, w, None, Geometry(1))
    assert result.dtype == numpy_dtype
    assert float(result[0, 0, 0]) == 264


def test_random_reals_are_close_to_the_oracle():
    generator = np.random.default_rng(0)
    geometry = Geometry((3, 4), stride=(2, 3), padding=((1, 0), 1), dilation=(3, 1))
    x, w = generator.normal(size=(2, 6, 5, 4)), generator.normal(size=(6, 2, 3, 4))
    expected = oracle.conv_transpose(x, w, None, geometry, 2)
    for form in FORMS:
        assert np.abs(form(x, w, None, geometry, 2) - expected).max() < 1e-13


@pytest.mark.parametrize("form", FORMS)
def test_an_impossible_size_is_refused(form):
    with pytest.raises(OutputSizeError, match="output size would be -1"):
        form(np.ones((1, 1, 1)), np.ones((1, 1, 3)), None, Geometry(3, padding=2))


def test_strides_of_any_length_cost_nothing():
    # the full result would have 2**40 positions, the output has two
    geometry = Geometry(2, stride=2**40, padding=2**39)
    result = reference.conv_transpose(np.ones((1, 1, 2)), np.ones((1, 1, 2)), None, geometry)
    assert result.shape == (1, 1, 2)
    assert not result.any()


def test_without_scipy_the_matrix_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"pip install 'polyphase\[scipy\]'"):
        reference.convolution_matrix(np.ones((1, 1, 2)), [2], Geometry(2))
