"""The command ``polyphase check``."""

import json
from pathlib import Path

import click

from polyphase.models import ARCHITECTURES
from polyphase.tools.check.finding import SEVERITIES
from polyphase.tools.progress import bar

CLEAN, FAULTS = 0, 1


@click.command()
@click.argument("model", required=False)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE",
    help="Shape of an argument, as in 1,3,256,256 or 1,77:int64; once for each.",
)
@click.option("--list", "listing", is_flag=True, help="Name the built-in architectures.")
@click.option("--measure", is_flag=True, help="Measure PyTorch against polyphase.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", metavar="FILE", help="Write a page that needs nothing else.")
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    default="error",
    show_default=True,
    help="Least severity that makes the exit code 1.",
)
@click.option("--trust", is_flag=True, help="Read pickles, which can run any code.")
@click.option("--compute", is_flag=True, help="Run the model on random numbers, not on shapes.")
@click.option("--width", type=click.IntRange(40), help="Columns of the report.", hidden=True)
def check(
    model: str | None,
    inputs: tuple[str, ...],
    listing: bool,
    measure: bool,
    as_json: bool,
    html: str | None,
    fail_on: str,
    trust: bool,
    compute: bool,
    width: int | None,
) -> int:
    """Find what is wrong with the transposed convolutions of a model, and what mends it.

    MODEL is package.module:name or file.py:name of a class or function that builds a
    torch.nn.Module, a file of torch.export (.pt2), an ONNX file, or a built-in architecture.
    Nothing is computed: shapes run through the model.

    The exit code is 0 if nothing was found of the severity --fail-on, 1 if something was, and 2 if
    the model could not be checked.

    \b
    polyphase check unet
    polyphase check unet --input 1,1,300,451
    polyphase check mynet.py:Decoder --input 8,64,32,32 --measure --html report.html
    """
    if listing:
        print(_listing(as_json), end="")
        return CLEAN
    if model is None:
        raise click.UsageError(
            f"name a MODEL: file.py:name, a .pt2 or .onnx file, or {', '.join(ARCHITECTURES)}"
        )
    from polyphase.tools.check import loading
    from polyphase.tools.check.checking import check as find

    with bar() as say:
        say("Loading the model")
        subject = loading.load(model, tuple(map(loading.read_input, inputs)), trust)
        report = find(subject, compute=compute, progress=say)
        if measure:
            from polyphase.tools.check.measuring import measured

            report = measured(report, progress=say)
    if html:
        from polyphase.tools.check.page import page

        try:
            Path(html).write_text(page(report), encoding="utf-8")
        except OSError as error:
            raise click.FileError(html, f"{error.strerror}: give --html a path to write") from None
    if as_json:
        print(json.dumps(report.as_data(), indent=2))
    else:
        from polyphase.tools.check import screen

        print(screen.rendered(report, width), end="")
        if html:
            print(f"The page is in {html}.")
    return FAULTS if report.fails(fail_on) else CLEAN


def _listing(as_json: bool) -> str:
    if as_json:
        data = {
            name: {"title": a.title, "source": a.source, "inputs": a.input_shapes}
            for name, a in ARCHITECTURES.items()
        }
        return json.dumps(data, indent=2) + "\n"
    from polyphase.tools.check import screen

    return screen.listing(ARCHITECTURES.values())
