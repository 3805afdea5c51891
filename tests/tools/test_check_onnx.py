"""ONNX files are checked as the specification means them."""

import numpy as np
import pytest

from polyphase.tools.check import loading
from polyphase.tools.check.checking import check

onnx = pytest.importorskip("onnx", reason="onnx is an optional package, and is not installed")
from onnx import helper, numpy_helper  # noqa: E402

RANDOM = np.random.default_rng(0)


def weights(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def saved(path, nodes, constants, shape):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return str(path)


def decoder(path, padding, shape=("N", 2, "H", "W")):
    return saved(
        path,
        [
            helper.make_node("Conv", ["x", "c"], ["d"], "down", strides=[2, 2], pads=[1] * 4),
            helper.make_node("ConvTranspose", ["d", "u"], ["m"], "up", strides=[2, 2], **padding),
            helper.make_node("Concat", ["m", "x"], ["y"], "join", axis=1),
        ],
        {"c": weights(4, 2, 3, 3), "u": weights(4, 2, 3, 3)},
        shape,
    )


def report_of(path, *shapes):
    return check(loading.load(path, tuple((shape, "float32") for shape in shapes)))


def test_a_skip_that_does_not_fit(tmp_path):
    report = report_of(decoder(tmp_path / "a.onnx", {"pads": [1] * 4}), (1, 2, 16, 16))
    found = report.findings[0]
    assert (found.code, found.severity, found.layer) == ("skip-mismatch", "error", "up")
    assert "makes 15x15 and meets 16x16" in found.says
    assert report.walk.outputs == ((1, 4, 16, 16),)
    assert report.walk.multiply_adds == 4 * 64 * 18
    assert report.layers[0].evenness.measured


def test_same_padding_fits_even_sizes_alone(tmp_path):
    report = report_of(decoder(tmp_path / "a.onnx", {"auto_pad": "SAME_UPPER"}), (1, 2, 16, 16))
    by_code = {finding.code: finding for finding in report.findings}
    assert by_code["skip-mismatch"].severity == "warning"
    assert "multiple of 2" in by_code["skip-mismatch"].mend
    assert "1.13" in by_code["runtimes-differ"].says


def test_a_size_of_its_own_needs_no_input(tmp_path):
    path = decoder(tmp_path / "a.onnx", {"pads": [1, 1, 0, 0]}, (1, 2, 8, 8))
    assert report_of(path).walk.inputs == ((1, 2, 8, 8),)


def test_a_file_of_one_size_is_tried_at_no_other(tmp_path):
    path = decoder(tmp_path / "a.onnx", {"auto_pad": "SAME_UPPER"}, (1, 2, 8, 8))
    report = report_of(path)
    assert report.sizes_tried == ()
    assert {f.code for f in report.findings} <= {"uneven-overlap", "runtimes-differ"}
    with pytest.raises(loading.CheckError, match="input x is 1,2,8,8 in the file, got 1,2,9,8"):
        report_of(path, (1, 2, 9, 8))


def test_an_axis_that_is_open_is_tried_alone(tmp_path):
    path = decoder(tmp_path / "a.onnx", {"auto_pad": "SAME_UPPER"}, (1, 2, 8, "W"))
    report = report_of(path, (1, 2, 8, 8))
    assert {size[0] for size in report.sizes_tried} == {8}
    # the last is the next even one, which shows that being even is enough
    assert {size[1] for size in report.sizes_tried} == {*range(9, 25), 26}
    assert "skip-mismatch" in {f.code for f in report.findings}


def test_a_size_that_the_node_asks_for_is_no_fault(tmp_path):
    nodes = [helper.make_node("ConvTranspose", ["x", "u"], ["y"], "up", strides=[2, 2],
                              auto_pad="SAME_LOWER", output_shape=[15, 15])]  # fmt: skip
    path = saved(tmp_path / "a.onnx", nodes, {"u": weights(2, 2, 3, 3)}, ("N", 2, "H", "W"))
    report = report_of(path, (1, 2, 8, 8))
    assert report.walk.outputs == ((1, 2, 15, 15),)
    assert not {f.code for f in report.findings} & {"off-multiple", "output-size"}


def test_one_position_that_serves_a_whole_axis_fits(tmp_path):
    nodes = [
        helper.make_node("ConvTranspose", ["x", "u"], ["m"], "up", strides=[2, 2], pads=[1] * 4),
        helper.make_node("ReduceMean", ["m"], ["a"], axes=[3], keepdims=1),
        helper.make_node("Mul", ["m", "a"], ["y"]),
    ]
    path = saved(tmp_path / "a.onnx", nodes, {"u": weights(2, 2, 4, 4)}, ("N", 2, "H", "W"))
    assert report_of(path, (1, 2, 8, 6)).findings == ()


@pytest.mark.parametrize("change", ["cut", "text", "empty"])
def test_a_damaged_file_is_refused(tmp_path, change):
    path = tmp_path / "a.onnx"
    decoder(path, {"pads": [1] * 4})
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[change])
    with pytest.raises(loading.CheckError, match=r"a\.onnx is no readable ONNX model"):
        loading.load(str(path), ())


def test_wrong_numbers_of_inputs_and_axes_are_told(tmp_path):
    path = decoder(tmp_path / "a.onnx", {"pads": [1] * 4})
    with pytest.raises(loading.CheckError, match="takes 1 inputs"):
        report_of(path, (1, 2, 8, 8), (1, 2, 8, 8))
    with pytest.raises(loading.CheckError, match="has 4 axes"):
        report_of(path, (1, 2, 8))
    with pytest.raises(loading.CheckError, match="give --input"):
        report_of(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = decoder(tmp_path / "a.onnx", {"pads": [1] * 4})
    monkeypatch.setattr(loading, "ONNX_BYTES", 10)
    with pytest.raises(loading.CheckError, match="save_as_external_data"):
        loading.load(path, ())


@pytest.mark.parametrize("kind", ["branch", "quantised"])
def test_a_layer_that_cannot_be_looked_into_is_not_passed_over(tmp_path, kind):
    inner = helper.make_node("ConvTranspose", ["x", "u"], ["inner"], "up", strides=[2])
    branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("inner", 1, None)])
    node = {
        "branch": helper.make_node(
            "If", ["c"], ["y"], "gate", then_branch=branch, else_branch=branch
        ),
        "quantised": helper.make_node("QLinearConvTranspose", ["x", "u"], ["y"], "gate"),
    }[kind]
    constants = {"u": weights(2, 2, 4), "c": np.array(True)}
    path = saved(tmp_path / "a.onnx", [node], constants, (1, 2, 8))
    told = {
        "branch": "inside gate, of type If",
        "quantised": "gate is a quantised QLinearConvTranspose",
    }[kind]
    with pytest.raises(loading.CheckError, match=told):
        report_of(path)


def test_functions_of_the_file_are_looked_into(tmp_path):
    opset = [helper.make_opsetid("", 17)]
    body = [helper.make_node("ConvTranspose", ["a", "w"], ["b"], strides=[2])]
    function = helper.make_function("own", "Twofold", ["a", "w"], ["b"], body, opset)
    graph = helper.make_graph(
        [helper.make_node("Twofold", ["x", "u"], ["y"], domain="own")],
        "net",
        [helper.make_tensor_value_info("x", 1, (1, 2, 8))],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(weights(2, 2, 4), "u")],
    )
    opsets = [*opset, helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=[function])
    onnx.save(model, tmp_path / "a.onnx")
    assert report_of(str(tmp_path / "a.onnx")).walk.outputs == ((1, 2, 18),)
