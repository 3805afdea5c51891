"""Print random layers like those that people use: `polyphase bench --layers` measures them.

`python bench/random_layers.py SEED COUNT > layers.txt` prints the same ones for the same numbers.
Methods are tuned on some and tried on others, so that nothing fits the layers of the suite alone.
"""

import argparse
import random
from math import prod

from polyphase import Geometry, Problem

CHANNELS = [1, 2, 3, 4, 8, 12, 16, 21, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 100, 112, 128]
CHANNELS += [144, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 1280]
# kernel_size, stride, padding, output_padding of every axis
SHAPES = [
    *[(2, 2, 0, 0), (2, 2, 0, 1), (4, 2, 1, 0), (3, 2, 1, 1), (3, 2, 0, 0), (5, 2, 2, 1)],
    *[(6, 2, 2, 0), (7, 2, 3, 1), (6, 3, 2, 1), (9, 3, 4, 2), (4, 4, 0, 0), (8, 4, 2, 0)],
    *[(7, 4, 2, 1), (11, 4, 4, 1), (10, 5, 3, 1), (12, 6, 3, 0), (8, 8, 0, 0), (16, 8, 4, 0)],
    *[(20, 10, 5, 0), (16, 16, 0, 0), (1, 1, 0, 0), (3, 1, 1, 0), (4, 1, 0, 0), (5, 1, 2, 0)],
]
SIZES = {
    1: [16, 50, 86, 128, 200, 375, 500, 1000, 3000, 8000],
    2: [4, 7, 8, 13, 14, 16, 20, 24, 28, 32, 37, 50, 56, 64, 100, 112, 128, 160],
    3: [4, 6, 8, 10, 12, 16, 20, 24, 32, 40],
}
BATCHES = [1, 1, 1, 2, 4, 8, 16, 32]
# enough to be measured, and soon over
MULTIPLY_ADDS = range(15_000_000, 1_200_000_000)
MOST_OUTPUTS = 20_000_000


def layer(choose: random.Random) -> Problem:
    """A layer of any size."""
    rank = choose.choice([1, 1, 2, 2, 2, 2, 3])
    channels = choose.choice(CHANNELS), choose.choice(CHANNELS)
    groups, kind = 1, choose.random()
    if kind < 0.08:
        groups = choose.choice([32, 64, 96, 128, 256, 384])
        channels = groups, groups
    elif kind < 0.16:
        groups = choose.choice([2, 4, 8])
        channels = max(1, channels[0] // groups) * groups, max(1, channels[1] // groups) * groups
    first = choose.choice(SIZES[rank])
    others = (first + choose.choice([0, 0, 0, -1, 3, first // 2]) for _ in range(rank - 1))
    kernel, stride, padding, more = ([value] * rank for value in choose.choice(SHAPES))
    return Problem(
        Geometry(kernel, stride, padding=padding, output_padding=more),
        (first, *others),
        *channels,
        batch=choose.choice(BATCHES),
        groups=groups,
    )


def layers(seed: int, count: int) -> list[Problem]:
    """So many layers of a size that can be measured."""
    choose = random.Random(seed)
    found: list[Problem] = []
    while len(found) < count:
        problem = layer(choose)
        products = prod((problem.batch, *problem.input_size, *problem.weight_shape))
        if products in MULTIPLY_ADDS and prod(problem.output_shape) <= MOST_OUTPUTS:
            found.append(problem)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, help="another one gives other layers")
    parser.add_argument("count", type=int, help="how many layers")
    given = parser.parse_args()
    for number, problem in enumerate(layers(given.seed, given.count)):
        print(f"{problem} @random-{number}")
