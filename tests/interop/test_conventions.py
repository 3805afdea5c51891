"""Every convention against the formulas of its table, and the way there and back, without packages.

The real packages are asked by ``make test-interop``.
"""

import random
from itertools import product
from math import ceil

import foreign
import pytest

from polyphase import Geometry, GeometryError, Unsupported, interop

NAMES = list(interop.FRAMEWORKS)
ALL_RANKS = [(name, r) for name in NAMES for r in interop.FRAMEWORKS[name].CONVENTION.ranks]


def setting(name, keywords):
    """How many words of the table's setting these keywords fulfil: the rule that applies."""
    given = {key for key, value in keywords.items() if value is not None}
    word = keywords.get("auto_pad", keywords.get("pad_type", keywords.get("padding")))
    if name in ("torch", "r_torch"):
        return "padding, output_padding" if "output_size" not in given else None
    if name == "onnx":
        word = keywords.get("auto_pad", "NOTSET")
        if word == "SAME_UPPER":
            return "SAME_UPPER, where O = n*s; SAME_UPPER with output_shape"
        if word == "SAME_LOWER" or "output_shape" in given:
            return "SAME_LOWER, where O = n*s; output_shape with any other auto_pad"
        return "VALID" if word == "VALID" else "pads, output_padding"
    if name == "openvino":
        if "output_shape" in given:
            return f"{word} with output_shape"
        return word if word == "explicit" else "valid, same_upper, same_lower"
    if name == "keras":
        return f"{word} with output_padding" if "output_padding" in given else word
    if name in ("tensorflow", "tflite"):
        return word if isinstance(word, str) else "(lo, hi), two axes only"
    if name in ("jax", "flax"):
        if isinstance(word, str):
            return word
        consistent = (
            " with use_consistent_padding" if keywords.get("use_consistent_padding") else ""
        )
        return f"(lo, hi){consistent}"
    if name == "coreml":
        return f"{word} with output_shape" if "output_shape" in given else word
    if name == "mlx":
        return "padding up to e - 1"
    if name == "paddle":
        if "output_size" in given:
            return "output_size, with a as above"
        if isinstance(word, str):
            return {"S": "SAME, which makes the dilation 1", "V": "VALID"}[word.upper()[0]]
        return "padding, output_padding"
    if name == "mxnet":
        return "target_shape" if any(keywords.get("target_shape") or ()) else "pad, adj"
    return "pad"


def letters(name, keywords, size, kernel, at):
    """The letters of the formulas for axis ``at``, and the output size if it is given."""
    rank = len(size)

    def entry(*names, default=0):
        for key in names:
            value = keywords.get(key)
            if value is not None:
                return value[at] if isinstance(value, list | tuple) else value
        return default

    n, k = size[at], kernel[at]
    s = entry("stride", "strides", ("stride_h", "stride_w")[at % 2], default=1)
    d = entry(
        "dilation",
        "dilations",
        "dilate",
        "dilation_rate",
        "rhs_dilation",
        "kernel_dilation",
        default=1,
    )
    op = entry("output_padding", "adj")
    begin, end = ends(name, keywords, at, rank)
    e = (k - 1) * d + 1
    full = (n - 1) * s + e
    spatial = {"tensorflow": 1, "tflite": 1, "coreml": 2}.get(name, 0)
    for key in ("output_shape", "output_size", "target_shape"):
        if keywords.get(key) is not None:
            out = keywords[key][spatial + at]
            break
    else:
        out = n * s
    groups = keywords.get("groups", 1)
    found = {
        "n": n,
        "k": k,
        "s": s,
        "d": d,
        "p": begin,
        "begin": begin,
        "end": end,
        "lo": begin,
        "hi": end,
        "op": op,
    }
    return found | {"e": e, "F": full, "O": out, "T": full + op - out, "groups": groups}


def ends(name, keywords, at, rank):
    """What the keywords have at both ends of an axis."""
    if name == "openvino":
        return keywords["pads_begin"][at], keywords["pads_end"][at]
    value = keywords.get("pads", keywords.get("pad", keywords.get("padding")))
    if value is None or isinstance(value, str):
        return 0, 0
    if isinstance(value, int):
        return value, value
    if name == "onnx":
        return value[at], value[rank + at]
    if name == "tensorflow":
        return value[1 + at]
    if name == "paddle" and len(value) == rank + 2 and not isinstance(value[0], int):
        return value[2 + at]
    if len(value) == 2 * rank and name in ("paddle", "coreml"):
        return value[2 * at], value[2 * at + 1]
    return value[at] if isinstance(value[at], tuple) else (value[at], value[at])


def by_formula(rule, given, begin=None):
    functions = {"max": max, "ceil": ceil, "a": begin, "__builtins__": {}}
    a = eval(rule.begin, functions, given)
    return a, eval(rule.end, functions, given | {"a": a})


@pytest.mark.parametrize(("name", "rank"), ALL_RANKS)
def test_the_formulas_of_the_table_are_what_is_computed(name, rank):
    module = interop.FRAMEWORKS[name]
    rules = {rule.setting: rule for rule in module.CONVENTION.rules}
    rng = random.Random(rank)
    seen = set()
    for _ in range(800):
        call = foreign.draw(name, rng, rank)
        try:
            found = module.geometry(**call.keywords).geometry
        except (GeometryError, Unsupported):
            continue
        told = setting(name, call.keywords)
        if told is None:
            continue
        seen.add(told)
        for at, crop in enumerate(found.crops):
            given = letters(name, call.keywords, call.size, call.kernel, at)
            begin = None
            if "a as above" in told:
                above = {k: v for k, v in call.keywords.items() if k != "output_size"}
                rule = rules[setting(name, above)]
                begin, _ = by_formula(rule, given)
                if "dilation 1" in rule.setting:
                    given["F"] = (given["n"] - 1) * given["s"] + given["k"]
            assert crop == by_formula(rules[told], given, begin), (call, told, at)
    if rank != 2:
        rules.pop("(lo, hi), two axes only", None)
    assert seen == set(rules)


@pytest.mark.parametrize(("name", "rank"), ALL_RANKS)
def test_there_and_back(name, rank):
    module = interop.FRAMEWORKS[name]
    rng = random.Random(rank)
    exact = 0
    for _ in range(400):
        geometry = foreign.geometry_of(rng, rank)
        size = foreign.several(rng, rank, 1, 6)
        try:
            geometry.output_size(size)
        except GeometryError:
            continue
        more = context(module, size)
        try:
            parameters = module.parameters(geometry, **more)
        except interop.NoExactCall as error:
            check_instead(module, error.instead, geometry, size)
            continue
        exact += 1
        meant = understood(module, parameters, geometry, size)
        assert meant.crops == geometry.crops
        assert (meant.kernel_size, meant.stride) == (geometry.kernel_size, geometry.stride)
        assert dilations(meant) == dilations(geometry)
    assert exact > 10


def context(module, size):
    if not module.CONVENTION.needs_sizes:
        return {}
    return {"input_size": size, "batch": 1, "out_channels": 1}


def understood(module, parameters, geometry, size):
    """What the framework's own reading makes of its parameters."""
    given = dict(parameters)
    kernel = module.CONVENTION.names["kernel_size"]
    given.setdefault(kernel, geometry.kernel_size)
    if module.CONVENTION.needs_sizes:
        given["input_size"] = size
    return module.geometry(**given).geometry


def dilations(geometry):
    """Those that matter: a single tap has no distance to another."""
    return [axis.dilation for axis in geometry.axes if axis.kernel_size > 1]


def check_instead(module, instead, geometry, size):
    """The call exists, and with its crop it removes what was asked for."""
    spread = geometry
    if instead.spread_taps:
        spread = Geometry(tuple(axis.extent for axis in geometry.axes), geometry.stride)
    meant = understood(module, instead.parameters, spread, size)
    assert [axis.extent for axis in meant.axes] == [axis.extent for axis in geometry.axes]
    together = [
        (a + begin, b + end) for (a, b), (begin, end) in zip(meant.crops, instead.crop, strict=True)
    ]
    assert together == list(geometry.crops)


# what each framework can be told on one axis, for the search below
EVERYTHING = {
    "torch": lambda k, s, d: {
        "stride": [s], "dilation": [d], "padding": range(5), "output_padding": range(max(s, d))
    },
    "onnx": lambda k, s, d: {
        "strides": [[s]], "dilations": [[d]], "pads": product(range(5), range(5)),
        "output_padding": [[op] for op in range(max(s, d))],
    },
    "openvino": lambda k, s, d: {
        "strides": [[s]], "dilations": [[d]], "pads_begin": range(5), "pads_end": range(5),
        "output_padding": range(8),
    },
    "keras": lambda k, s, d: {
        "strides": [s], "dilation_rate": [d], "padding": ["valid", "same"],
        "output_padding": [None, *range(s)],
    },
    "coreml": lambda k, s, d: {
        "strides": [[s]], "dilations": [[d]], "pad_type": ["same", "custom"],
        "pad": product(range(5), range(5)),
    },
    "mlx": lambda k, s, d: {
        "stride": [s], "dilation": [d], "padding": range(min(5, (k - 1) * d + 1)),
        "output_padding": range(10),
    },
    "paddle": lambda k, s, d: {
        "stride": [s], "dilation": [d], "padding": map(list, product(range(5), range(5))),
        "output_padding": range(s),
    },
    "mxnet": lambda k, s, d: {"stride": [s], "dilate": [d], "pad": range(5), "adj": range(s)},
    "caffe": lambda k, s, d: {"stride": [s], "dilation": [d], "pad": range(5)},
}  # fmt: skip
EVERYTHING["r_torch"] = EVERYTHING["torch"]


@pytest.mark.parametrize("name", EVERYTHING)
def test_it_refuses_exactly_what_the_framework_cannot_say(name):
    module = interop.FRAMEWORKS[name]
    names = module.CONVENTION.names
    for k, s, d in product((1, 2, 3, 4), (1, 2, 3), (1, 2)):
        if name == "keras" and s > 1 and d > 1 and k > 1:
            continue
        choices = EVERYTHING[name](k, s, d)
        reachable = {
            module.geometry(
                **{names["kernel_size"]: k}, **dict(zip(choices, values, strict=True))
            ).geometry.crops
            for values in product(*choices.values())
        }
        for crop in product(range(-2, 5), range(-4, 5)):
            geometry = Geometry(k, s, padding=[crop], dilation=d)
            ones = k == s == 1 and sum(crop) == 0 and any(crop)
            try:
                module.parameters(geometry)
            except interop.NoExactCall:
                possible = False
            else:
                possible = True
            # openvino's CPU plugin ignores these pads, so they are not given out
            faulty = name == "openvino" and ones
            assert possible == ((crop,) in reachable and not faulty), (k, s, d, crop)


@pytest.mark.parametrize("name", ["jax", "flax"])
def test_it_refuses_nothing_but_groups_and_a_fault(name):
    module = interop.FRAMEWORKS[name]
    rng = random.Random(0)
    refused = 0
    for rank in (1, 2, 3) * 50:
        geometry = foreign.geometry_of(rng, rank)
        try:
            parameters = module.parameters(geometry)
        except interop.NoExactCall as error:
            # XLA's fault: a negative padding of an input that is as it was
            assert all(axis.stride == axis.dilation == 1 for axis in geometry.axes)
            assert any(max(axis.begin, axis.end) >= axis.extent for axis in geometry.axes)
            check_instead(module, error.instead, geometry, None)
            refused += 1
            continue
        assert understood(module, parameters, geometry, None).crops == geometry.crops
    assert refused > 0
    with pytest.raises(interop.NoExactCall, match="it has 2 groups, and the call knows none"):
        module.parameters(geometry, 2)


@pytest.mark.parametrize("word", ["SAME", "VALID"])
def test_tensorflow_refuses_exactly_what_its_words_cannot_say(word):
    for n, k, s, d in product((1, 2, 3), (1, 2, 3, 4), (1, 2, 3), (1, 2)):
        e = (k - 1) * d + 1
        # by its own definition: sizes that the convolution maps back to n
        forward = {
            "SAME": lambda size, s=s, e=e: ceil(size / s),
            "VALID": lambda size, s=s, e=e: ceil((size - e + 1) / s),
        }
        possible = {}
        for size in range(1, 20):
            if forward[word](size) == n:
                total = max((n - 1) * s + e - size, 0) if word == "SAME" else 0
                possible[total // 2, (n - 1) * s + e - size - total // 2] = size
        for crop in product(range(-1, 5), range(-4, 6)):
            geometry = Geometry((k, 1, 1), (s, 1, 1), padding=[crop, 0, 0], dilation=(d, 1, 1))
            more = {"input_size": (n, 1, 1), "batch": 1, "out_channels": 1}
            try:
                found = interop.tensorflow.parameters(geometry, **more)
            except (interop.NoExactCall, GeometryError):
                assert crop not in possible or (n - 1) * s + e - sum(crop) < 1
                continue
            if found["padding"] == word:
                assert found["output_shape"][1] == possible[crop]


def test_the_formulas_can_fail():
    rule = interop.keras.CONVENTION.rules[2]
    given = letters("keras", {"strides": 2, "padding": "same"}, (5,), (3,), 0)
    assert by_formula(rule, given) == interop.keras.geometry(3, 2, "same").geometry.crops[0]
    assert by_formula(rule._replace(begin="1"), given) != (0, 1)
