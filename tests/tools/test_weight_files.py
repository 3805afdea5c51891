"""Files of weights, as ``polyphase convert`` reads and writes them."""

import json
import os

import numpy as np
import oracle
import pytest
import safetensors.torch as torch_files
import torch
from safetensors.numpy import load_file, save_file

from polyphase import Geometry, GeometryError, interop
from polyphase.cli import main
from polyphase.tools import weight_files


def run(capsys, *words):
    code = main(["convert", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    return rng.integers(-4, 5, (4, 3, 3, 3)).astype(np.float32), np.ones(3, np.float32)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_of_weights(tmp_path, capsys, weights, suffix):
    weight, bias = weights
    first, second = tmp_path / f"up{suffix}", tmp_path / f"up-keras{suffix}"
    weight_files.write(first, {"weight": weight, "bias": bias})
    words = ["-k", "3x3", "-s", "2", "--weights", str(first), "--out", str(second)]
    code, out, _ = run(capsys, "--to", "keras", *words)
    assert code == 0
    told = "weight (4, 3, 3, 3) becomes weight (3, 3, 3, 4)"
    axis = "scales per output channel belong to axis 2"
    assert out.endswith(f"{second}:\n  {told}\n  {axis}\n")
    _, out, _ = run(capsys, "--to", "keras", *words, "--json")
    [file] = json.loads(out)["files"]
    assert file == {"name": "weight", "shape": [4, 3, 3, 3], "results": {"weight": [3, 3, 3, 4]}}
    found = weight_files.read(second)
    assert np.array_equal(found["weight"], interop.convert(weight, source="torch", target="keras"))
    assert np.array_equal(found["bias"], bias)


def test_files_of_both_kinds_are_what_others_write(tmp_path, weights):
    weight, _ = weights
    np.savez(tmp_path / "a.npz", up=weight)
    save_file({"up": weight}, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        assert np.array_equal(weight_files.read(tmp_path / name)["up"], weight)
    weight_files.write(tmp_path / "b.safetensors", {"up": weight.transpose(2, 3, 1, 0)})
    assert np.array_equal(load_file(tmp_path / "b.safetensors")["up"], weight.transpose(2, 3, 1, 0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_dtypes_that_numpy_does_not_have(tmp_path, capsys, dtype):
    first, second = tmp_path / "up.safetensors", tmp_path / "tf.safetensors"
    weight = torch.arange(4 * 2 * 3).reshape(4, 2, 3).to(dtype)
    scale, none = torch.tensor(0.5, dtype=torch.float64), torch.zeros(0, 3, dtype=dtype)
    torch_files.save_file({"weight": weight, "scale": scale, "none": none}, first)
    words = ["-k", "3", "-d", "2", "-g", "2", "--weights", str(first), "--to", "jax"]
    code, _, _ = run(capsys, *words, "-s", "2", "--out", str(second))
    found = torch_files.load_file(second)
    assert code == 1
    assert (found["scale"], found["none"].shape, found["none"].dtype) == (scale, (0, 3), dtype)
    for at in range(2):
        part = weight.float().numpy()[2 * at : 2 * at + 2]
        expected = interop.convert(part, source="torch", target="jax")
        assert found[f"weight.{at}"].dtype == dtype
        assert np.array_equal(found[f"weight.{at}"].float().numpy(), expected)
    code, _, err = run(capsys, *words, "--out", str(tmp_path / "up.npz"))
    assert code == 2
    assert "for which .npz files have no dtype: write a .safetensors file" in err


@pytest.mark.parametrize("dtype", [*weight_files.DTYPES.values(), ">f4"])
def test_dtypes_of_safetensors(tmp_path, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    path = tmp_path / "a.safetensors"
    weight_files.write(path, {"a": array, "b": np.ones(3, np.int8), "c": array.T})
    for found in (load_file(path), weight_files.read(path)):
        assert np.array_equal(found["a"], array)
        assert np.array_equal(found["c"], array.T)
        assert found["a"].dtype == array.dtype.newbyteorder("=")


def test_any_name_is_a_name(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"file": np.ones(2), "up/kernel:0": np.arange(6).reshape(2, 3).T, "": np.float32(3)}
    weight_files.write(path, arrays)
    with np.load(path) as found:
        assert set(found) == set(arrays)
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_what_safetensors_cannot_hold(tmp_path, capsys):
    path = tmp_path / "up.npz"
    np.savez(path, weight=np.ones((4, 2, 3), np.complex128))
    words = [
        "-k",
        "3",
        "--to",
        "jax",
        "--weights",
        str(path),
        "--out",
        str(tmp_path / "a.safetensors"),
    ]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "weight is complex128, for which .safetensors files have no dtype" in err


def test_what_stands_beside_is_copied_only_if_it_is_clear(tmp_path, weights):
    weight, bias = weights
    source, target = tmp_path / "net.npz", tmp_path / "out.npz"
    np.savez(source, up=weight, down=np.ones((5, 5, 7, 7)), bias=bias)
    files, meant = (source, target, "torch", "keras"), interop.torch.geometry((3, 3), 2)
    with pytest.raises(GeometryError, match="fitting are up, others are down; name them with"):
        weight_files.convert(*files, meant)
    [told] = weight_files.convert(*files, meant, only=("up",))
    assert told == ("up", (4, 3, 3, 3), {"up": (3, 3, 3, 4)})
    found = weight_files.read(target)
    assert found["up"].shape == (3, 3, 3, 4)
    assert found["down"].shape == (5, 5, 7, 7)
    with pytest.raises(GeometryError, match="there is no array x; there are up, down, bias"):
        weight_files.convert(*files, meant, only=("x",))
    wrong = r"down must have a kernel of 3x3 as torch has it, got shape \(5, 5, 7, 7\)"
    with pytest.raises(GeometryError, match=wrong):
        weight_files.convert(*files, meant, only=("down",))


def test_groups_become_arrays_of_their_own_where_there_are_none(tmp_path, capsys):
    weight = np.arange(4 * 2 * 3).reshape(4, 2, 3).astype(np.float32)
    first, second = tmp_path / "up.npz", tmp_path / "jax.npz"
    np.savez(first, weight=weight)
    words = ["-k", "3", "-g", "2", "--weights", str(first), "--out", str(second), "--to", "jax"]
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert "for each group of channels" in out
    found = weight_files.read(second)
    assert "weight (4, 2, 3) becomes weight.1 (3, 2, 2)\n  scales per output channel" in out
    for at in range(2):
        part = interop.convert(weight[2 * at : 2 * at + 2], source="torch", target="jax")
        assert np.array_equal(found[f"weight.{at}"], part)


def test_nothing_in_the_file_is_overwritten(tmp_path, capsys):
    first, second = tmp_path / "up.npz", tmp_path / "jax.npz"
    np.savez(first, **{"up": np.ones((4, 2, 3)), "up.1": np.ones(2)})
    words = ["-k", "3", "-g", "2", "--weights", str(first), "--out", str(second), "--to", "jax"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "up would become up.1, which is in the file: rename one of them" in err
    assert not second.exists()


@pytest.mark.parametrize("target", ["onnx", "torch"])
def test_groups_have_no_axis_of_scales(tmp_path, capsys, target):
    first, second = tmp_path / "up.npz", tmp_path / "onnx.npz"
    np.savez(first, up=np.ones((4, 3, 2)))
    words = ["--from", "mlx", "-k", "3", "-g", "2", "--weights", str(first), "--out", str(second)]
    _, out, _ = run(capsys, *words, "--to", target)
    assert "up (4, 3, 2) becomes up (4, 2, 3)" in out
    assert "no axis of these counts every output channel" in out


def test_spread_taps_are_written(tmp_path, capsys):
    weight = np.arange(4 * 2 * 3 * 3).reshape(4, 2, 3, 3).astype(np.float32)
    first, second = tmp_path / "up.npz", tmp_path / "lite.npz"
    np.savez(first, weight=weight)
    words = ["-k", "3x3", "-d", "2", "--weights", str(first), "--out", str(second)]
    run(capsys, *words, "--to", "tflite", "--input-size", "5")
    [spread] = weight_files.read(second).values()
    assert spread.shape == (2, 5, 5, 4)
    back = interop.convert(spread, source="tflite", target="torch")
    x = np.random.default_rng(0).integers(-4, 5, (1, 4, 5, 5))
    oracle.assert_same(
        oracle.conv_transpose(x, back, None, Geometry((5, 5))),
        oracle.conv_transpose(x, weight, None, Geometry((3, 3), dilation=2)),
    )


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("up.pt", b"", "is neither a .npz nor a .safetensors file"),
        ("up.npz", b"no archive", "cannot be read"),
        ("up.safetensors", b"no header", "cannot be read"),
        ("missing.npz", None, "there is no file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, capsys, name, content, text):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    words = ["-k", "3", "--to", "jax", "--weights", str(path)]
    code, out, err = run(capsys, *words, "--out", os.fspath(tmp_path / "out.npz"))
    assert (code, out) == (2, "")
    assert text in err


def test_pickles_are_not_opened(tmp_path):
    path = tmp_path / "up.npz"
    np.savez(path, weight=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(GeometryError, match="cannot be read"):
        weight_files.read(path)
