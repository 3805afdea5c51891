"""Data-parallel training on two processes gives the gradients of one."""

import subprocess
import sys

import pytest
import torch

PROCESSES = 2
# run by both processes, and by the test itself for the whole batch
SHARED = """
import torch
import polyphase as pp


def gradients(wrap, share):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        pp.nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
        torch.nn.ReLU(),
        pp.nn.ConvTranspose2d(6, 1, 3, stride=2),
    )
    x, target = share(torch.randn(4, 8, 5, 5)), share(torch.randn(4, 1, 21, 21))
    wrapped = wrap(network)
    torch.nn.functional.mse_loss(wrapped(x), target).backward()
    return [parameter.grad for parameter in network.parameters()]
"""
PROCESS = """
import sys
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

rank, count, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
)
found = gradients(DistributedDataParallel, lambda batch: batch.chunk(count)[rank])
torch.save(found, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED + PROCESS, str(rank), str(PROCESSES), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, errors
    names = {}
    exec(SHARED, names)
    expected = names["gradients"](lambda network: network, lambda batch: batch)
    for rank in range(PROCESSES):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found, expected)
