"""Solutions to the exercises of page 03, with the reason. Each takes what the page's cells have made."""

import statistics
from collections.abc import Sequence

from workshop_lib.records import Run
from workshop_lib.show import tables


def overlap(builds: Sequence[str], timed: Sequence[tuple[str, float]]) -> float:
    """03-overlap: how far two clouds of marks lie over each other, as one number.

    50 % would mean that the builds cannot be told apart; 0 % that every request of the second took longer than half
    of the first's. A single request says little as long as this is far from 0 and 100.
    """
    first_s, second_s = ([seconds for build, seconds in timed if build == wanted] for wanted in builds)
    quicker = [seconds for seconds in second_s if seconds < statistics.median(first_s)]
    return 100 * len(quicker) / len(second_s)


def first_token_verdict(run: Run) -> str:
    """03-first-token-verdict: what the table says before the bracket, without the number.

    The interval decides: as long as it holds 1, both "faster" and "slower" fit the data. The ratio alone is what this
    run happened to give. "Nothing can be said" is no clear difference either.
    """
    word = tables.differences(run)["first token"][0].partition(" (")[0].split()[-1]
    return word if word in ("faster", "slower") else "no clear difference"
