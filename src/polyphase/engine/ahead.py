"""Which lines of the input are fetched while a task is computed: those of a later box."""

import numpy as np

from polyphase.engine.cover import Table
from polyphase.engine.kernels import driver
from polyphase.engine.kernels.cells import OUTSIDE
from polyphase.engine.kernels.input_ahead import LINE_BYTES
from polyphase.engine.target import cpus

_AT = {name: number for number, name in enumerate(driver.TASK)}


def fetched(
    tasks: Table, classes: Table, rows: Table, pack_rows: Table, x_width: int, item_size: int
) -> Table:
    """Per task: where the lines to fetch begin, and how many of them are for each outer tap.

    Where all processors take tasks in turn, each finds its next box in the one as many tasks on;
    fewer threads find it in a cache farther out. The input of a box lies together, ``x_width``
    elements to a pixel.
    """
    found = np.zeros((len(tasks), 2), np.int64)
    steps: dict[tuple[int, ...], int] = {}
    for number, later in enumerate(tasks[cpus() :]):
        task = tasks[number]
        sources = pack_rows[later[_AT["pack_start"]] : later[_AT["pack_stop"]], 0]
        sources = sources[sources != OUTSIDE]
        if later[_AT["box"]] == task[_AT["box"]] or not len(sources):
            continue
        begin = sources.min() + max(later[_AT["low"]], 0) * x_width
        end = sources.max() + later[_AT["high"]] * x_width
        lines = (end - begin) * item_size // LINE_BYTES
        own = tuple(int(task[_AT[name]]) for name in ("class_base", "row_start", "row_stop"))
        if own not in steps:
            base, *stretch = own
            chosen = rows[slice(*stretch)]
            columns = np.diff(classes[base + chosen[:, 4]]).ravel()
            steps[own] = int((columns * (chosen[:, 3] - chosen[:, 2])).sum())
        found[number] = later[_AT["x"]] + begin, -(-lines // max(steps[own], 1))
    return found
