"""What do fewer bits cost? The builds of one model in several precisions beside each other, from a run's records alone.

    found = compare_precisions(run)
    found.sentences         # each build against the reference: size, latency, answers

How far a build's answers are the reference's is counted in words, from the recorded texts: how many of the
reference's words a build repeats from the beginning, in order, before it writes another. That is stricter than
*token agreement* with teacher forcing, where both builds read the reference's answer and only their next token is
compared at every place: here, as in use, a build reads its own words, so one that differs early counts for all that
follows, even where the rest means the same. It says how much is equal, not which answer is better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, takewhile
from statistics import fmean
from typing import NamedTuple

from workshop_lib import comparison
from workshop_lib.comparison import Estimate, Ratio, Results
from workshop_lib.records import Row, Run, key
from workshop_lib.show.text import NOT_MEASURED
from workshop_lib.summary import name_of

NOTHING = "This run has no two precisions of one model that answered: what fewer bits cost is not known from it."
DRAWN = "The temperature was above 0: answers are drawn at random, and differ for that reason too."


class Build(NamedTuple):
    """One precision of the model, and how it compares with the reference, which is once itself with all its words.

    Attributes:
        row: its figures.
        answers: prompt id → its first timed answer.
        latency: its latency in units of the reference's, paired by prompt.
        words: share of the reference's words that it repeats, mean and interval over prompts.
        same, shared: answers equal to the reference's letter for letter, of those that both gave.
    """

    row: Row
    answers: Mapping[str, str]
    latency: Ratio = Ratio(1.0)
    words: Estimate = Estimate(1.0)
    same: int = 0
    shared: int = 0

    @property
    def precision(self) -> str:
        """The name of its precision."""
        return self.row.precision or ""

    @property
    def verdict(self) -> str:
        """Its latency against the reference's, in words."""
        return comparison.describe(self.latency, "lower")


class Precisions(NamedTuple):
    """The builds of one model on one device, the reference first, then by bits and size, and what they say.

    Where there is nothing to compare, `builds` is empty and the one sentence says why.
    """

    builds: tuple[Build, ...]
    sentences: tuple[str, ...]


def compare_precisions(run: Run) -> Precisions:
    """Compare the builds of one model with that of most bits, side by side.

    It is the largest on disk of those that answered in two precisions or more on one device.
    """
    results, builds = comparison.results_of(run), dict[tuple[str, str], list[Row]]()
    for row in sorted(results.answered, key=lambda row: (-bits(row.precision), -(row.size_mb or 0.0))):
        if row.precision:
            builds.setdefault((row.alias, row.device), []).append(row)
    several = [rows for rows in builds.values() if len({row.precision for row in rows}) > 1]
    if not several:
        return Precisions((), (NOTHING,))
    first, *others = max(several, key=lambda rows: max(row.size_mb or 0.0 for row in rows))
    changes = comparison.changes_of(results, results, [(key(first), key(row)) for row in others])
    latencies = [change.ratio for change in changes if change.metric.name == "latency_s"]
    reference = _build(results, first)
    compared = [_against(reference, _build(results, row), ratio) for row, ratio in zip(others, latencies, strict=True)]
    said = [_sentence(build, reference) for build in compared]
    said += [DRAWN] if run.plan.get("temperature") else _on_rounding(compared, reference)
    return Precisions((reference, *compared), tuple(said))


def bits(precision: str | None) -> int:
    """How many bits a weight has by a precision's name; 0 where it does not say.

    >>> [bits(name) for name in ("fp32", "exact4", "bf16", None)]
    [32, 4, 16, 0]
    """
    found = re.search(r"\d+", precision or "")
    return int(found.group()) if found else 0


def repeated(reference: str, text: str) -> str:
    """The beginning of `text` that is, word for word, that of `reference`; how words are set apart does not count.

    >>> repeated("A model answers quickly.", "A model writes quickly.")
    'A model'
    """
    words = zip(reference.split(), re.finditer(r"\S+", text), strict=False)
    same = list(takewhile(lambda pair: pair[0] == pair[1].group(), words))
    return text[: same[-1][1].end()] if same else ""


def percent(share: Estimate) -> str:
    """A share in words: `77 % (95 % CI 60-90)`; without an interval the number of prompts."""
    if share.value is None:
        return NOT_MEASURED
    between = f"{share.n} prompts"
    if share.low is not None and share.high is not None:
        between = f"95 % CI {100 * share.low:.0f}-{100 * share.high:.0f}"
    return f"{100 * share.value:.0f} % ({between})"


def _build(results: Results, row: Row) -> Build:
    answers = dict[str, str]()
    for each in results.models[key(row)]:
        answers.setdefault(each.prompt_id, each.text)
    return Build(row, answers)


def _against(reference: Build, build: Build, latency: Ratio) -> Build:
    pairs = [(text, build.answers[prompt]) for prompt, text in reference.answers.items() if prompt in build.answers]
    shares = [len(repeated(text, other).split()) / len(text.split()) for text, other in pairs if text.split()]
    same = sum(text == other for text, other in pairs)
    return build._replace(latency=latency, words=mean_share(shares), same=same, shared=len(pairs))


def mean_share(shares: Sequence[float]) -> Estimate:
    """The mean over prompts, with the interval of a bootstrap over prompts; none where all are equal.

    Prompts that are all alike stay so however they are drawn: an interval of no width would claim too much.
    """
    import numpy as np

    if len(set(shares)) < 2:
        return Estimate(shares[0] if shares else None, n=len(shares), reason="The prompts do not differ.")
    drawn = np.asarray(shares)[comparison.draws(len(shares), seed=20)]
    return comparison.estimate(fmean(shares), len(shares), drawn.mean(axis=1))


def _sentence(build: Build, reference: Build) -> str:
    sizes = build.row.size_mb, reference.row.size_mb
    size = f"{100 * sizes[0] / sizes[1]:.0f} % of its size on disk, " if sizes[0] and sizes[1] else ""
    said = f"{name_of(build.row)} against {reference.precision}: {size}{build.verdict};"
    same = f"{build.same} of {build.shared} answers are equal letter for letter"
    return f"{said} {same}, words kept: {percent(build.words)}."


def _on_rounding(compared: Sequence[Build], reference: Build) -> Iterator[str]:
    """Where builds of as many bits repeat clearly unlike shares of the reference's words, bits are not the reason."""
    for one, other in combinations(compared, 2):
        worse, better = sorted((one, other), key=lambda build: build.words.value or 0.0)
        high, low = worse.words.high or worse.words.value, better.words.low or better.words.value
        if bits(one.precision) == bits(other.precision) and high is not None and low is not None and high < low:
            yield (
                f"{better.precision} and {worse.precision} both have {bits(one.precision)} bits by name, and "
                f"{better.precision} keeps clearly more of {reference.precision}'s words: the number of bits does not "
                "explain it, the way of rounding does."
            )
