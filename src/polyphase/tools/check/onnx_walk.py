"""Sizes through an ONNX model: shape inference, with the transposed convolutions made right."""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from polyphase.arithmetic.problem import Problem
from polyphase.errors import PolyphaseError
from polyphase.interop import onnx as convention
from polyphase.tools.check.walk import Array, Journal, Shape, Walk

JOINS = {"Concat": "Concat", "Add": "Add", "Sub": "Sub", "Mul": "Mul", "Div": "Div", "Max": "Max"}
# of TensorProto.DataType
NAMES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16", 6: "int32", 7: "int64"}
# a model has fewer places where sizes clash
MENDS = 64


def read(path: Path) -> tuple[Any, tuple[tuple[Shape, str], ...]]:
    """The model, its weights left in external files, and its inputs if they are of fixed size.

    Raises :class:`~polyphase.tools.check.loading.CheckError` for a damaged file.
    """
    from polyphase.tools.check.loading import CheckError

    package = _package()
    try:
        model = package.load(str(path), load_external_data=False)
        if not model.graph.node:
            raise ValueError("there is no node in it")
        if model.functions:
            model = package.inliner.inline_local_functions(model)
    except Exception as error:
        raise CheckError(
            f"{path.name} is no readable ONNX model ({_first_line(error)}): it may be cut short; "
            "fetch or export it again, and try onnx.checker.check_model on it"
        ) from None
    # external weights are found from the folder of the model
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(path.parent / entry.value)
    fixed = []
    for info in _arguments(model.graph):
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if dims and not dims[0]:
            dims[0] = 1
        if not dims or not all(dims):
            return model, ()
        kind = info.type.tensor_type.elem_type
        fixed.append((tuple(dims), NAMES.get(kind, "float32")))
    return model, tuple(fixed)


def movable(model: Any) -> tuple[bool, ...]:
    """For each spatial axis, whether the file leaves the size of its maps open."""
    dims = [list(info.type.tensor_type.shape.dim)[2:] for info in _arguments(model.graph)]
    return tuple(
        all(not d.dim_value for d in axis) for axis in zip(*filter(None, dims), strict=False)
    )


def walk(model: Any, inputs: Sequence[tuple[Shape, str]]) -> Walk:
    """What the model does with inputs of these shapes; nothing is computed.

    Where a result does not fit what it meets, a value of the right size takes its place, so that
    the walk goes on.
    """
    sized = _sized(model, inputs)
    swaps: dict[tuple[int, int], Shape] = {}
    for _ in range(MENDS):
        seen, clash = _Walker(sized, swaps, tuple(shape for shape, _ in inputs)).walk()
        if clash is None:
            break
        swaps.update(clash)
    return seen


class _Walker:
    """One pass over the nodes, with some inputs of nodes replaced by values of a given shape."""

    def __init__(
        self, model: Any, swaps: dict[tuple[int, int], Shape], inputs: tuple[Shape, ...]
    ) -> None:
        package = _package()
        work = package.ModelProto()
        work.CopyFrom(model)
        self._original = {
            (at, i): name for at, i in swaps for name in [work.graph.node[at].input[i]]
        }
        for (at, i), shape in swaps.items():
            name = f"fitting_{at}_{i}"
            work.graph.input.append(package.helper.make_tensor_value_info(name, 1, shape))
            work.graph.node[at].input[i] = name
        rewriting = convention.rewrite(work)
        self._remarks = {change.node: change.disagreements for change in rewriting.changes}
        whole = package.shape_inference.infer_shapes(rewriting.model, data_prop=True).graph
        self._shapes: dict[str, Shape | None] = {}
        for tensor in whole.initializer:
            self._shapes[tensor.name] = tuple(tensor.dims)
        for info in [*whole.input, *whole.value_info, *whole.output]:
            kind = info.type.tensor_type
            dims = tuple(d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim)
            known = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
            self._shapes[info.name] = dims if known else None
        self._constants = {tensor.name: tensor for tensor in work.graph.initializer}
        for node in work.graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self._constants[node.output[0]] = attribute.t
        self._graph = work.graph
        self._package = package
        self._swaps = swaps
        self._journal = Journal(inputs)
        self._keys: dict[str, int] = {}

    def walk(self) -> tuple[Walk, dict[tuple[int, int], Shape] | None]:
        """What was seen, and which values must be replaced before more can be seen."""
        seen = self._journal.walk
        for at, node in enumerate(self._graph.node):
            seen.stopped, seen.stopped_by = _out_of_sight(node)
            if seen.stopped:
                return seen, None
            names = [self._original.get((at, i), name) for i, name in enumerate(node.input)]
            keys = [self._key(name) for name in names if name]
            attributes = {
                a.name: _plain(self._package.helper.get_attribute_value(a))
                for a in node.attribute
                if a.name not in ("body", "then_branch", "else_branch", "value")
            }
            join = node.op_type in JOINS and attributes.get("axis", 1) == 1
            if join:
                misfits = self._journal.meet(keys, node.op_type)
                clash = self._clash(at, keys, misfits)
                if clash:
                    return seen, clash
            if node.op_type == "ConvTranspose":
                problem = self._announce(node, attributes)
                if problem:
                    seen.stopped, seen.stopped_by = problem, "onnx"
                    return seen, None
            made = [self._key(name) for name in node.output if name]
            kind, change = self._kind(node, attributes, keys, made)
            if kind != "conv_transpose":
                seen.multiply_adds += self._multiply_adds(node, attributes, made)
            self._journal.step(kind, keys, made, change)
        seen.outputs = tuple(
            shape for info in self._graph.output if (shape := self._shapes.get(info.name))
        )
        return seen, None

    def _key(self, name: str) -> int:
        if name not in self._keys:
            self._keys[name] = self._journal.value(self._shapes.get(name) or ())
        return self._keys[name]

    def _clash(
        self, at: int, keys: list[int], misfits: list[int]
    ) -> dict[tuple[int, int], Shape] | None:
        shapes = self._journal.walk.shapes
        fitting = [key for key in keys if key not in misfits and len(shapes[key]) > 2]
        if not misfits or not fitting:
            return None
        target = shapes[fitting[0]][2:]
        found = {
            (at, i): (*shapes[key][:2], *target) for i, key in enumerate(keys) if key in misfits
        }
        return None if found.keys() <= self._swaps.keys() else found

    def _announce(self, node: Any, attributes: dict[str, Any]) -> str:
        """Write the layer down; otherwise why it cannot be."""
        name = node.name or node.output[0]
        x, weight = self._shapes.get(node.input[0]), self._shapes.get(node.input[1])
        if not x or not weight:
            return f"the input size of {name} is not known"
        groups = attributes.pop("group", 1)
        told = attributes.pop("kernel_shape", list(weight[2:]))
        asked = "output_shape" in attributes
        if asked:
            attributes["output_shape"] = attributes["output_shape"][-len(told) :]
        try:
            meant = convention.geometry(told, group=groups, input_size=x[2:], **attributes)
            problem = Problem(
                meant.geometry,
                x[2:],
                x[1],
                weight[1] * groups,
                batch=x[0],
                groups=groups,
                dtype="f32",
            )
        except (PolyphaseError, TypeError) as error:
            return f"{name} cannot be: {error}"
        weights = self._constants.get(node.input[1])
        remarks = self._remarks.get(name, ())
        self._journal.layer(
            name,
            problem,
            len(node.input) > 2 and bool(node.input[2]),
            _reader(weights),
            remarks,
            problem.output_size if asked else (),
        )
        return ""

    def _kind(
        self, node: Any, attributes: dict[str, Any], keys: list[int], made: list[int]
    ) -> tuple[str, tuple[tuple[int, int], ...]]:
        shapes = self._journal.walk.shapes
        before, after = (shapes[ks[0]] if ks else () for ks in (keys, made))
        if node.op_type == "ConvTranspose":
            return "conv_transpose", ()
        if node.op_type == "Conv":
            return "conv", ()
        if node.op_type == "BatchNormalization":
            return "norm", ()
        if node.op_type in JOINS and sum(len(shapes[key]) > 2 for key in keys) > 1:
            return "join", ()
        if len(before) != len(after) or len(before) < 3 or before[:2] != after[:2]:
            return "other", ()
        if node.op_type in ("Resize", "Upsample"):
            return "resize", ()
        if node.op_type == "Slice":
            return self._slice(node, attributes, before, after)
        if node.op_type == "Pad":
            values = attributes.get("pads") or self._integers(node.input, 1)
            if len(values) == 2 * len(before):
                pairs = list(zip(values[2 : len(before)], values[len(before) + 2 :], strict=True))
                return ("crop" if min(values) < 0 else "pad"), tuple(pairs)
        return ("pointwise" if before == after else "other"), ()

    def _slice(
        self, node: Any, attributes: dict[str, Any], before: Shape, after: Shape
    ) -> tuple[str, tuple[tuple[int, int], ...]]:
        starts = attributes.get("starts") or self._integers(node.input, 1)
        axes = attributes.get("axes") or self._integers(node.input, 3) or range(len(starts))
        steps = self._integers(node.input, 4)
        if not starts or any(step != 1 for step in steps):
            return "other", ()
        change = [(0, 0)] * (len(before) - 2)
        for axis, start in zip(axes, starts, strict=False):
            place = axis % len(before)
            if place < 2:
                return "other", ()
            begin = min(start + before[place] if start < 0 else start, before[place])
            change[place - 2] = (-begin, after[place] - before[place] + begin)
        return "crop", tuple(change)

    def _integers(self, names: Sequence[str], at: int) -> list[int]:
        tensor = self._constants.get(names[at]) if len(names) > at else None
        if tensor is None or tensor.external_data:
            return []
        return [int(n) for n in self._package.numpy_helper.to_array(tensor).ravel()]

    def _multiply_adds(self, node: Any, attributes: dict[str, Any], made: list[int]) -> int:
        output = self._journal.walk.shapes[made[0]] if made else ()
        read = [self._shapes.get(name) or () for name in node.input[:2]]
        if node.op_type == "Conv" and read[1]:
            return prod(output) * prod(read[1][1:])
        if node.op_type in ("Gemm", "MatMul") and read[0]:
            return prod(output) * read[0][0 if attributes.get("transA") else -1]
        return 0


def _out_of_sight(node: Any) -> tuple[str, str]:
    """Why a node hides a transposed convolution, and the kind of that; ("", "") if it does not."""
    name = node.name or node.output[0]
    if "ConvTranspose" in node.op_type and "Linear" in node.op_type:
        return f"{name} is a quantised {node.op_type}", "quantised"
    graphs = [graph for one in node.attribute for graph in (one.g, *one.graphs)]
    if any(map(_holds_one, graphs)):
        return f"there is a ConvTranspose inside {name}, of type {node.op_type}", "branch"
    return "", ""


def _holds_one(graph: Any) -> bool:
    return any(
        "ConvTranspose" in node.op_type
        or any(_holds_one(inner) for one in node.attribute for inner in (one.g, *one.graphs))
        for node in graph.node
    )


def _sized(model: Any, inputs: Sequence[tuple[Shape, str]]) -> Any:
    from polyphase.tools.check.loading import CheckError

    copy = _package().ModelProto()
    copy.CopyFrom(model)
    infos = list(_arguments(copy.graph))
    if len(infos) != len(inputs):
        raise CheckError(
            f"the model takes {len(infos)} inputs ({', '.join(i.name for i in infos)}), got "
            f"{len(inputs)}: give --input once for each, in this order"
        )
    for info, (shape, _) in zip(infos, inputs, strict=True):
        kind = info.type.tensor_type
        if kind.HasField("shape") and len(kind.shape.dim) != len(shape):
            raise CheckError(
                f"input {info.name} has {len(kind.shape.dim)} axes, got {','.join(map(str, shape))}"
            )
        fixed = [d.dim_value for d in kind.shape.dim]
        if any(n and n != m for n, m in zip(fixed, shape, strict=False)):
            raise CheckError(
                f"input {info.name} is {','.join(str(n or '?') for n in fixed)} in the file, got "
                f"{','.join(map(str, shape))}: export the model with dynamic axes, or leave out "
                "--input"
            )
        del kind.shape.dim[:]
        for n in shape:
            kind.shape.dim.add().dim_value = n
    # what was written down for other sizes would contradict
    del copy.graph.value_info[:]
    for info in copy.graph.output:
        info.type.tensor_type.ClearField("shape")
    return copy


def _arguments(graph: Any) -> Iterator[Any]:
    """The inputs that are no weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return (info for info in graph.input if info.name not in weights)


def _reader(tensor: Any) -> Any:
    def weights() -> Array | None:
        if tensor is None:
            return None
        try:
            found: Array = _package().numpy_helper.to_array(tensor)
        except (OSError, ValueError):
            # the external file is not there
            return None
        return found

    return weights


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(value) if isinstance(value, list | tuple) else value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _package() -> Any:
    from polyphase.tools.check.loading import CheckError

    try:
        import onnx
        import onnx.inliner
        import onnx.shape_inference
    except ImportError:
        raise CheckError(
            "ONNX files need the package onnx: pip install 'polyphase[onnx]'"
        ) from None
    return onnx
