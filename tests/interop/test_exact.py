"""A refusal says why, and gives an instruction that a person or a program can carry out."""

import re

import numpy as np
import pytest

from polyphase import Geometry, Unsupported, interop

KINDS = {
    "slice": (
        "keras",
        Geometry((3, 3), 2, padding=1, output_padding=(1, 0)),
        1,
        [
            "y = keras.layers.Conv2DTranspose(filters, kernel_size=(3, 3), strides=(2, 2))(x)",
            "y = y[:, 1:, 1:-1]",
        ],
    ),
    "zeros": (
        "torch",
        Geometry(3, 2, padding=[(-1, 2)]),
        1,
        [
            "y = torch.nn.functional.conv_transpose1d(x, weight, stride=2)",
            "add zeros at the two ends of the spatial axes: 1 and 0",
            "y = y[:, :, :-2]",
            "add the bias",
        ],
    ),
    "groups": (
        "jax",
        Geometry(4, 2, padding=1),
        4,
        [
            "for each group of channels, on its share of input, weights and bias:",
            "y = jax.lax.conv_transpose(x, kernel, strides=(2,), padding='SAME')",
            "join the results along the channels",
        ],
    ),
    "taps": (
        "keras",
        Geometry.same(3, 2, dilation=2),
        1,
        [
            "put zeros between the taps of the weights",
            "y = keras.layers.Conv1DTranspose(filters, kernel_size=5, strides=2, "
            "padding='same')(x)",
        ],
    ),
    # a node of a graph has no slices
    "words": (
        "onnx",
        Geometry(1, 2, padding=[(-1, 1)]),
        1,
        [
            'y = onnx.helper.make_node("ConvTranspose", ["X", "W"], ["Y"], kernel_shape=[1], '
            "strides=[2])",
            "add zeros at the two ends of the spatial axes: 1 and 0",
            "remove from the two ends of the spatial axes: 0 and 1",
            "add the bias",
        ],
    ),
}


@pytest.mark.parametrize(("name", "geometry", "groups", "steps"), KINDS.values(), ids=KINDS)
def test_the_instruction(name, geometry, groups, steps):
    with pytest.raises(interop.NoExactCall) as caught:
        interop.FRAMEWORKS[name].parameters(geometry, groups)
    error = caught.value
    assert error.steps == steps
    assert error.framework == name
    # everything stands in the one sentence, too
    for part in (error.reason, *steps):
        assert part in str(error)
    assert "\n" not in str(error)
    assert isinstance(error, Unsupported)


def test_a_call_that_exists_is_written_without_defaults():
    geometry = Geometry((4, 4), 2, padding=1)
    written = {
        name: interop.FRAMEWORKS[name].CONVENTION.written(
            interop.FRAMEWORKS[name].parameters(geometry), 2
        )
        for name in ("torch", "caffe", "r_torch", "mlx", "coreml")
    }
    assert written == {
        "torch": "torch.nn.functional.conv_transpose2d(x, weight, bias, stride=(2, 2), "
        "padding=(1, 1))",
        "caffe": 'layer {type: "Deconvolution", convolution_param {num_output: C_out, '
        "kernel_size: [4, 4], stride: [2, 2], pad: [1, 1]}}",
        "r_torch": "nnf_conv_transpose2d(x, weight, bias, stride = c(2, 2), padding = c(1, 1))",
        "mlx": "mx.conv_transpose2d(x, weight, stride=(2, 2), padding=(1, 1))",
        "coreml": "mb.conv_transpose(x=x, weight=weight, bias=bias, strides=[2, 2], "
        "pad_type='custom', pad=[1, 1, 1, 1])",
    }


def test_a_call_that_needs_nothing_ends_well():
    torch = interop.torch
    assert torch.CONVENTION.written(torch.parameters(Geometry(3)), 1) == (
        "torch.nn.functional.conv_transpose1d(x, weight, bias)"
    )


def test_openvino_has_another_node_for_groups():
    parameters = interop.openvino.parameters(Geometry(3, 2), 2)
    call = interop.openvino.CONVENTION.written(parameters, 1, groups=2)
    grouped = "openvino.opset1.group_convolution_backprop_data(x, weight, strides=[2]"
    assert call.startswith(grouped)
    with pytest.raises(interop.NoExactCall) as found:
        interop.openvino.parameters(Geometry(3, 2, padding=[(-1, 0)]), 2)
    assert found.value.steps[0].startswith(f"y = {grouped}")


WITHOUT_BIAS = {
    "torch": "torch.nn.functional.conv_transpose1d(x, weight)",
    "onnx": 'onnx.helper.make_node("ConvTranspose", ["X", "W"], ["Y"], kernel_shape=[3])',
    "openvino": "openvino.opset1.convolution_backprop_data(x, weight, strides=[1], pads_begin=[0],"
    " pads_end=[0], dilations=[1])",
    "keras": "keras.layers.Conv1DTranspose(filters, kernel_size=3, use_bias=False)",
    "jax": "jax.lax.conv_transpose(x, kernel, strides=(1,), padding='VALID')",
    "flax": "flax.nnx.ConvTranspose(in_features, out_features, kernel_size=(3,), padding='VALID', "
    "use_bias=False, rngs=rngs)",
    "coreml": "mb.conv_transpose(x=x, weight=weight)",
    "mlx": "mx.conv_transpose1d(x, weight)",
    "paddle": "paddle.nn.functional.conv1d_transpose(x, weight)",
    "mxnet": "mx.nd.Deconvolution(x, weight, num_filter=C_out, no_bias=True, kernel=(3,))",
    "caffe": 'layer {type: "Deconvolution", convolution_param {num_output: C_out, '
    "bias_term: false, kernel_size: [3]}}",
    "r_torch": "nnf_conv_transpose1d(x, weight)",
}


@pytest.mark.parametrize("name", WITHOUT_BIAS)
def test_a_call_without_a_bias(name):
    module = interop.FRAMEWORKS[name]
    parameters = module.parameters(Geometry(3))
    assert module.CONVENTION.written(parameters, 1, bias=False) == WITHOUT_BIAS[name]


@pytest.mark.parametrize("last", [False, True])
def test_the_slices_are_those_of_the_arrays(last):
    # padding that no single call of either expresses
    name, groups = ("mlx" if last else "torch"), 1
    with pytest.raises(interop.NoExactCall) as caught:
        interop.FRAMEWORKS[name].parameters(Geometry((3, 4), padding=((0, 1), (2, 0))), groups)
    y = np.arange(2 * 5 * 6 * 7).reshape((2, 6, 7, 5) if last else (2, 5, 6, 7))
    cut = eval(caught.value.steps[-1].removeprefix("y = "), {"y": y})
    spatial = (slice(None), slice(0, -1), slice(2, None))
    expected = y[spatial] if last else y[(slice(None), *spatial)]
    assert np.array_equal(cut, expected)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((3, 2),), "geometry must be a polyphase.Geometry, got (3, 2)"),
        ((Geometry(3), 1.5), "groups must be an int, got 1.5 (float)"),
    ],
)
def test_wrong_kinds(arguments, text):
    with pytest.raises(TypeError, match=re.escape(text)):
        interop.torch.parameters(*arguments)


def test_four_axes_have_no_call():
    with pytest.raises(interop.NoExactCall, match="it has 4 spatial axes, and the call takes 1 or"):
        interop.torch.parameters(Geometry((1, 1, 1, 1)))


def test_one_axis_can_be_made_two():
    further = "it has 1 spatial axis, and the call takes 2: give input and weights a further one"
    with pytest.raises(interop.NoExactCall, match=further):
        interop.tflite.parameters(Geometry(3), input_size=4, batch=1, out_channels=1)
