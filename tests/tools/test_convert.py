"""``polyphase convert``: what it prints, and what it refuses."""

import ast
import json
import random

import foreign
import numpy as np
import pytest

from polyphase import interop
from polyphase.cli import main
from polyphase.tools import convert, weight_files


def run(capsys, *words):
    code = main(["convert", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_names_are_those_of_the_modules():
    assert list(interop.FRAMEWORKS) == convert.NAMES


@pytest.mark.parametrize("target", convert.NAMES)
def test_every_framework_answers(capsys, target):
    words = ["--to", target, "-k", "4x4", "-s", "2", "-p", "1", "--input-size", "8", "--json"]
    code, out, _ = run(capsys, *words)
    [call] = json.loads(out)["calls"]
    assert call["framework"] == target
    # everyone can say this, and the weights are told
    assert (code, call["exact"], call["reason"]) == (0, True, None)
    assert call["weights"].startswith(("as they are", "numpy.transpose(weight", "numpy.flip("))
    assert call["arrays"] in ("channels first", "channels last")
    assert call["channel_axis"] == interop.channel_axis(target, 2)
    assert "groups=" not in call["write"][0]


# besides the defaults: how JAX and Flax can be told that the weights lie otherwise
LYING = [
    ("jax", {"transpose_kernel": True}, (2, 3, 1, 0), False),
    ("flax", {"transpose_kernel": True}, (2, 3, 1, 0), False),
    ("jax", {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}, (1, 0, 2, 3), True),
    (
        "jax",
        {"dimension_numbers": ("NCHW", "WOHI", "NCHW"), "transpose_kernel": True},
        (2, 0, 3, 1),
        False,
    ),
]


def meaning(source, kernel, **more):
    module = interop.FRAMEWORKS[source]
    if module.CONVENTION.needs_sizes:
        more |= {"input_size": (4, 4), "output_shape": [1, 5, 6, 1], "padding": "VALID"}
    strides = {"strides": 1} if source in ("tensorflow", "jax") else {}
    return module.geometry(
        kernel, **({"padding": "VALID"} if source == "jax" else {}), **strides, **more
    )


def as_written(translation, weight):
    text = translation.notes["weights"]
    return weight if text == "as they are" else eval(text, {"numpy": np, "weight": weight})


@pytest.mark.parametrize("source", convert.NAMES)
@pytest.mark.parametrize("target", ["torch", "keras", "mlx", "jax"])
def test_the_written_weights_are_right(source, target):
    translation = convert.translate(meaning(source, (2, 3)), source, target)
    original = np.arange(4 * 5 * 2 * 3).reshape(4, 5, 2, 3)
    theirs = interop.convert(original, source="torch", target=source)
    expected = interop.convert(original, source="torch", target=target)
    assert np.array_equal(as_written(translation, theirs), expected), translation.notes


@pytest.mark.parametrize(("source", "more", "order", "flip"), LYING)
@pytest.mark.parametrize("target", ["torch", "keras", "mlx", "jax"])
def test_weights_that_lie_otherwise(tmp_path, source, more, order, flip, target):
    # ``order`` puts PyTorch's axes where the parameters say that they are
    original = np.arange(4 * 5 * 2 * 3).reshape(4, 5, 2, 3)
    theirs = np.flip(original, (2, 3)) if flip else original
    theirs = theirs.transpose(order)
    meant = meaning(source, (2, 3), **more)
    expected = interop.convert(original, source="torch", target=target)
    assert np.array_equal(as_written(convert.translate(meant, source, target), theirs), expected)
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(first, up=theirs)
    weight_files.convert(first, second, source, target, meant)
    assert np.array_equal(weight_files.read(second)["up"], expected)


@pytest.mark.parametrize(
    ("line", "crops"),
    [
        ("--from keras -k 3 -s 2 -p same", [[0, 1]]),
        ("--from keras -k 3x3 -s 2 -p same -o 0", [[1, 1], [1, 1]]),
        ("--from onnx -k 3 -s 2 auto_pad=SAME_LOWER", [[1, 0]]),
        ("--from onnx -k 3x3 strides=[2,2] pads=[1,1,0,0]", [[1, 0], [1, 0]]),
        ("--from jax -k 3 -s 2 -p 1,2", [[1, 0]]),
        ("--from jax -k 3 -s 2 padding=[(1,2)]", [[1, 0]]),
        (
            "--from tensorflow -k 3x3 -s 2 -p SAME --input-size 6 output_shape=[1,12,12,8]",
            [[0, 1], [0, 1]],
        ),
        ("--from mlx -k 3 -s 2 -p 1 -o 1", [[1, 0]]),
        ("--from torch -k 3 -s 2x2 -p 1 -d 2x1", [[1, 1], [1, 1]]),
    ],
)
def test_what_is_read(capsys, line, crops):
    _, out, _ = run(capsys, *line.split(), "--to", "caffe", "--json")
    assert json.loads(out)["crops"] == crops


@pytest.mark.parametrize(
    "line",
    ["--from torch groups=2", "--from onnx group=2", "--from mxnet num_group=2", "-g 2"],
)
def test_groups_by_any_name(capsys, line):
    _, out, _ = run(capsys, *line.split(), "-k", "3", "--to", "caffe")
    assert "group: 2" in out


def test_what_the_call_does_not_say_is_noted(capsys):
    _, out, _ = run(capsys, "-k", "3", "--to", "openvino")
    assert out.endswith("  arrays: channels first\n  bias: add it to the result\n")
    _, out, _ = run(capsys, "-k", "3", "--to", "keras")
    assert out.endswith("  arrays: channels last\n")
    # the instruction has it
    _, out, _ = run(capsys, "--from", "openvino", "-k", "3", "-o", "4", "--to", "torch")
    assert "  add the bias\n" in out
    assert "bias:" not in out


@pytest.mark.parametrize("target", convert.NAMES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_printed_line_of_code_runs(target, rank):
    convention, rng, cuts = interop.FRAMEWORKS[target].CONVENTION, random.Random(rank), 0
    for _ in range(60):
        geometry = foreign.geometry_of(rng, rank)
        meant = interop.Meaning(geometry, interop.torch.LAYOUT.permutation(rank), False)
        found = convert.translate(meant, "torch", target, 1, (9,) * rank)
        full = [
            axis.full_size(9) + max(-axis.begin, 0) + max(-axis.end, 0) for axis in geometry.axes
        ]
        wanted = [axis.output_size(9) for axis in geometry.axes]
        for step in found.steps:
            if not step.startswith("y = y["):
                # R writes what Python reads, too
                if step.startswith("y = "):
                    ast.parse(step)
                continue
            cuts += 1
            last = convention.channels_last
            y = np.zeros((2, *full, 5) if last else (2, 5, *full))
            shape = eval(step.removeprefix("y = "), {"y": y}).shape
            assert shape == ((2, *wanted, 5) if last else (2, 5, *wanted)), (geometry, step)
    # those two can remove nearly everything by themselves
    assert cuts or not convention.slices or target in ("jax", "flax")


def test_without_a_target_all_others_answer(capsys):
    code, out, _ = run(capsys, "-k", "3", "-s", "2", "-p", "1", "-o", "1")
    assert code == 1
    assert "Keras 3 has no exact call" in out
    assert "MLX:\n  mx.conv_transpose1d(x, weight, stride=2, padding=1, output_padding=1)" in out
    # two need the input size, and say so in their places
    told = " ".join(out.split())
    for name in ("TensorFlow", "TensorFlow Lite"):
        assert f"{name} has the output size in its call: add --input-size, such as" in told
    assert told.count("--input-size 8.") == 2
    _, out, _ = run(capsys, "-k", "3", "-s", "2", "--input-size", "5")
    assert "TensorFlow:" in out
    assert "--input-size" not in out


def test_what_is_missing_is_no_refusal(capsys):
    code, out, _ = run(capsys, "-k", "4x4", "-s", "2", "-p", "1", "--json")
    calls = {call["framework"]: call for call in json.loads(out)["calls"]}
    assert list(calls) == [name for name in convert.NAMES if name != "torch"]
    assert code == 0
    for name in ("tensorflow", "tflite"):
        assert calls[name]["exact"] is None
        assert calls[name]["reason"].endswith("add --input-size, such as --input-size 8x8")


def test_prose_is_wrapped_and_calls_are_not(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    _, out, _ = run(capsys, "--to", "keras", "-k", "3x3", "-s", "2", "-p", "1", "-o", "1")
    prose, _, calls = out.partition("Exact instead:")
    assert max(map(len, prose.splitlines()[1:])) <= 50
    assert "keras.layers.Conv2DTranspose(filters, kernel_size=(3, 3), strides=(2, 2))" in calls


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-k", "3", "-p", "x"], "padding must be an int, got 'x'"),
        (
            ["-k", "3x3", "-p", "0,1"],
            "torch removes one number from both ends, got 0,1x0,1: polyphase.nn and polyphase."
            "functional take it; the same in the terms of torch: y = torch.nn.functional."
            "conv_transpose2d(x, weight, bias); y = y[:, :, :-1, :-1]; to convert it, use --from "
            "onnx with pads=[0,0,1,1] for -p",
        ),
        (["-k", "3", "-p", "-1,2"], "add zeros at the two ends of the spatial axes: 1 and 0; y ="),
        (["-k", "3", "-s", "2", "-p", "1,0"], "(x, weight, bias, stride=2, padding=1, output_pad"),
        (["-k", "3", "-s", "2", "-p", "same"], "got same: polyphase.nn and polyphase.functional"),
        (["--from", "mlx", "-k", "3", "-p", "0,1"], "y = mx.conv_transpose1d(x, weight); y = y[:"),
        (["--from", "keras", "-k", "3", "-p", "1"], "padding must be 'valid' or 'same', got '1'"),
        (["-k", "3", "-s", "0"], "stride must be at least 1, got 0"),
        (["-k", "3", "foo=1"], "torch has no foo: it has kernel_size, stride"),
        (["-k", "3", "foo"], "'foo' is not NAME=VALUE, such as auto_pad=VALID"),
        ([], "torch needs kernel_size: give it as an option or by name"),
        (["--from", "onnx", "-k", "3", "-p", "1"], "onnx has no single parameter for --padding"),
        (["--to", "tensorflow", "-k", "3"], "tensorflow has the output size in its call: add --in"),
        (
            ["--to", "tensorflow", "-k", "3x3", "--input-size", "1x2x3"],
            "input_size has 3 values for 2",
        ),
        (["--from", "theano", "-k", "3"], "'theano' is not one of 'torch', 'onnx'"),
        (["--from", "keras", "-k", "3", "-g", "2"], "keras has no groups: leave --groups out"),
        (["-k", "3", "groups=0"], "groups must be at least 1, got 0"),
        (["-k", "3", "--weights", "a.npz"], "--weights needs --out and --to"),
        (["-k", "3", "--weights", "a.npz", "--out", "b.npz"], "--weights needs --out and --to"),
        (
            ["--from", "mlx", "-k", "1", "-p", "1"],
            "padding 1 is more than dilation*(kernel_size-1)",
        ),
    ],
)
def test_bad_input_is_one_line(capsys, words, text):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1
