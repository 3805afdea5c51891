"""The demo: what it claims is true, and it notices when it is not."""

import io
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from polyphase import models
from polyphase.cli import main
from polyphase.tools import demo, trial
from polyphase.tools.check import measuring, neighbours
from polyphase.tools.check.page import command

# 45 x 61 is odd on most levels: 45, 22, 11, 5 rows and 61, 30, 15, 7 columns
CORNER = (slice(0, 45), slice(0, 61))


@pytest.fixture(scope="module")
def tried():
    return trial.Trial(trial.photograph()[CORNER], width=4)


@pytest.fixture(scope="module")
def vocoder():
    return models.build("hifigan", width=16).eval()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS_PER_LAYER", 0.01)
    # what the machine can do takes seconds to measure
    gauge = SimpleNamespace(look=lambda: None, roof=SimpleNamespace(gflops=100.0, gbytes=10.0))
    monkeypatch.setattr(measuring, "Gauge", lambda *_: gauge)
    monkeypatch.setattr(neighbours, "LARGEST", 4)


def console():
    return Console(file=io.StringIO(), width=80)


def test_the_photograph_is_of_awkward_size():
    photo = trial.photograph()
    assert photo.shape == (300, 451, 3)
    assert photo.dtype == np.uint8
    assert all(n % 16 for n in photo.shape[:2])


def test_pytorch_makes_the_sizes_that_polyphase_computes(tried):
    assert tried.sizes("crop") == tried.computed
    assert tried.computed["output"] == (32, 48)
    assert tried.sizes("output_size") == tried.proposed
    assert tried.proposed["output"] == tried.size == (45, 61)
    assert len(tried.proposed) == 5


def test_a_plain_decoder_stops_at_the_first_skip_that_does_not_fit(tried):
    first = tried.report.misfits[0]
    assert first.skip == (5, 7)
    assert first.after == (4, 6)
    assert "Expected size 5 but got size 4" in tried.plain_failure()


def test_nothing_fails_where_everything_fits():
    fitting = trial.Trial(trial.photograph()[:32, :48], width=2)
    assert fitting.report.fits
    assert fitting.plain_failure() == ""
    assert fitting.proposed == fitting.computed == fitting.sizes("plain")


def test_the_proposed_input_padding_fits_as_well(tried):
    padding = tried.report.input_padding
    assert padding.input_size == (48, 64)
    padded = np.pad(tried.photo, (*padding.padding, (0, 0)))
    assert trial.Trial(padded, width=2).sizes("plain")["output"] == padding.input_size


def test_each_layer_is_compared_on_the_map_that_reaches_it(tried):
    checks = tried.check_layers()
    assert [check.name for check in checks] == ["up.0", "up.1", "up.2", "up.3"]
    assert [check.output_shape[2:] for check in checks] == list(tried.proposed.values())[:4]
    assert [check.output_padding for check in checks] == [(1, 1), (1, 1), (0, 0), (1, 1)]
    assert all(check.holds for check in checks)
    assert all(check.largest > 0 for check in checks)


def test_the_added_positions_hold_the_bias_alone(tried):
    assert demo._adds_bias_only(tried.report)
    seen, _ = tried._run("output_size")
    layer = dict(tried.net.named_modules())["up.0"]
    added = seen["up.0"][1][0, :, -1, :]
    assert torch.equal(added, layer.bias[:, None].expand_as(added))


def test_a_wrong_result_is_noticed(tried, monkeypatch):
    right = trial.conv_transpose2d

    def wrong(*arguments, **parameters):
        result = right(*arguments, **parameters)
        result.flat[-1] += 1
        return result

    monkeypatch.setattr(trial, "conv_transpose2d", wrong)
    checks = tried.check_layers()
    assert not any(check.holds for check in checks)
    assert not any(check.same_integers for check in checks)
    assert all(check.difference == pytest.approx(1) for check in checks)


@pytest.mark.slow
def test_training_brings_the_output_nearer_to_the_edges():
    learning = trial.Trial(trial.photograph()[100:164, 100:180], width=8)
    edges = trial.edges(learning.photo)
    before = np.square(learning.activation() - edges).mean()
    losses = list(learning.train(edges, 10))
    assert len(losses) == 10
    assert np.square(learning.activation() - edges).mean() < before / 4


def test_edges_are_where_the_luminance_changes():
    photo = np.zeros((20, 20, 3), np.uint8)
    photo[:, 10:] = 255
    edges = trial.edges(photo)
    assert edges[:, 9:11].min() == edges.max() == 1
    assert not edges[:, :8].any()
    assert not trial.edges(np.zeros((20, 20, 3), np.uint8)).any()


def test_the_demo_runs_from_end_to_end(tried, vocoder, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "load", lambda: 99.0)
    shown, folder = console(), tmp_path / "made"
    assert demo.show(tried, vocoder, shown, folder, steps=2)
    for name in ("demo.png", "voice.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert "skip-mismatch" in (folder / "unet.html").read_text()
    mended = (folder / "unet-mended.html").read_text()
    assert 'class="note"' in mended
    assert 'class="warning"' not in mended
    assert 'class="error"' not in mended
    assert "64 frames give 16384 samples" in shown.file.getvalue()
    assert "4 of 4 transposed layers do not fit" in shown.file.getvalue().replace("\n", " ")
    assert "Other programs were busy (load 99)" in shown.file.getvalue().replace("\n", " ")
    assert max(map(len, shown.file.getvalue().splitlines())) <= 80
    assert (folder / "hifigan.html").is_file()


@pytest.mark.parametrize("lie", ["sizes", "check_layers"])
def test_the_demo_says_when_something_does_not_hold(tried, vocoder, tmp_path, monkeypatch, lie):
    if lie == "sizes":
        monkeypatch.setattr(tried, "sizes", lambda join: {**tried.computed, "output": (1, 1)})
    else:
        bad = trial.LayerCheck("up.0", (1, 1, 2, 2), (1, 1, 4, 4), (0, 0), 1.0, 0.5, True)
        monkeypatch.setattr(tried, "check_layers", lambda: [bad])
    assert not demo.show(tried, vocoder, console(), tmp_path, steps=1)


def test_training_ends_on_a_slow_machine(tried, vocoder, tmp_path, monkeypatch):
    learn, steps = tried.train, []
    monkeypatch.setattr(demo, "TRAINING_SECONDS", 0)
    monkeypatch.setattr(tried, "train", lambda *given: map(steps.append, learn(*given)))
    assert demo.show(tried, vocoder, console(), tmp_path, steps=1000)
    assert len(steps) == 1


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "skimage" else object())
    assert demo.main() == 2
    assert capsys.readouterr().err == (
        "the demo needs scikit-image; install with: pip install 'polyphase[demo]'\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("join", "code"), [("plain", 1), ("output_size", 0)])
def test_the_command_under_a_page_of_the_demo_runs(tried, capsys, join, code):
    typed = shlex.split(command(tried.checked(join)))
    assert main(typed[1:]) == code
    assert (
        f"input 1x3x45x61, {'no output' if code else 'output 1x1x45x61'}" in capsys.readouterr().out
    )
