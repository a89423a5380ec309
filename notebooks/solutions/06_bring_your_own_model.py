"""Solution to the exercise of page 06, with the reason. It takes what the page's cells have made."""

import statistics
from collections.abc import Sequence


def extra_wait(ways: Sequence[str], timed: Sequence[tuple[str, float]]) -> float:
    """06-extra-wait: the adapter's median latency minus the runtime's, in milliseconds.

    Why a difference and not a ratio: Python adds its time per token and per request, whatever the model. Beside a
    model of a few megabytes that is a large share, beside one of several gigabytes a small one; the milliseconds stay.
    """
    runtime_s, adapter_s = (
        statistics.median(seconds for way, seconds in timed if way == wanted) for wanted in ways[:2]
    )
    return 1000 * (adapter_s - runtime_s)
