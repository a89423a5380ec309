"""Solutions to the exercises of page 02, with the reason. Each takes what the page's cells have made."""

import statistics
from collections.abc import Sequence

from workshop_lib import timing
from workshop_lib.records import Completion


def median_latency(latencies_s: Sequence[tuple[int, float]]) -> float:
    """02-median-latency: half of the timed requests are quicker than this, in milliseconds.

    Why without round 0: the warm-up is slower by nature and is reported as the cold start. Why times 1000: the
    library keeps seconds, people read milliseconds. Why a median: one slow request moves a mean, and not the middle.
    """
    timed_s = [seconds for number, seconds in latencies_s if number > 0]
    return 1000 * statistics.median(timed_s)


def tokens_per_second(asked_last: Completion) -> float:
    """02-tokens-per-second: what was written, per second of the whole wait.

    Why completion tokens alone: the prompt's were read and not written. Why not the decode rate: it begins at the
    first token, and the user's wait begins before it. It is the line *Tokens per second, end to end*.
    """
    return (asked_last.completion_tokens or 0) / (timing.latency_s(asked_last) or 1)
