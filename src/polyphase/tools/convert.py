"""The command ``polyphase convert``: a call, and its weights, in another framework."""

import ast
import json
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from polyphase.arithmetic.geometry import Geometry
from polyphase.errors import GeometryError, Unsupported
from polyphase.tools import arguments

if TYPE_CHECKING:
    from polyphase.interop import Instead, Meaning
    from polyphase.tools.weight_files import Converted

EXACT, NO_CALL = 0, 1
# of an axis, in what is said to those who gave no size
SIZE = "8"
AS_THEY_ARE = "as they are"
# known without loading the modules; a test holds them against interop
NAMES = (
    "torch onnx openvino keras tensorflow tflite jax flax coreml mlx paddle mxnet caffe r_torch"
).split()


class Name(str):
    """A variable in a written call, shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Translation(NamedTuple):
    """What a call becomes in one framework; without ``parameters`` there is ``instead``, or none.

    ``steps`` are what to write, ``notes`` what to do with weights, arrays and bias. Where an option
    is missing, ``reason`` names it and ``is_exact`` is ``None``.
    """

    target: str
    title: str
    is_exact: bool | None
    parameters: dict[str, Any] | None
    reason: str
    instead: "Instead | None"
    steps: list[str]
    notes: dict[str, str]
    channel_axis: int | None

    def as_data(self) -> dict[str, Any]:
        """Everything for JSON."""
        instead = self.instead
        return {
            "framework": self.target,
            "exact": self.is_exact,
            "parameters": instead.parameters if instead else self.parameters,
            "reason": self.reason or None,
            "crop": instead.crop if instead else None,
            "spread_taps": bool(instead and instead.spread_taps),
            "per_group": bool(instead and instead.per_group),
            "write": self.steps,
            **self.notes,
            "channel_axis": self.channel_axis,
        }

    def as_text(self, width: int = 100) -> str:
        """The answer for people; calls are not broken into lines, so that they can be copied."""
        if self.is_exact is None:
            return "\n".join(wrap(f"{self.title} {self.reason}.", width, break_on_hyphens=False))
        if self.is_exact:
            lines = [f"{self.title}:"]
        else:
            lines = wrap(f"{self.title} has no exact call for this: {self.reason}.", width)
            lines += ["Exact instead:"] if self.steps else []
        notes = [f"{what}: {told}" for what, told in self.notes.items()]
        return "\n".join([*lines, *(f"  {step}" for step in [*self.steps, *notes])])


def _padding(text: str) -> Any:
    """Numbers, pairs, or a framework's own word."""
    return text if text.replace("_", "").isalpha() else arguments.pads(text)


def _assignment(text: str) -> tuple[str, Any]:
    """``name=value`` with a Python value, or a word that needs no quotes."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise GeometryError(f"{arguments.short(text)} is not NAME=VALUE, such as auto_pad=VALID")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


class Framework(click.Choice):  # type: ignore[type-arg]
    """A choice whose many words stand in the help text once."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for the value."""
        return "FRAMEWORK"


NUMBERS, FRAMEWORK = arguments.reader(arguments.numbers), Framework(NAMES)


@click.command(short_help="The same call, and its weights, in another framework.")
@click.argument("own", nargs=-1, type=arguments.reader(_assignment), metavar="[NAME=VALUE]...")
@click.option(
    "--from", "source", type=FRAMEWORK, default="torch", show_default=True, help=", ".join(NAMES)
)
@click.option("--to", "target", type=FRAMEWORK, help="Another of them; without it, all others.")
@click.option("-k", "--kernel-size", type=NUMBERS, metavar="N[xN]", help="Number of taps.")
@click.option("-s", "--stride", type=NUMBERS, metavar="N[xN]", help="Distance between inputs.")
@click.option("-p", "--padding", type=_padding, metavar="N[xN]|WORD", help="As --from has it.")
@click.option("-o", "--output-padding", type=NUMBERS, metavar="N[xN]", help="As --from has it.")
@click.option("-d", "--dilation", type=NUMBERS, metavar="N[xN]", help="Distance between taps.")
@click.option(
    "-g", "--groups", type=click.IntRange(1), metavar="N", default=1, show_default=True,
    help="Groups of channels.",
)  # fmt: skip
@click.option(
    "--input-size", type=NUMBERS, metavar="N[xN]", help="Where an output size is given or needed."
)
@click.option("--weights", metavar="FILE", help="A .npz or .safetensors file to convert.")
@click.option("--out", metavar="FILE", help="Where the converted weights go.")
@click.option("--only", multiple=True, metavar="NAME", help="Of the file, convert this array only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def convert(
    own: tuple[tuple[str, Any], ...],
    source: str,
    target: str | None,
    groups: int,
    input_size: tuple[int, ...] | None,
    weights: str | None,
    out: str | None,
    only: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> int:
    """Say a transposed convolution in another framework's terms, exactly.

    The options are read as --from understands them; its further parameters are given by name, as
    in auto_pad=SAME_UPPER or output_shape=[12,12]. Where the other framework has no call that means
    the same, the answer says why, and what to write instead; the exit code is then 1. Frameworks
    that have the output size in their call, TensorFlow and TensorFlow Lite, need --input-size.

    With --weights the arrays of a file are converted, too: those whose shape fits the kernel, or
    those named by --only. All others are copied.

    \b
    polyphase convert --to keras -k 3 -s 2 -p 1 -o 1
    polyphase convert --from keras --to torch -k 4x4 -s 2 -p same
    polyphase convert --from onnx -k 3x3 auto_pad=SAME_UPPER strides=[2,2]
    polyphase convert --to jax -k 4x4 -s 2 -p 1 --weights up.npz --out up-jax.npz
    """
    from polyphase.interop import FRAMEWORKS

    if (weights is None) != (out is None) or (weights and target is None):
        raise click.UsageError("--weights needs --out and --to")
    meant, groups = _read(source, dict(own), given, groups, input_size)
    targets = [target] if target else [name for name in FRAMEWORKS if name != source]
    found = [translate(meant, source, name, groups, input_size) for name in targets]
    if target and found[0].is_exact is None:
        raise click.UsageError(f"{target} {found[0].reason}")
    files: list[Converted] = []
    if weights and out and target:
        from polyphase.tools import weight_files

        files = weight_files.convert(
            Path(weights), Path(out), source, target, meant, groups, only, found[0].instead
        )
    geometry = meant.geometry
    if as_json:
        calls = [one.as_data() for one in found]
        data = {"geometry": repr(geometry), "crops": geometry.crops, "calls": calls}
        if files:
            data["files"] = [one._asdict() for one in files]
        print(json.dumps(data, indent=2, default=str))
    else:
        width = get_terminal_size().columns
        parts = [f"{geometry!r}", *(one.as_text(width) for one in found)]
        if files:
            parts.append("\n  ".join([f"{out}:", *_files_text(files, found[0].channel_axis)]))
        print("\n\n".join(parts))
    return NO_CALL if any(one.is_exact is False for one in found) else EXACT


def _files_text(files: "list[Converted]", channel_axis: int | None) -> list[str]:
    lines = [
        f"{one.name} {one.shape} becomes {name} {shape}"
        for one in files
        for name, shape in one.results.items()
    ]
    if channel_axis is None:
        return [*lines, "no axis of these counts every output channel"]
    return [*lines, f"scales per output channel belong to axis {channel_axis}"]


def translate(
    meant: "Meaning",
    source: str,
    target: str,
    groups: int = 1,
    input_size: tuple[int, ...] | None = None,
) -> Translation:
    """What a call of ``source`` means in the terms of ``target``, and what its weights become.

    >>> from polyphase import interop
    >>> found = translate(interop.torch.geometry(4, 2, 1), "torch", "keras")
    >>> print(found.as_text())
    Keras 3:
      keras.layers.Conv1DTranspose(filters, kernel_size=4, strides=2, padding='same')
      weights: numpy.transpose(weight, (2, 1, 0))
      arrays: channels last
    """
    from polyphase.interop import FRAMEWORKS, NoExactCall

    module = FRAMEWORKS[target]
    convention = module.CONVENTION
    geometry = meant.geometry
    sizes: dict[str, Any] = {}
    if convention.needs_sizes:
        if input_size is None:
            example = arguments.joined((SIZE,) * geometry.rank)
            lacks = (
                f"has the output size in its call: add --input-size, such as --input-size {example}"
            )
            return Translation(target, convention.title, None, None, lacks, None, [], {}, None)
        sizes = {"batch": Name("batch"), "out_channels": Name("channels")}
        sizes["input_size"] = _spread("input_size", input_size, geometry.rank)
    parameters, reason, instead = None, "", None
    try:
        parameters = module.parameters(geometry, groups, **sizes)
        steps = [convention.written(parameters, geometry.rank, groups)]
    except NoExactCall as error:
        instead, steps, reason = error.instead, error.steps, error.reason
    one_each = instead is not None and instead.per_group
    notes: dict[str, str] = {}
    if steps:
        notes["weights"] = _weights_text(meant, source, target, 1 if one_each else groups)
        notes["arrays"] = f"channels {'last' if convention.channels_last else 'first'}"
        if not convention.takes_bias and "add the bias" not in steps:
            notes["bias"] = "add it to the result"
    axis = _channel_axis(target, geometry.rank, 1 if one_each else groups) if steps else None
    exact = parameters is not None
    return Translation(
        target, convention.title, exact, parameters, reason, instead, steps, notes, axis
    )


def _channel_axis(target: str, rank: int, groups: int) -> int | None:
    from polyphase.interop import channel_axis

    try:
        return channel_axis(target, rank, groups)
    except Unsupported:
        return None


def _read(
    source: str,
    own: dict[str, Any],
    given: dict[str, Any],
    groups: int,
    input_size: tuple[int, ...] | None,
) -> tuple["Meaning", int]:
    """What the source framework means by what was typed, and the number of groups."""
    from polyphase.interop import FRAMEWORKS

    module = FRAMEWORKS[source]
    names = module.CONVENTION.names
    known = signature(module.geometry).parameters
    for option, value in given.items():
        if value is None:
            continue
        if option not in names:
            raise click.UsageError(
                f"{source} has no single parameter for --{option.replace('_', '-')}: give its own, "
                f"of {', '.join(known)}, as NAME=VALUE"
            )
        own.setdefault(names[option], value)
    counts = [len(value) for value in given.values() if isinstance(value, tuple)]
    rank = max([*counts, len(input_size or ())], default=1)
    own = {name: _plain(value, rank) for name, value in own.items()}
    if input_size is not None and "input_size" in known:
        own["input_size"] = _spread("input_size", input_size, rank)
    counted = "groups" if module.CONVENTION.group_axis else module.CONVENTION.groups
    if counted:
        groups = own.setdefault(counted, groups)
    elif groups > 1:
        raise click.UsageError(f"{source} has no groups: leave --groups out")
    for name in own:
        if name not in known:
            raise click.UsageError(f"{source} has no {name}: it has {', '.join(known)}")
    for name, parameter in known.items():
        if parameter.default is Parameter.empty and name not in own:
            raise click.UsageError(f"{source} needs {name}: give it as an option or by name")
    try:
        with arguments.spelled():
            return module.geometry(**own), groups
    except TypeError as error:
        told = _way_out(source, own, groups) or arguments.typed(str(error))
        raise click.UsageError(told) from None


def _way_out(source: str, own: dict[str, Any], groups: int) -> str:
    """What to do where a framework removes one number from both ends, and was given another."""
    from polyphase.interop import FRAMEWORKS, Meaning

    convention = FRAMEWORKS[source].CONVENTION
    given = {name: own[theirs] for name, theirs in convention.names.items() if theirs in own}
    padding = given.get("padding")
    make: Callable[..., Geometry] = Geometry
    if padding == "same":
        make = Geometry.same
        del given["padding"]
    elif not (isinstance(padding, tuple) and any(isinstance(entry, tuple) for entry in padding)):
        return ""
    geometry = make(**given)
    meant = Meaning(geometry, convention.layout.permutation(geometry.rank), convention.layout.flip)
    told = (
        f"{source} removes one number from both ends, got {arguments.joined(padding)}: "
        "polyphase.nn and polyphase.functional take it; the same in the terms of "
        f"{source}: {'; '.join(translate(meant, source, source, groups).steps)}"
    )
    begins, ends = zip(*geometry.pads, strict=True)
    if min(*begins, *ends) < 0:
        return told
    pads = ",".join(map(str, (*begins, *ends)))
    return f"{told}; to convert it, use --from onnx with pads=[{pads}] for -p"


def _plain(value: Any, rank: int) -> Any:
    """One number for all axes as one entry for each, so that a number in -k sets no rank."""
    if isinstance(value, tuple) and len(value) == 1:
        return value * rank
    return value


def _spread(name: str, values: tuple[int, ...], rank: int) -> tuple[int, ...]:
    if len(values) not in (1, rank):
        raise click.UsageError(f"{name} has {len(values)} values for {rank} axes")
    return values * (rank // len(values))


def _weights_text(meant: "Meaning", source: str, target: str, groups: int) -> str:
    """What turns the weights of one framework into those of another, in NumPy."""
    from polyphase.interop import FRAMEWORKS

    one, other = FRAMEWORKS[source].CONVENTION, FRAMEWORKS[target].CONVENTION
    if groups > 1:
        if one.layout == other.layout and one.group_axis == other.group_axis:
            return AS_THEY_ARE
        return (
            f"polyphase.interop.convert(weight, source={source!r}, target={target!r}, "
            f"groups={groups})"
        )
    rank = meant.geometry.rank
    theirs = other.layout.permutation(rank)
    moved = tuple(meant.permutation[theirs.index(axis)] for axis in range(rank + 2))
    kernel = "weight"
    if moved != tuple(range(rank + 2)):
        kernel = f"numpy.transpose({kernel}, {moved})"
    if meant.flip != other.layout.flip:
        kernel = f"numpy.flip({kernel}, axis={tuple(theirs[2:])})"
    return AS_THEY_ARE if kernel == "weight" else kernel
