"""`import polyphase` loads nothing that it does not need, and is quick."""

import re
import subprocess
import sys

RUNS = 5
LIMIT_MS = 100


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def import_ms() -> float:
    """Time from the import statement to its end, as the interpreter itself counts it."""
    table = run("-X", "importtime", "-c", "import polyphase").stderr
    [microseconds] = re.findall(r"^import time:\s*\d+ \|\s*(\d+) \| polyphase$", table, re.M)
    return int(microseconds) / 1000


def test_it_loads_no_heavy_package():
    heavy = "{'torch', 'llvmlite', 'numpy', 'scipy', 'click', 'rich'}"
    program = f"import sys, polyphase; print({heavy} & set(sys.modules))"
    assert run("-c", program).stdout == "set()\n"


def test_looking_at_the_names_loads_nothing():
    program = "import sys, polyphase; dir(polyphase); print('polyphase.errors' in sys.modules)"
    assert run("-c", program).stdout == "False\n"


def test_it_is_quick():
    # the quickest of several starts: a busy machine only adds to them
    assert min(import_ms() for _ in range(RUNS)) < LIMIT_MS
