"""``make demo``: a U-Net on a photograph and a vocoder on a voice, checked, mended and measured."""

import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.layers import ConvTranspose
from polyphase.tools.check.page import page
from polyphase.tools.check.screen import speed, speeds
from polyphase.tools.progress import Say, bar
from polyphase.tools.vocoder import mel_spectrogram, voice

if TYPE_CHECKING:
    from torch import nn

    from polyphase.arithmetic.network import Report, Row
    from polyphase.tools.check.checking import Report as Checked
    from polyphase.tools.trial import Array, LayerCheck, Size, Trial

NEEDED = {"torch": "torch", "skimage": "scikit-image", "matplotlib": "matplotlib"}
FOLDER = Path("build")
# enough for the network to draw edges: 20 s on two cores that have nothing else to do
TRAINING_STEPS = 80
TRAINING_SECONDS = 30


def main() -> int:
    """Run the demo; 0 if everything held, 1 if something did not, 2 if a package is missing."""
    missing = [distribution for name, distribution in NEEDED.items() if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"the demo needs {', '.join(missing)}; install with: pip install 'polyphase[demo]'\n"
        )
        return 2
    console = Console(highlight=False)
    with bar() as say:
        say("Drawing the weights")
        # torch takes a moment to load
        from polyphase.models import build
        from polyphase.tools.trial import Trial, photograph

        trial = Trial(photograph())
        vocoder = build("hifigan").eval()
    return 0 if show(trial, vocoder, console, FOLDER, TRAINING_STEPS) else 1


def show(trial: "Trial", vocoder: "nn.Module", console: Console, folder: Path, steps: int) -> bool:
    """Print what is found and write pictures and pages into ``folder``; whether everything held.

    The photograph of the trial must be one that a plain decoder does not fit.
    """
    started = perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    console.print("[bold]polyphase: two real networks, checked, mended and measured[/]\n")
    console.print(_cast(trial))

    _heading(console, "1  A U-Net: where a plain decoder comes out short")
    with bar() as say:
        say("Running the network as it is")
        failure, cropped = trial.plain_failure(), trial.sizes("crop")
        plain = trial.checked("plain", say)
    console.print(_size_table(trial.report))
    _say(console, _shortfall(trial, failure, cropped["output"]))

    _heading(console, "2  What mends it: polyphase's proposal")
    with bar() as say:
        say("Running the mended network")
        mended = trial.sizes("output_size")
    sizes_hold = cropped == trial.computed and mended == trial.proposed
    console.print(_mend_table(trial.report))
    _say(console, _mended(trial, mended["output"], len(cropped) + len(mended), sizes_hold))

    _heading(console, "3  A short training, so that the picture shows something")
    console.print("On small pieces of this one photograph, to draw its edges.")
    _train(trial, console, steps)

    _heading(console, "4  polyphase beside PyTorch, on the whole feature maps")
    with bar() as say:
        say("Comparing layer by layer")
        checks = trial.check_layers()
        fast = trial.measured(say)
    layers_hold = all(check.holds for check in checks)
    console.print(_check_table(checks))
    _say(console, _compared(layers_hold))
    console.print(speeds(fast))

    _heading(console, "5  A vocoder: HiFi-GAN V1 on the mel spectrogram of a voice")
    with bar() as say:
        say("Computing the spectrogram")
        spectrogram = mel_spectrogram(voice())
        spoken = measured_vocoder(vocoder, spectrogram, say)
    console.print(speeds(spoken))
    voice_holds = all((layer.difference or 0) <= 1e-4 for layer in spoken.layers)

    _heading(console, "6  What was found")
    with bar() as say:
        say("Drawing")
        _draw(trial, cropped["output"], folder / "demo.png")
        _draw_voice(spectrogram, folder / "voice.png")
        for name, report in (("unet", plain), ("unet-mended", fast), ("hifigan", spoken)):
            (folder / f"{name}.html").write_text(page(report), encoding="utf-8")
    holds = sizes_hold and layers_hold and voice_holds
    _say(console, _five_lines(trial, plain, cropped["output"], fast, spoken))
    _say(console, _ending(folder, holds, perf_counter() - started))
    return holds


def measured_vocoder(vocoder: "nn.Module", spectrogram: "Array", say: Say) -> "Checked":
    """The check of a vocoder on this spectrogram, and its speed on the maps that come of it."""
    import torch

    from polyphase.tools.check.checking import check
    from polyphase.tools.check.loading import Subject
    from polyphase.tools.check.measuring import measured_on

    mel = torch.from_numpy(spectrogram)[None]
    subject = Subject(
        "hifigan",
        f"HiFi-GAN V1 on a voice, {spectrogram.shape[1]} frames",
        vocoder,
        ((tuple(mel.shape), "float32"),),
    )
    return measured_on(check(subject, progress=say), [mel], say)


def _size_table(report: "Report") -> Table:
    """Every level from the top: what the encoder kept, what a plain decoder brings to it."""
    table = _table("level", "encoder", "plain decoder", "short by")
    meetings = _meetings(report)
    for level, (_, skip) in enumerate(reversed(meetings)):
        table.add_row(
            str(level), _by(skip.skip), _by(skip.after), f"[yellow]{_lacking(skip.short)}[/]"
        )
    table.add_row(str(len(meetings)), _by(meetings[0][0].before), "", "")
    return table


def _mend_table(report: "Report") -> Table:
    """What each transposed layer has to make, in the order in which they run."""
    table = _table("layer", "from", "output_size", "output_padding")
    before = _meetings(report)[0][0].before
    for layer in report.output_paddings.layers if report.output_paddings else ():
        table.add_row(
            layer.name, _by(before), f"[green]{layer.output_size}[/]", str(layer.output_padding)
        )
        before = layer.output_size
    return table


def _check_table(checks: Iterable["LayerCheck"]) -> Table:
    """polyphase beside PyTorch, one layer a row."""
    table = _table("layer", "input", "output", "largest", "difference", "integers")
    for check in checks:
        table.add_row(
            check.name,
            _by(check.input_shape[1:]),
            _by(check.output_shape[1:]),
            f"{check.largest:.2g}",
            f"{check.difference:.1e}",
            "[green]identical[/]" if check.same_integers else "[red]different[/]",
        )
    return table


def _draw(trial: "Trial", cropped: "Size", path: Path) -> None:
    """Write the photograph beside the network's output, with a frame where cropping would end."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(11, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(trial.photo)
    left.set_title(f"photograph, {_by(trial.size)}")
    right.imshow(trial.activation(), cmap="gray", vmin=0, vmax=1)
    right.set_title(f"output of the mended U-Net, {_by(trial.size)}")
    height, width = cropped
    top, start = ((n - m) // 2 for n, m in zip(trial.size, cropped, strict=True))
    frame = Rectangle((start - 0.5, top - 0.5), width, height, fill=False, color="tab:orange")
    right.add_patch(frame)
    right.set_xlabel(f"frame: all that is left where skips are cropped, {_by(cropped)}")
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=120)


def _draw_voice(spectrogram: "Array", path: Path) -> None:
    """Write the spectrogram that the vocoder is given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(spectrogram, origin="lower", aspect="auto", cmap="magma")
    figure.colorbar(drawn, label="log magnitude")
    axes.set_xlabel("frame of 256 samples")
    axes.set_ylabel("mel band")
    figure.savefig(path, dpi=120)


def _cast(trial: "Trial") -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row("network", f"U-Net, {trial.parameters:,} parameters (arXiv 1505.04597)")
    grid.add_row("photograph", f"Chelsea the cat, {_by(trial.size)} pixels (from scikit-image)")
    grid.add_row(
        "weights",
        "random, from a fixed seed: there are none to download, and neither the sizes "
        "nor the equality with PyTorch depend on them",
    )
    return grid


def _shortfall(trial: "Trial", failure: str, cropped: "Size") -> Iterator[str]:
    row = next(row for row, skip in _meetings(trial.report) if not skip.fits)
    skip = trial.report.misfits[0]
    axis = next(axis for axis, lacking in enumerate(skip.short) if lacking)
    same = _geometry(row, 0).conv_input_sizes(row.before[axis])
    yield (
        f"Pooling rounds down: {same[0]} and {same[-1]} both become {row.before[axis]}. On the way "
        f"back, layer {row.layer.name} cannot know which it was, and makes {row.after[axis]}."
    )
    yield f"Joined as they are, PyTorch stops at the first skip: [yellow]{escape(failure)}[/]"
    lost = tuple(n - m for n, m in zip(trial.size, cropped, strict=True))
    yield (
        f"With the skips cropped, as in the paper, the output is [yellow]{_by(cropped)}[/]: "
        f"[yellow]{_lacking(lost)}[/] of the photograph are lost."
    )


def _mended(trial: "Trial", output: "Size", count: int, sizes_hold: bool) -> Iterator[str]:
    yield (
        f"Mended, the network makes [green]{_by(output)}[/] of the {_by(trial.size)} photograph. "
        f"PyTorch produced {count} sizes in these two runs: "
        + _verdict(sizes_hold, "all are those that polyphase computed.")
    )
    if _adds_bias_only(trial.report):
        yield (
            "What output_padding adds here holds the bias alone, for the kernel is as long as the "
            "stride and no tap reaches further."
        )
    padding = trial.report.input_padding
    if padding is not None:
        (top, bottom), (left, right) = padding.padding
        yield (
            f"The other way is to pad the photograph to {_by(padding.input_size)}: "
            f"{top} + {bottom} rows, {left} + {right} columns."
        )


def _compared(layers_hold: bool) -> Iterator[str]:
    yield (
        "difference: the largest, between float32 sums taken in another order. integers: the same "
        "maps and weights rounded to small integers, where float32 is exact."
    )
    yield _verdict(layers_hold, "Every layer gives PyTorch's result.")


def _five_lines(
    trial: "Trial", plain: "Checked", cropped: "Size", fast: "Checked", spoken: "Checked"
) -> Iterator[str]:
    short = [finding for finding in plain.findings if finding.code == "skip-mismatch"]
    mend = short[0].mend.rpartition("or ")[2] if short else ""
    lost = tuple(n - m for n, m in zip(trial.size, cropped, strict=True))
    yield (
        f"U-Net on {_by(trial.size)}: [yellow]{len(short)} of {len(plain.layers)} transposed "
        f"layers do not fit their skip[/]; cropping loses {_lacking(lost)}."
    )
    yield f"Mend: output_size= in each of them gives [green]{_by(trial.size)}[/]; or {mend}"
    yield f"U-Net mended: {speed(fast)}"
    faults = spoken.count("error") + spoken.count("warning")
    yield (
        f"HiFi-GAN: {faults or 'no'} faults; {spoken.walk.inputs[0][-1]} frames give "
        f"{spoken.walk.outputs[0][-1]} samples, and every overlap is even."
        if all(finding.code != "uneven-overlap" for finding in spoken.findings)
        else f"HiFi-GAN: {faults} faults, uneven overlap among them."
    )
    yield f"HiFi-GAN: {speed(spoken)}"


def _ending(folder: Path, holds: bool, seconds: float) -> Iterator[str]:
    name = escape(folder.as_posix())
    yield (
        f"\n[bold]{name}/demo.png[/]: the photograph beside the output of the mended network. "
        f"[bold]{name}/voice.png[/]: the spectrogram."
    )
    yield f"[bold]{name}/unet.html, unet-mended.html, hifigan.html[/]: the reports."
    yield _verdict(holds, "Everything held.") + f" The demo took {seconds:.0f} s."


def _train(trial: "Trial", console: Console, steps: int) -> None:
    from polyphase.tools.trial import edges

    deadline, done = perf_counter() + TRAINING_SECONDS, 0
    with bar() as say:
        for done, _ in enumerate(trial.train(edges(trial.photo), steps), start=1):
            say("Training", done, steps)
            if perf_counter() > deadline:
                break
    if done < steps:
        console.print(
            f"Stopped after {TRAINING_SECONDS} s, for this machine is busy or slow: "
            "the picture is rougher, and nothing else depends on it."
        )


def _meetings(report: "Report") -> list[tuple["Row", "Row"]]:
    """Each transposed layer with the skip that it meets, from the deepest level up."""
    layers = [row for row in report.rows if row.layer.kind == "conv_transpose"]
    skips = [row for row in report.rows if row.skip is not None]
    return list(zip(layers, skips, strict=True))


def _geometry(row: "Row", output_padding: int) -> Geometry:
    """One axis of a transposed layer; both axes of this network are alike."""
    layer = row.layer
    assert isinstance(layer, ConvTranspose)
    return Geometry(
        layer.kernel_size, layer.stride, padding=layer.padding, output_padding=output_padding
    )


def _adds_bias_only(report: "Report") -> bool:
    """Whether no tap reaches any position that the proposed output paddings add."""
    if report.output_paddings is None:
        return False
    reached = []
    for layer, (row, _) in zip(report.output_paddings.layers, _meetings(report), strict=True):
        for n, extra in zip(row.before, layer.output_padding, strict=True):
            counts = _geometry(row, extra).overlap(n)
            reached += counts[len(counts) - extra :]
    return bool(reached) and not any(reached)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name in ("layer", "short by") else "right")
    return table


def _heading(console: Console, text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/]")


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line)


def _verdict(holds: bool, claim: str) -> str:
    return f"[green]{claim}[/]" if holds else f"[red]This did not hold: {claim}[/]"


def _by(size: "Size | None") -> str:
    return " x ".join(map(str, size or ()))


def _lacking(short: "Size") -> str:
    named = zip(short, ("row", "column"), strict=True)
    return ", ".join(f"{n} {name}{'s' if n > 1 else ''}" for n, name in named if n)


if __name__ == "__main__":
    sys.exit(main())
