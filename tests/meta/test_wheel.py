"""The wheel: pure Python, complete, and it works where nothing else of the repository is."""

import os
import subprocess
import sys
import zipfile
from email.parser import HeaderParser

import pytest
import repository

import polyphase

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=repository.ROOT, check=True, capture_output=True)
    [path] = folder.iterdir()
    return path


def test_it_is_pure_python(wheel):
    assert wheel.name == f"polyphase-{polyphase.__version__}-py3-none-any.whl"


def test_it_holds_the_package_and_its_licence_and_nothing_else(wheel):
    found = set(zipfile.ZipFile(wheel).namelist())
    info = f"polyphase-{polyphase.__version__}.dist-info"
    source = {
        path.relative_to(repository.PACKAGE.parent).as_posix()
        for path in repository.PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert "polyphase/py.typed" in source
    assert {name for name in found if name.startswith("polyphase/")} == source
    assert f"{info}/licenses/LICENSE" in found
    assert all(name.startswith(("polyphase/", f"{info}/")) for name in found)


def test_its_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    text = archive.read(f"polyphase-{polyphase.__version__}.dist-info/METADATA").decode()
    fields = HeaderParser().parsestr(text)
    assert fields["Version"] == polyphase.__version__
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["Requires-Python"] == ">=3.11"
    required = [line for line in fields.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in required) == ["click", "llvmlite", "numpy", "rich"]


def test_it_works_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import polyphase; print(polyphase.__file__, polyphase.Geometry(3, 2).output_size(6))"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert answer == f"{tmp_path / 'polyphase' / '__init__.py'} 13\n"
