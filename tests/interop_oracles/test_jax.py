"""JAX and Flax compute what ``interop.jax`` and ``interop.flax`` say; so does our function.

JAX compiles every shape anew, and many problems at once far more quickly than one by one.
"""

import os
import random
from collections import Counter

# one of its simplifications ends the process for some shapes with strides, dilation and a negative
# padding (jaxlib 0.10.2: "Window dimensions do not match RHS shape")
os.environ["XLA_FLAGS"] = "--xla_disable_hlo_passes=algsimp"

import against
import flax.linen
import flax.nnx
import jax
import numpy as np
import oracle
import printed
import pytest
from jax.lax import ConvDimensionNumbers

from polyphase import Unsupported, interop

BATCH = 300
LAYOUTS = {
    1: [None, ("NCH", "OIH", "NCH"), ("HNC", "IHO", "CNH")],
    2: [None, ("NCHW", "OIHW", "NHWC"), ("NCWH", "HWIO", "NCHW"), ("HNWC", "WIHO", "CWNH")],
    3: [None, ("NCHWD", "OIHWD", "NHWDC")],
}


def problems(name, rank, count, seed):
    """Those that mean something, without bias, each with one of the layouts of its axes."""
    rng = random.Random(seed)
    while count:
        problem = against.problem(name, rng, rank)
        # where XLA gives wrong values there is nothing to compare
        if problem.refusal is None and not interop.jax.fault(problem.meaning.geometry):
            count -= 1
            yield problem, rng.choice(LAYOUTS[rank])


def arguments(problem, layout):
    """Arrays in the layout that was asked for, and the other keywords."""
    keywords = dict(problem.call.keywords)
    del keywords["kernel_size"]
    order = interop.jax.numbers(layout, problem.x.ndim - 2)
    target = "keras" if keywords["transpose_kernel"] else "jax"
    weight = interop.convert(problem.weight, source="torch", target=target)
    if layout is not None:
        spatial = [letter for letter in layout[1] if letter not in "OI"]
        weight = weight.transpose([[*spatial, "I", "O"].index(letter) for letter in layout[1]])
    return problem.x.transpose(np.argsort(order.lhs)), weight, keywords


def in_layout(result, layout):
    return result.transpose(np.argsort(interop.jax.numbers(layout, result.ndim - 2).out))


def run_all(calls, one):
    """What ``one(*arrays, keywords)`` gives for each of the calls ``(*arrays, keywords)``."""
    results = []
    for at in range(0, len(calls), BATCH):
        batch = calls[at : at + BATCH]
        keywords = [call[-1] for call in batch]

        def together(arrays, keywords=keywords):
            return [one(*call, told) for call, told in zip(arrays, keywords, strict=True)]

        results += jax.jit(together)([call[:-1] for call in batch])
    return [np.asarray(result) for result in results]


def one(x, weight, keywords):
    return jax.lax.conv_transpose(x, weight, **keywords)


@pytest.mark.parametrize(("rank", "count"), [(1, 1500), (2, 600), (3, 100)])
def test_values(rank, count):
    drawn = list(problems("jax", rank, count, seed=rank))
    calls = []
    for problem, layout in drawn:
        x, weight, keywords = arguments(problem, layout)
        calls.append((x, weight, keywords | {"dimension_numbers": layout}))
    for (problem, layout), theirs in zip(drawn, run_all(calls, one), strict=True):
        geometry = problem.meaning.geometry
        expected = oracle.conv_transpose(problem.x, problem.weight, None, geometry)
        oracle.assert_same(theirs, in_layout(expected, layout), (problem.call, layout))


@pytest.mark.parametrize(("rank", "count"), [(1, 100), (2, 50), (3, 10)])
def test_the_function_on_arrays(rank, count):
    for at, (problem, layout) in enumerate(problems("jax", rank, count, seed=10 + rank)):
        x, weight, keywords = arguments(problem, layout)
        expected = oracle.conv_transpose(problem.x, problem.weight, None, problem.meaning.geometry)
        told = layout
        if layout is not None and at % 3 == 0:
            told = jax.lax.conv_dimension_numbers(x.shape, weight.shape, layout)
            assert isinstance(told, ConvDimensionNumbers)
        ours = interop.jax.conv_transpose(x, weight, dimension_numbers=told, **keywords)
        oracle.assert_same(ours, in_layout(expected, layout), (problem.call, layout))


def test_where_too_much_is_removed_there_is_nothing():
    rng = random.Random(0)
    found = Counter()
    while found["nothing"] < 10 or found["refused"] < 3:
        problem = against.problem("jax", rng)
        if problem.refusal is None:
            continue
        try:
            result = one(*arguments(problem, None))
        except ValueError as error:
            found["refused" if "Negative padding is larger" in str(error) else "other"] += 1
        else:
            found["something" if result.size else "nothing"] += 1
    assert set(found) == {"nothing", "refused"}


def test_a_negative_padding_that_xla_gets_wrong():
    x, kernel = np.arange(1, 8, dtype=np.float32).reshape(1, 7, 1), np.ones((4, 1, 1), np.float32)
    wrong = 0
    for inputs in range(1, 5):
        arrays = np.repeat(x, inputs, axis=2), np.repeat(kernel, inputs, axis=1)
        theirs = jax.lax.conv_transpose(*arrays, (1,), [(-2, 2)])
        ours = interop.jax.conv_transpose(*arrays, (1,), [(-2, 2)])
        wrong += not np.array_equal(theirs, ours)
    # otherwise the fault is gone, and the refusal can go
    assert wrong
    meant = interop.jax.geometry((4,), (1,), [(-2, 2)]).geometry
    with pytest.raises(interop.NoExactCall, match="XLA gives wrong values for a negative padding"):
        interop.jax.parameters(meant)


def test_words_in_small_letters_are_refused():
    # JAX reads them as the padding of a convolution, which it has for stride 1 only
    x, kernel = np.ones((1, 4, 1), np.float32), np.ones((4, 1, 1), np.float32)
    assert not np.array_equal(
        jax.lax.conv_transpose(x, kernel, (1,), "same"),
        jax.lax.conv_transpose(x, kernel, (1,), "SAME"),
    )
    with pytest.raises(ValueError, match="padding must be 'SAME' or 'VALID', got 'same'"):
        interop.jax.geometry(4, 1, "same")


def test_the_way_back():
    def call(x, weight, groups, parameters):
        weights = interop.convert(weight, source="torch", target="jax")
        return against.first(one(against.last(x), weights, parameters))

    for rank, count in ((1, 100), (2, 40)):
        against.check_way_back("jax", random.Random(rank), rank, count, call)


def layer(x, weight, bias, parameters):
    """A Flax layer with these weights, on an input with channels first."""
    target = "keras" if parameters.get("transpose_kernel", False) else "flax"
    weights = interop.convert(weight, source="torch", target=target)

    def kernel(_, shape, __):
        assert shape == weights.shape
        return jax.numpy.asarray(weights)

    made = flax.nnx.ConvTranspose(
        x.shape[1],
        weight.shape[1],
        **parameters,
        use_bias=bias is not None,
        kernel_init=kernel,
        bias_init=lambda *_: jax.numpy.asarray(bias),
        rngs=flax.nnx.Rngs(0),
    )
    return jax.numpy.moveaxis(made(against.last(x)), -1, 1)


def linen_layer(x, weight, bias, parameters):
    """The same of Flax's older interface."""
    target = "keras" if parameters.get("transpose_kernel", False) else "flax"
    weights = {"kernel": interop.convert(weight, source="torch", target=target)}
    if bias is not None:
        weights["bias"] = bias
    made = flax.linen.ConvTranspose(weight.shape[1], **parameters, use_bias=bias is not None)
    return jax.numpy.moveaxis(made.apply({"params": weights}, against.last(x)), -1, 1)


@pytest.mark.parametrize("make", [layer, linen_layer])
def test_flax(make):
    for rank, count in ((1, 400), (2, 100)):
        seed = rank + 10 * (make is layer)
        drawn = [problem for problem, _ in problems("flax", rank, count, seed)]
        # weights are part of a layer, so they are no arguments of what is compiled
        calls = [(p.x, (p.weight, p.bias, p.call.keywords)) for p in drawn]
        results = run_all(calls, lambda x, rest: make(x, *rest))
        for problem, theirs in zip(drawn, results, strict=True):
            oracle.assert_same(theirs, problem.expected, problem.call)


def test_the_way_back_to_flax():
    def call(x, weight, groups, parameters):
        return np.asarray(layer(x, weight, None, parameters))

    against.check_way_back("flax", random.Random(0), 1, 60, call)


@pytest.mark.parametrize("padding", ["CAUSAL", "same", "valid", (1, 2), [(0, 1), (0, 1)]])
def test_what_flax_refuses(padding):
    made = flax.nnx.ConvTranspose(1, 1, (3,), 2, padding=padding, rngs=flax.nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"not implemented|Invalid padding"):
        made(np.ones((1, 3, 1)))
    with pytest.raises(ValueError, match="padding must be"):
        interop.flax.geometry((3,), 2, padding)


def test_flax_circular_is_no_crop():
    rngs = flax.nnx.Rngs(0)
    made = flax.nnx.ConvTranspose(1, 1, (3,), 2, padding="CIRCULAR", rngs=rngs, use_bias=False)
    made.kernel.set_value(jax.numpy.ones((3, 1, 1)))
    assert np.asarray(made(np.ones((1, 3, 1)))).ravel().tolist() == [2, 1, 2, 1, 2, 1]
    with pytest.raises(Unsupported, match="wraps the result around"):
        interop.flax.geometry((3,), 2, "CIRCULAR")


def test_what_convert_writes():
    def evaluate(call, x, weight, bias):
        return eval(call, {"jax": jax, **printed.names(x, weight, bias)})

    for rank, count in ((1, 60), (2, 30)):
        rng = random.Random(rank)
        found = printed.check("jax", evaluate, rng, rank, count)
        assert min(found["exact"], found["instead"]) > 0, found


def test_what_convert_writes_for_flax():
    def evaluate(call, x, weight, bias):
        known = {"flax": flax, "rngs": flax.nnx.Rngs(0)}
        known |= {"in_features": weight.shape[-2], "out_features": weight.shape[-1]}
        made = eval(call, known)
        assert made.kernel.shape == weight.shape
        made.kernel.set_value(jax.numpy.asarray(weight))
        if bias is not None:
            made.bias.set_value(jax.numpy.asarray(bias))
        return made(x)

    rng = random.Random(0)
    found = printed.check("flax", evaluate, rng, 1, 40)
    assert min(found["exact"], found["instead"]) > 0, found
