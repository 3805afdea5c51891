"""A refusal says why, and gives an instruction that a person or a program can carry out."""

import re

import pytest

from polyphase import Geometry, Unsupported, interop

KINDS = {
    "slice": (
        "keras",
        Geometry((3, 3), 2, padding=1, output_padding=(1, 0)),
        1,
        [
            "y = keras.layers.Conv2DTranspose(filters, kernel_size=(3, 3), strides=(2, 2))",
            "y = y[1:, 1:-1] on the spatial axes",
        ],
    ),
    "zeros": (
        "torch",
        Geometry(3, 2, padding=[(-1, 2)]),
        1,
        [
            "y = torch.nn.functional.conv_transpose1d(x, weight, bias, stride=2), without the bias",
            "add zeros at the two ends of the spatial axes: 1 and 0",
            "y = y[:-2] on the spatial axes",
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
            "y = keras.layers.Conv1DTranspose(filters, kernel_size=5, strides=2, padding='same')",
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
