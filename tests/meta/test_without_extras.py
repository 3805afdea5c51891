"""polyphase without its extras: everything that does not need them works where they are missing."""

import json
import subprocess
import sys

import pytest
import repository

EXTRAS = ("jax", "matplotlib", "onnx", "onnxruntime", "openvino", "scipy", "skimage", "torch")
# torch code from the first line on
TORCH_ROOMS = ("polyphase.nn", "polyphase.acceleration")

BARE = f"""
import importlib, json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def bare(program: str) -> str:
    """What a program prints in an interpreter that has none of the extras."""
    return subprocess.run(
        [sys.executable, "-c", BARE + program], capture_output=True, text=True, check=True
    ).stdout


def doors() -> list[str]:
    """The modules that people come in by, and everything that they must be able to import."""
    found = []
    for path in repository.source_files():
        name = repository.module_name(path)
        floor = f"{name}.".split(".")[1]
        open_to_all = path.name == "__init__.py" or floor in ("arithmetic", "engine", "cli")
        if open_to_all and not name.startswith(TORCH_ROOMS):
            found.append(name)
    return found


def test_the_extras_are_missing():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        bare("import torch")
    assert "No module named 'torch'" in caught.value.stderr


def test_the_doors_open():
    program = f"""
closed = {{}}
for name in {doors()}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        closed[name] = str(error)
print(json.dumps(closed))
"""
    assert json.loads(bare(program)) == {}


def test_arrays_are_computed():
    program = """
import numpy as np, polyphase as pp
x, w = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]])
print(pp.functional.conv_transpose1d(x, w, stride=2).tolist())
"""
    assert bare(program) == "[[[1.0, 10.0, 102.0, 20.0, 200.0]]]\n"
