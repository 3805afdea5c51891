"""ONNX models whose transposed convolutions every runtime understands in the same way.

``auto_pad``, ``output_shape`` and ``output_padding`` become pads. What the specification means is
in :mod:`polyphase.interop.onnx`; which runtime means something else is written down here, and held
against the runtimes by tests.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.errors import PolyphaseError
from polyphase.interop import onnx

# from here on Pad takes its pads as an input, and the text about generated pads is consistent
PADS_AS_INPUT = 11
REPLACED = ("auto_pad", "output_shape", "pads", "output_padding")
Shapes = dict[str, list[int | None]]


class Change(NamedTuple):
    """What became of one node, and which runtimes gave something else than the specification.

    ``after`` is ``None`` where the node was left as it is; ``reason`` then says why.
    """

    node: str
    before: dict[str, Any]
    after: dict[str, Any] | None
    disagreements: tuple[str, ...]
    reason: str = ""


class Rewriting(NamedTuple):
    """The new model, and what became of each node that was changed or is in dispute."""

    model: Any
    changes: tuple[Change, ...]


def rewritten(model: Any) -> Rewriting:
    """A copy of the model with explicit pads, and the report."""
    package = _package()
    if not isinstance(model, package.ModelProto):
        raise TypeError(f"model must be an onnx.ModelProto, got {type(model).__name__}")
    copy = package.ModelProto()
    copy.CopyFrom(model)
    opset = max((i.version for i in copy.opset_import if i.domain in ("", "ai.onnx")), default=1)
    changes: list[Change] = []
    shapes: Shapes | None = None
    # a node may depend on sizes that earlier ones decide, whose inferred shapes may be wrong as
    # long as they are not rewritten; nodes are in order, so each is looked at after those
    for graph, node in list(_transposed(copy.graph)):
        shapes = shapes or _shapes(package, copy)
        change = _change(package, graph, node, shapes, opset)
        if change.after not in (None, change.before):
            shapes = None
        changes.append(change)
    if any(change.after not in (None, change.before) for change in changes):
        _refresh(package, copy)
    report = [
        change
        for change in changes
        if change.disagreements or change.reason or change.after != change.before
    ]
    return Rewriting(copy, (*report, *_inside_functions(copy)))


def _inside_functions(model: Any) -> Iterator[Change]:
    """What is left, because sizes and attributes of a function's nodes depend on who calls it."""
    for function in model.functions:
        for _, node in _transposed(function):
            reason = f"it is inside the function {function.name}: inline the functions first"
            yield Change(node.name or node.output[0], {}, None, (), reason)


def _change(package: Any, graph: Any, node: Any, shapes: Shapes, opset: int) -> Change:
    before = {
        attribute.name: _plain(package.helper.get_attribute_value(attribute))
        for attribute in node.attribute
    }
    name = node.name or node.output[0]
    weight, x = shapes.get(node.input[1]), shapes.get(node.input[0])
    kernel = before.get("kernel_shape", weight[2:] if weight else None)
    if kernel is None or None in kernel:
        return Change(name, before, None, (), "the kernel size is not known: give kernel_shape")
    size: Any = x[2:] if x and len(x) == len(kernel) + 2 and None not in x[2:] else None
    attributes = {**before, "kernel_shape": kernel}
    if opset < PADS_AS_INPUT and len(before.get("output_shape", ())) == len(kernel) + 2:
        # the first version let batch and channels be there, too
        attributes["output_shape"] = before["output_shape"][2:]
    if "output_shape" in before and size is None:
        reason = "output_shape means nothing as long as the input size is not known"
        return Change(name, before, None, (), reason)
    try:
        geometry = onnx.geometry(**attributes, input_size=size).geometry
        if size is not None:
            geometry.output_size(size)
    except PolyphaseError as error:
        return Change(name, before, None, ("every runtime should refuse it",), str(error))
    told = disagreements(geometry, attributes, size, opset)
    if _is_plain(before, geometry):
        return Change(name, before, before, told)
    beyond = [max(-axis.end, 0) for axis in geometry.axes]
    if any(op >= axis.stride for op, axis in zip(beyond, geometry.axes, strict=True)):
        reason = _why_not_extended(geometry, size, opset)
        if reason:
            return Change(name, before, None, told, reason)
        _extend(package, graph, node, beyond)
        beyond = [0] * geometry.rank
    pads = [axis.begin for axis in geometry.axes] + [max(axis.end, 0) for axis in geometry.axes]
    after = {key: value for key, value in before.items() if key not in REPLACED}
    after["pads"] = pads
    if any(beyond):
        after["output_padding"] = beyond
    del node.attribute[:]
    node.attribute.extend(
        package.helper.make_attribute(key, value) for key, value in sorted(after.items())
    )
    return Change(name, before, after, told)


def disagreements(
    geometry: Geometry, attributes: dict[str, Any], size: Any, opset: int
) -> tuple[str, ...]:
    """Who gives something else than the specification for a node that means ``geometry``.

    ``size`` is the input size, or ``None``.
    """
    same = attributes.get("auto_pad", "NOTSET").startswith("SAME")
    shaped = "output_shape" in attributes
    upper = attributes.get("auto_pad") == "SAME_UPPER"
    grouped = attributes.get("group", 1) > 1
    told: dict[str, None] = {}
    for at, axis in enumerate(geometry.axes):
        extra = attributes.get("output_padding", [0] * geometry.rank)[at]
        n = None if size is None else size[at]
        total = axis.begin + axis.end + extra
        for sentence in _about_axis(axis, extra, total, same and not shaped):
            told[sentence] = None
        if shaped and n is not None and axis.output_size(n) < n:
            told["onnx's shape inference refuses an output_shape below the input size"] = None
        if shaped and grouped and axis.begin > 0:
            told["openvino removes all from the end for output_shape with groups"] = None
        if shaped and upper and not grouped and total > 0 and total % 2:
            told["openvino removes the odd position at the beginning for output_shape"] = None
        if (same or shaped) and total > 0 and total % 2:
            if same:
                told["onnxruntime before 1.13 has SAME_UPPER and SAME_LOWER swapped"] = None
            if opset < PADS_AS_INPUT:
                told["the text of this opset contradicts itself about the odd position"] = None
    ones = all(axis.kernel_size == axis.stride == 1 for axis in geometry.axes)
    if ones and not any(map(sum, geometry.crops)) and any(map(any, geometry.crops)):
        told["openvino ignores the pads of a kernel of 1 that keeps the size"] = None
    return tuple(told)


def _about_axis(axis: Axis, extra: int, total: int, same: bool) -> Iterator[str]:
    missing = max(axis.stride - axis.extent, 0)
    if same and extra != missing:
        yield f"onnx's shape inference gives an output longer by {extra - missing}"
    if same and total < 0:
        yield f"onnxruntime and openvino give an output shorter by {-total}"
    if extra >= axis.stride or -axis.end >= axis.stride:
        yield "onnxruntime refuses as many further positions as the stride"


def _is_plain(before: dict[str, Any], geometry: Geometry) -> bool:
    """Whether nothing has to be generated and ``output_padding`` is only where it must be."""
    if before.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in before:
        return False
    extra = before.get("output_padding", [0] * geometry.rank)
    return all(
        op == max(-axis.end, 0) and op < axis.stride
        for op, axis in zip(extra, geometry.axes, strict=True)
    )


def _why_not_extended(geometry: Geometry, size: Any, opset: int) -> str:
    """Why ``Pad`` cannot add what the end gains, or nothing."""
    if opset < PADS_AS_INPUT:
        return "the end gains a whole stride, and before opset 11 there is no Pad with an input"
    if any(axis.begin > axis.extent - 1 for axis in geometry.axes) and size is None:
        return "the end gains a whole stride, and the rest may be empty for a small input"
    if size is not None and any(
        axis.full_size(n) - axis.begin - max(axis.end, 0) < 1
        for axis, n in zip(geometry.axes, size, strict=True)
    ):
        return "no input reaches the output, which is the bias alone"
    return ""


def _extend(package: Any, graph: Any, node: Any, beyond: list[int]) -> None:
    """Let zeros follow the result, and then the bias, in place of output padding."""
    helper, numpy_helper = package.helper, package.numpy_helper
    rank = len(beyond)
    output, stem = node.output[0], f"{node.output[0]}_extended"
    node.output[0] = f"{stem}_conv"

    def constant(name: str, value: list[int]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        return name

    pads = constant(f"{stem}_pads", [0] * (rank + 2) + [0, 0, *beyond])
    bias = node.input[2] if len(node.input) > 2 else ""
    del node.input[2:]
    added = [helper.make_node("Pad", [node.output[0], pads], [f"{stem}_pad" if bias else output])]
    if bias:
        shape = constant(f"{stem}_shape", [1, -1] + [1] * rank)
        added.append(helper.make_node("Reshape", [bias, shape], [f"{stem}_bias"]))
        added.append(helper.make_node("Add", [f"{stem}_pad", f"{stem}_bias"], [output]))
    at = 1 + next(i for i, other in enumerate(graph.node) if node.output[0] in other.output)
    for new in reversed(added):
        graph.node.insert(at, new)


def _transposed(graph: Any) -> Iterator[tuple[Any, Any]]:
    """Every transposed convolution with the graph that it is in."""
    for node in graph.node:
        if node.op_type == "ConvTranspose" and node.domain in ("", "ai.onnx"):
            yield graph, node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _transposed(inner)


def _shapes(package: Any, model: Any) -> Shapes:
    """Every shape that is known; nothing is taken from what an earlier inference wrote down."""
    copy = package.ModelProto()
    copy.CopyFrom(model)
    _forget(copy.graph)
    return dict(_known(package.shape_inference.infer_shapes(copy).graph))


def _known(graph: Any) -> Iterator[tuple[str, list[int | None]]]:
    for tensor in graph.initializer:
        yield tensor.name, list(tensor.dims)
    for info in [*graph.input, *graph.value_info, *graph.output]:
        if info.type.tensor_type.HasField("shape"):
            yield (
                info.name,
                [
                    d.dim_value if d.HasField("dim_value") else None
                    for d in info.type.tensor_type.shape.dim
                ],
            )
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _known(inner)


def _forget(graph: Any) -> None:
    """Remove the shapes that follow from others."""
    del graph.value_info[:]
    for info in graph.output:
        info.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _forget(inner)


def _refresh(package: Any, model: Any) -> None:
    """Write down the shapes anew, where they can be known; names of dimensions stay."""
    copy = package.ModelProto()
    copy.CopyFrom(model)
    _forget(copy.graph)
    found = {
        info.name: info.type.tensor_type
        for info in package.shape_inference.infer_shapes(copy).graph.output
    }
    del model.graph.value_info[:]
    for info in model.graph.output:
        old, new = info.type.tensor_type, found[info.name]
        if not new.HasField("shape"):
            continue
        if len(old.shape.dim) != len(new.shape.dim):
            old.shape.CopyFrom(new.shape)
        for before, after in zip(old.shape.dim, new.shape.dim, strict=True):
            if after.HasField("dim_value"):
                before.CopyFrom(after)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if isinstance(value, list | tuple) else value


def _package() -> Any:
    try:
        import onnx as package
        import onnx.shape_inference
    except ImportError:
        raise ImportError(
            "models need the package onnx; install it with: pip install 'polyphase[onnx]'"
        ) from None
    return package
