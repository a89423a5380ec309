"""Solution to the exercise of page 05, with the reason. It takes what the page's cells have made."""

import math
from collections.abc import Sequence


def steps_apart(sizes_mb: Sequence[float]) -> float:
    """05-steps-apart: how often the largest size must be halved to get the smallest.

    Why a logarithm: a step is a factor of two, so 2 MB against 1 MB is as far as 8 GB against 4 GB, and three steps are
    a factor of 8. Steps can be added and weighed against each other; ratios cannot.
    """
    return math.log2(max(sizes_mb) / min(sizes_mb))
