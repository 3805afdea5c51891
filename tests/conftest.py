"""Hypothesis profiles, and what tests of several folders share.

The suite gives the same verdict on every run, a search looks further: hunt for new counterexamples
with ``pytest --hypothesis-profile=search tests/arithmetic``.
"""

import os
import sys

import pytest
from hypothesis import settings

# what a terminal or a CI asks of colours and widths, tests ask for themselves
for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)
# timings say nothing on a shared machine, so no deadline
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("steady")


@pytest.fixture(scope="module")
def one_torch_thread():
    """For small sums, where waking threads takes longer than computing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _same_numbers():
    """Random tensors are the same whichever tests came before."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
