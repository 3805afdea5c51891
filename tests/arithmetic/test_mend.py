"""Proposals for skips that do not fit, held against trying everything."""

import json
from dataclasses import replace
from functools import lru_cache
from itertools import product

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polyphase import Network, OutputSizeError
from polyphase.arithmetic import mend
from polyphase.arithmetic.layers import Conv, ConvTranspose, Pool, Resize, SkipIn, SkipOut


@st.composite
def networks(draw):
    """Small networks whose skips often do not fit."""
    windows = st.builds(
        lambda kind, k, s, p: kind(k, s, min(p, k // 2)),
        st.sampled_from(
            [
                lambda *p: Conv("d", *p),
                lambda *p: Pool("d", *p),
                lambda *p: Pool("d", *p, ceil_mode=True),
            ]
        ),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(0, 1),
    )
    ups = st.builds(
        lambda k, s, p, op, d: ConvTranspose("u", k, s, p, op % max(s, d), d),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from((1, 1, 2, 3)),
    ) | st.sampled_from([Resize("u", scale=2), Resize("u", scale=1.5), Conv("u", 3, padding=1)])
    layers = []
    for level in range(draw(st.integers(1, 3))):
        layers += [SkipOut(f"s{level}"), replace(draw(windows), name=f"d{level}")]
    for level in reversed(range(len(layers) // 2)):
        for step in range(draw(st.sampled_from((1, 1, 2)))):
            layers.append(replace(draw(ups), name=f"u{level}.{step}"))
        if draw(st.sampled_from((True, True, False))):
            layers.append(SkipIn(f"s{level}"))
    return Network(layers)


def fits(network, size, paddings=None):
    """Whether every skip fits, from the definition; with other output paddings where given."""
    stored = {}
    left = iter(paddings or ())
    for layer, step in steps_of(network):
        if paddings is not None and isinstance(layer, ConvTranspose):
            size = step.axis.output_size(size) + next(left)
        else:
            size = step.size(size)
        if size < 1 or (isinstance(layer, SkipIn) and stored[layer.name] != size):
            return False
        if isinstance(layer, SkipOut):
            stored[layer.name] = size
    return True


@lru_cache
def steps_of(network):
    return [(layer, *layer.steps(1)) for layer in network.layers]


def every_output_padding(network):
    """All legal output paddings of the transposed layers."""
    return product(
        *(
            range(max(layer.stride, layer.dilation))
            for layer in network.layers
            if isinstance(layer, ConvTranspose)
        )
    )


def grows_apart(network):
    """Whether some skip grows unlike what it meets, so that a larger input is no help for long."""
    return mend.Track(network.layers, tuple(step for _, step in steps_of(network))).rhythm()[1]


def reported(network, size):
    try:
        return network.report(size)
    except OutputSizeError:
        assume(False)


@settings(max_examples=100)
@given(networks(), st.integers(1, 40))
def test_output_paddings_are_proposed_exactly_where_some_exist(network, size):
    report = reported(network, size)
    assert report.fits == fits(network, size)
    serving = [p for p in every_output_padding(network) if fits(network, size, p)]
    if report.fits:
        assert report.output_paddings is None
        return
    assert (report.output_paddings is not None) == bool(serving)
    if report.output_paddings is not None:
        proposed = report.output_paddings.layers
        assert tuple(layer.output_padding[0] for layer in proposed) in serving
        mended = network.mended(report.output_paddings).report(size)
        assert mended.fits
        made = {row.layer.name: row.after for row in mended.rows}
        assert all(layer.output_size == made[layer.name] for layer in proposed)


@settings(max_examples=100)
@given(networks(), st.integers(1, 40))
def test_the_smallest_input_padding_is_proposed_exactly_where_one_exists(network, size):
    report = reported(network, size)
    if report.fits:
        assert report.input_padding is None
        return
    larger = next((n for n in range(size, size + 300) if fits(network, n)), None)
    if report.input_padding is None:
        assert larger is None
        return
    (padded,) = report.input_padding.input_size
    assert padded == larger
    ((begin, end),) = report.input_padding.padding
    assert begin + end == padded - size
    assert 0 <= end - begin <= 1


@settings(max_examples=80)
@given(networks(), st.integers(1, 20))
def test_both_together_are_proposed_where_neither_serves_alone(network, size):
    report = reported(network, size)
    alone = report.fits or report.output_paddings or report.input_padding
    if alone:
        assert report.together is None
        return
    served = next(
        (
            n
            for n in range(size, size + 60)
            if any(fits(network, n, p) for p in every_output_padding(network))
        ),
        None,
    )
    if report.together is None:
        assert served is None or grows_apart(network)
        return
    padding, outputs = report.together
    assert padding.input_size == (served,)
    assert network.mended(outputs).report(served).fits


@settings(max_examples=100)
@given(networks(), st.integers(1, 20))
def test_the_sizes_that_fit_repeat(network, size):
    report = reported(network, size)
    assume(not report.fits)
    (fitting,) = report.fitting
    if fitting is not None:
        for n in range(size, size + 150):
            assert fits(network, n) == (n % fitting.period in fitting.remainders)
        # no shorter period would do
        for shorter in range(1, fitting.period):
            if fitting.period % shorter == 0:
                shifted = {(r + shorter) % fitting.period for r in fitting.remainders}
                assert shifted != set(fitting.remainders)


@settings(max_examples=100)
@given(networks())
def test_plain_data_comes_back(network):
    data = json.loads(json.dumps(network.to_dicts()))
    assert Network.from_dicts(data) == network
    try:
        report = network.report(17)
    except OutputSizeError:
        return
    told = json.loads(json.dumps(report.to_dict()))
    assert told["fits"] == report.fits
    assert [row["layer"] for row in told["rows"]] == [layer.name for layer in network.layers]
    assert told["output_size"] == [report.output_size]


def test_a_layer_keeps_its_output_padding_where_no_skip_depends_on_it():
    report = Network(
        [
            SkipOut("a"),
            Pool("p", 2),
            ConvTranspose("u", 2, 2),
            SkipIn("a"),
            ConvTranspose("v", 4, 3, output_padding=2),
        ]
    ).report(13)
    chosen = [(layer.name, layer.output_padding) for layer in report.output_paddings.layers]
    assert chosen == [("u", (1,)), ("v", (2,))]


def test_a_skip_out_of_the_decoder_is_met_by_backtracking():
    # with what the first layer has, the second makes 1 to 3 of the 5 that it should
    network = Network(
        [
            ConvTranspose("first", 3, 4, 1),
            SkipOut("late"),
            Conv("down", 3, 3),
            ConvTranspose("second", 1, 3),
            SkipIn("late"),
        ]
    )
    report = network.report(2)
    assert report.misfits[0].short == (4,)
    chosen = [(layer.output_size, layer.output_padding) for layer in report.output_paddings.layers]
    assert chosen == [((6,), (1,)), ((6,), (2,))]
