"""No kernel touches memory outside of a buffer: forbidden pages on either side would kill it."""

import os
import subprocess
import sys

import pytest
import repository

SCRIPT = repository.ROOT / "tests" / "guarded.py"


def run(*arguments):
    folders = [str(SCRIPT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("problems", [("0", "30"), ("1", "30"), ("regress",)], ids=" ".join)
def test_nothing_outside_of_a_buffer_is_touched(problems):
    process = run(*problems)
    last = process.stdout.splitlines()[-1:]
    assert process.returncode == 0, f"{last} {process.stderr}"
    assert last == ["done"]


def test_an_access_outside_is_seen():
    # the harness itself: one element further and the process dies, or the margin is found changed
    source = (
        "import guarded, ctypes\n"
        "kept = guarded.Guarded(40, at_end={at_end})\n"
        "ctypes.memset(kept.address + {place}, 1, 1)\n"
        "kept.assert_margin_untouched()\n"
    )
    for at_end, place, seen in (
        (True, 39, False),
        (True, 40, True),
        (True, -1, True),
        (False, 0, False),
        (False, -1, True),
        (False, 40, True),
    ):
        process = subprocess.run(
            [sys.executable, "-c", source.format(at_end=at_end, place=place)],
            capture_output=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])},
        )
        assert (process.returncode != 0) is seen, (at_end, place, process.stderr)
