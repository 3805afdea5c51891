"""The examples train on real pictures, with the same losses on PyTorch and on polyphase."""

import importlib.util

import pytest
import repository
import torch


def load(name):
    spec = importlib.util.spec_from_file_location(name, repository.ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dcgan", "vae"])
def test_the_same_losses_within_rounding(model, capsys):
    digits = load("digits")
    furthest = digits.compare(model, steps=5, batch=16, width=4, dtype=torch.float64)
    assert furthest["PyTorch"] == 0
    assert max(furthest.values()) < 1e-10
    # a generator that is just born moves the losses of a DCGAN by less than a rounding
    assert model == "dcgan" or furthest["rounding"] > 0
    told = capsys.readouterr().out.splitlines()
    assert len(told[-3].split()) == 3
    assert max(map(len, told)) <= 80


@pytest.mark.slow
def test_losses_fall(capsys):
    digits = load("digits")
    run = digits.train("vae", "polyphase", steps=30, batch=32, width=4, dtype=torch.float32)
    losses = [found["picture"] for _, found in run]
    assert losses[-1] < 0.8 * losses[0]


def test_the_command_line(capsys):
    digits = load("digits")
    digits.main(["vae", "--steps", "2", "--batch", "4", "--width", "2", "--double"])
    assert "furthest from PyTorch" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        digits.main(["diffusion"])
