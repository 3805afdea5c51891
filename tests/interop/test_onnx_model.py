"""Rewriting of ONNX models without running them, which is what ``make test-interop`` does."""

import against
import numpy as np
import onnx
import onnx_models
import pytest
from onnx import helper
from onnx.parser import parse_model

from polyphase import interop


def node(attributes, x="float[1,1,6] x", w="float[1,1,3] w", opset=22):
    text = f"y = ConvTranspose <{attributes}> (x, w)" if attributes else "y = ConvTranspose (x, w)"
    return parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}]> up ({x}, {w}) => (float[] y) {{ {text} }}'
    )


def transposed(model):
    return [
        onnx_models.attributes(node) for node in model.graph.node if node.op_type == "ConvTranspose"
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('strides = [2], auto_pad = "SAME_UPPER"', {"strides": [2], "pads": [0, 1]}),
        ('strides = [2], auto_pad = "SAME_LOWER"', {"strides": [2], "pads": [1, 0]}),
        ('strides = [2], auto_pad = "VALID"', {"strides": [2], "pads": [0, 0]}),
        ("strides = [2], output_shape = [11]", {"strides": [2], "pads": [1, 1]}),
        ("strides = [2], pads = [1, 1], output_padding = [1]", {"strides": [2], "pads": [1, 0]}),
        (
            'strides = [5], auto_pad = "SAME_UPPER"',
            {"strides": [5], "pads": [0, 0], "output_padding": [2]},
        ),
        (
            'strides = [2], dilations = [2], group = 1, auto_pad = "SAME_UPPER"',
            {"strides": [2], "dilations": [2], "group": 1, "pads": [1, 2]},
        ),
    ],
)
def test_the_attributes(before, after):
    rewritten, [change] = interop.onnx.rewrite(node(before))
    assert change.after == after
    assert transposed(rewritten) == [after]
    onnx.checker.check_model(rewritten, full_check=True)


@pytest.mark.parametrize(
    "attributes", ["", "strides = [2]", "strides = [2], pads = [1, 0]", 'auto_pad = "NOTSET"']
)
def test_what_is_plain_stays(attributes):
    model = node(attributes)
    rewritten, changes = interop.onnx.rewrite(model)
    assert changes == ()
    assert rewritten == model


def test_the_original_is_not_touched():
    model = node('auto_pad = "SAME_UPPER", strides = [2]')
    before = model.SerializeToString()
    interop.onnx.rewrite(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            node("output_shape = [9]", x="float[1,1,N] x"),
            "output_shape means nothing as long as the input size is not known",
        ),
        (
            node('auto_pad = "SAME_UPPER"', w="float[1,1,K] w"),
            "the kernel size is not known: give kernel_shape",
        ),
        (node('auto_pad = "VALID", pads = [1, 1]'), "pads cannot be used with auto_pad 'VALID'"),
        (node("pads = [9, 9]"), "output size would be -10"),
    ],
)
def test_what_cannot_be_known_is_left_and_told(model, reason):
    rewritten, [change] = interop.onnx.rewrite(model)
    assert change.after is None
    assert change.reason.startswith(reason)
    assert rewritten == model


def test_sizes_run_through_the_whole_model():
    # onnx infers 13 after the first node, where the specification has 12
    model = parse_model(
        """<ir_version: 10, opset_import: ["" : 22]>
        up (float[1,1,6] x, float[1,1,3] w) => (float[1,1,M] y) {
          a = ConvTranspose <strides = [2], auto_pad = "SAME_UPPER", output_padding = [1]> (x, w)
          b = Relu (a)
          y = ConvTranspose <strides = [2], output_shape = [23]> (b, w)
        }"""
    )
    rewritten, changes = interop.onnx.rewrite(model)
    assert [change.after["pads"] for change in changes] == [[1, 0], [1, 1]]
    assert onnx_models.inferred(rewritten) == (1, 1, 23)
    # what is known now is written down
    assert [d.dim_value for d in rewritten.graph.output[0].type.tensor_type.shape.dim] == [1, 1, 23]


def test_a_wrong_shape_that_was_written_down_is_replaced():
    model = node('auto_pad = "SAME_UPPER", strides = [2], output_padding = [1]')
    inferred = onnx.shape_inference.infer_shapes(model)
    assert inferred.graph.output[0].type.tensor_type.shape.dim[2].dim_value == 13
    rewritten = interop.onnx.rewrite(inferred).model
    assert onnx_models.inferred(rewritten) == (1, 1, 12)


def test_sizes_that_stay_open_keep_their_names():
    model = node('auto_pad = "SAME_UPPER", strides = [2]', x="float[B,1,N] x")
    model.graph.output[0].type.CopyFrom(
        helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["B", 1, "2N"])
    )
    rewritten = interop.onnx.rewrite(model).model
    assert [
        d.dim_param or d.dim_value for d in rewritten.graph.output[0].type.tensor_type.shape.dim
    ] == ["B", 1, "2N"]


def test_nodes_inside_branches_are_found():
    branch = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["z"], strides=[2], auto_pad="SAME_UPPER")],
        "branch",
        [],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 1, None])],
    )
    model = onnx_models.model(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        {"x": [1, 1, 6]},
        {"y": 3},
        {"w": np.ones((1, 1, 3), np.float32), "c": np.array(True)},
    )
    rewritten, changes = interop.onnx.rewrite(model)
    assert [change.after for change in changes] == [{"strides": [2], "pads": [0, 1]}] * 2
    [outer] = rewritten.graph.node
    for attribute in outer.attribute:
        [inner] = attribute.g.node
        assert onnx_models.attributes(inner) == {"strides": [2], "pads": [0, 1]}


def test_nodes_inside_functions_are_told():
    function = helper.make_function(
        "own",
        "up",
        ["x", "w"],
        ["y"],
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER")],
        [helper.make_opsetid("", 22)],
    )
    model = node("strides = [2]")
    model.functions.append(function)
    [change] = interop.onnx.rewrite(model).changes
    assert change.reason == "it is inside the function up: inline the functions first"


def test_the_first_version_may_name_batch_and_channels():
    model = node("strides = [2], output_shape = [1, 1, 12]", opset=1)
    [change] = interop.onnx.rewrite(model).changes
    assert change.after == {"strides": [2], "pads": [1, 0]}
    assert "the text of this opset contradicts itself about the odd position" in (
        change.disagreements
    )


def test_what_no_pad_can_say_becomes_a_pad_node_before_the_bias():
    problem = against.Problem(
        call=against.Call(
            {"strides": [1], "dilations": [4], "output_padding": [3], "kernel_shape": [2]},
            (5,),
            (2,),
        ),
        x=np.ones((1, 1, 5), np.float32),
        weight=np.ones((1, 1, 2), np.float32),
        bias=np.ones(1, np.float32),
        groups=1,
        meaning=None,
        expected=None,
        refusal=None,
    )
    model = onnx_models.one_node(problem)
    rewritten, [change] = interop.onnx.rewrite(model)
    assert [n.op_type for n in rewritten.graph.node] == ["ConvTranspose", "Pad", "Reshape", "Add"]
    assert change.disagreements == ("onnxruntime refuses as many further positions as the stride",)
    assert onnx_models.inferred(rewritten) == (1, 1, 12)
    onnx.checker.check_model(rewritten, full_check=True)
    old = onnx_models.one_node(problem, opset=10)
    assert interop.onnx.rewrite(old).changes[0].reason == (
        "the end gains a whole stride, and before opset 11 there is no Pad with an input"
    )


def test_only_models_are_taken():
    with pytest.raises(TypeError, match=r"model must be an onnx\.ModelProto, got str"):
        interop.onnx.rewrite("decoder.onnx")
