"""The command line: ``polyphase size``, ``solve``, ``explain``, ``check``, ``bench``, ``convert``.

What lies between the arguments and the answer is in :mod:`polyphase.tools`.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from polyphase.errors import OutputSizeError, PolyphaseError
from polyphase.tools import arguments
from polyphase.tools.check.command import check
from polyphase.tools.convert import convert

if TYPE_CHECKING:
    from rich.console import RenderableType

# as grep has it: 1 is an answer, which is no; 2 is no answer
NO, NO_ANSWER, INTERRUPTED = 1, 2, 130


class Unreachable(click.ClickException):
    """No parameters reach the size: the answer to ``solve`` is no."""


OPTIONS = (
    ("-k", "--kernel-size", arguments.numbers, "Number of taps; required.", None),
    ("-s", "--stride", arguments.numbers, "Distance between inputs.", "1"),
    ("-p", "--padding", arguments.pads, "Positions removed from each end, or BEGIN,END.", "0"),
    ("-o", "--output-padding", arguments.numbers, "Further positions at the end.", "0"),
    ("-d", "--dilation", arguments.numbers, "Distance between taps.", "1"),
)

Command = Callable[..., Any]


def _parameters(command: Command) -> Command:
    """Options for one value of each parameter."""
    for short, long, read, told, default in reversed(OPTIONS):
        told += f"  [default: {default}]" if default else ""
        metavar = "N[,N][xN]|same" if short == "-p" else "N[xN]"
        command = click.option(
            short, long, type=arguments.reader(read), metavar=metavar, help=told
        )(command)
    return command


def _allowed_values(command: Command) -> Command:
    """Options for any number of values of each parameter."""
    for short, long, read, told, _ in reversed(OPTIONS):
        told = f"{told.replace('; required', '')}  [default: {'1' if short == '-d' else 'free'}]"
        metavar = "N[,N][xN]" if short == "-p" else "N[xN]"
        command = click.option(
            short, long, type=arguments.reader(read), metavar=metavar, help=told, multiple=True
        )(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _answer(as_json: bool, data: Any, parts: Callable[[int], Iterable["RenderableType"]]) -> str:
    if as_json:
        return json.dumps(data, indent=2) + "\n"
    from polyphase.tools import terminal

    return terminal.rendered(parts)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="polyphase", prog_name="polyphase")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Sizes, parameters and explanations of transposed convolutions.

    One to three axes: join the numbers of the axes with x, as in 50x100. One number serves every
    axis. Padding always means positions removed from the full result, as in PyTorch.

    \b
    polyphase size 6 -k 3 -s 2 -p 1
    polyphase size 50x100 -k 3x5 -s 2x1 -p 4x2
    polyphase solve 7 16 -s 2
    polyphase explain 6 -k 3 -s 2 -p 1
    polyphase explain n2 c64:32 i8x8 k4x4 s2x2 p1x1
    polyphase check unet
    polyphase convert --to keras -k 4 -s 2 -p 1
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@app.command()
@click.argument("input_size", type=arguments.reader(arguments.numbers), metavar="INPUT")
@_parameters
@as_json
def size(input_size: tuple[int, ...], as_json: bool, **given: Any) -> str:
    """Output size, formula and the sizes within reach.

    INPUT is the input size. Padding may also be the word same: the output is then exactly
    input * stride.

    \b
    polyphase size 6 -k 3 -s 2 -p 1
    polyphase size 50x100 -k 3x5 -s 2x1 -p 4x2
    polyphase size 8x8 -k 3 -s 2 -p 0,1x0,1
    polyphase size 10 -k 5 -s 3 -p same
    """
    from polyphase.tools import terminal
    from polyphase.tools.sizes import sizes

    geometry = arguments.geometry(len(input_size), given)
    with arguments.spelled():
        found = sizes(geometry, input_size)
    return _answer(as_json, found.as_data(), lambda _: terminal.sizes(found))


@app.command()
@click.argument("input_sizes", type=arguments.reader(arguments.sizes), metavar="INPUT")
@click.argument("output_sizes", type=arguments.reader(arguments.sizes), metavar="OUTPUT")
@_allowed_values
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=10,
    show_default=True,
    help="Sets to list.",
)
@as_json
def solve(
    input_sizes: list[tuple[int, ...]],
    output_sizes: list[tuple[int, ...]],
    limit: int,
    as_json: bool,
    **given: Any,
) -> str:
    """Parameters that map an input size to an output size, best first.

    A parameter that is left out is free; given several times, each of its values is allowed.
    Several sizes joined by commas ask for one set that serves them all. The exit code is 1 where
    nothing that is allowed reaches the size.

    \b
    polyphase solve 7 16 -s 2
    polyphase solve 7 16 -s 2 -k 4 -k 5 -k 6
    polyphase solve 32x32 64x32 -k 4x3
    polyphase solve 5,7,9 10,14,18
    """
    from polyphase.tools import terminal
    from polyphase.tools.solutions import solutions

    freedom = arguments.freedom(len(input_sizes[0]), given)
    try:
        with arguments.spelled():
            found = solutions(input_sizes, output_sizes, freedom, limit)
    except OutputSizeError as error:
        raise Unreachable(str(error)) from None
    return _answer(as_json, found.as_data(), lambda _: terminal.solutions(found))


@app.command(short_help="What happens inside: phases, overlap, cost and plan.")
@click.argument("what", nargs=-1, required=True, metavar="INPUT | PROBLEM LINE")
@_parameters
@as_json
def explain(what: tuple[str, ...], as_json: bool, **given: Any) -> str:
    """Phases, a picture, overlap, cost and plan of a transposed convolution.

    Either an input size with options, for one channel and one sample; or a problem line, which
    holds everything: n batch, c in:out channels, g groups, i input size, k kernel size, s stride,
    p padding, o output padding, d dilation, data type, layout, @name. Only c, i and k are needed.
    The option --padding may also be the word same, as for polyphase size.

    \b
    polyphase explain 6 -k 3 -s 2 -p 1
    polyphase explain 8x8 -k 4 -s 2 -p 1
    polyphase explain n2 c64:32 i8x8 k4x4 s2x2 p1x1
    polyphase explain c8:8 g8 i32 k9 s4 p2,3 bf16
    """
    from polyphase.tools import explain as explaining
    from polyphase.tools import terminal

    found = explaining.explain(arguments.problem(" ".join(what), given))
    return _answer(as_json, found.as_data(), lambda width: terminal.explanation(found, width))


@app.command()
@click.option("--layers", metavar="FILE", help="Problem lines, or Python with a list LAYERS.")
@click.option("--filter", metavar="REGEX", default="", help="Only layers whose name matches.")
@click.option(
    "--layout", type=click.Choice(["first", "last", "both"]), default="both", show_default=True,
    help="Where the channels lie.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["f32", "f64", "bf16", "f16"]), default="f32", show_default=True,
    help="Type of all numbers.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", default=2, show_default=True,
    help="Threads of every engine.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0), metavar="S", default=2.0, show_default=True,
    help="Time for a layer, all engines together.",
)  # fmt: skip
@click.option("--backward", is_flag=True, help="Gradients instead, and both passes together.")
@click.option("--peers", is_flag=True, help="Further engines, where they are installed.")
@click.option("--kernel", is_flag=True, help="polyphase without the checks of its function.")
@click.option("--first-call", is_flag=True, help="Time of first calls, in fresh processes.")
@click.option("--memory", is_flag=True, help="Memory of a call, in fresh processes.")
@click.option("--json", metavar="FILE", help="Write everything that was measured.")
@click.option("--markdown", metavar="FILE", help="Write the tables as a page.")
def bench(**given: Any) -> int:
    """Measure polyphase against torch on layers of real models.

    Both compute the same numbers, in turns, in one process, after their results were compared with
    float64. The exit code is 1 if a result of polyphase was wrong.

    \b
    polyphase bench --filter unet
    polyphase bench --layers mine.txt --layout last
    polyphase bench --threads 1 --dtype f64
    """
    from polyphase.tools.bench import command

    return command.run(given)


app.add_command(check)
app.add_command(convert)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    That is 0, or 1 where the answer is no (nothing reaches the size, no such call, faults found),
    or 2 where there is no answer: bad input, or an answer that cannot be written. What went wrong
    is said in one line on stderr.

    >>> main(["size", "6", "-k", "3", "-s", "2", "-p", "1", "--json"])  # doctest: +ELLIPSIS
    {
      "kernel_size": 3,
    ...
      "output_size": 11,
    ...
    0
    """
    for stream in (sys.stdout, sys.stderr):
        # a name in a problem line may have letters that the terminal lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if args is None else args)
    try:
        answer = app.main(words, prog_name="polyphase", standalone_mode=False)
        if isinstance(answer, str):
            print(answer, end="", flush=True)
        elif isinstance(answer, int):
            return answer
    except (click.ClickException, PolyphaseError) as error:
        print(f"polyphase: {_message(error, words)}", file=sys.stderr)
        return NO if isinstance(error, Unreachable) else NO_ANSWER
    except click.Abort:
        return INTERRUPTED
    except OSError as error:
        # python flushes once more at exit, which must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"polyphase: cannot write the answer: {error.strerror}", file=sys.stderr)
            return NO_ANSWER
    return 0


def _message(error: Exception, words: list[str]) -> str:
    """What went wrong, on one line."""
    message = str(error)
    if isinstance(error, click.ClickException):
        message = error.format_message().rstrip(".")
        message = message[:1].lower() + message[1:]
    if isinstance(error, click.NoSuchOption) and re.match(r"-\d", error.option_name):
        number = next(word for word in words if word.startswith(error.option_name))
        message = f"a size is at least 1, got {arguments.short(number)}"
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        message += f" (see '{ctx.command_path} --help')"
    return " ".join(message.split())
