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
from dataclasses import dataclass, field
from itertools import combinations, takewhile
from statistics import fmean

from workshop_lib import comparison
from workshop_lib.comparison import Estimate, Ratio, Side
from workshop_lib.records import Row, Run
from workshop_lib.show.text import key
from workshop_lib.summary import name_of, summarise

ITSELF, ALL_WORDS = Ratio(1.0, None, None, 0, 0), Estimate(1.0)
NOTHING = "what fewer bits cost is not known from it."
DRAWN = "The temperature was above 0: answers are drawn at random, and differ for that reason too."


@dataclass(frozen=True, slots=True)
class Build:
    """One precision of the model, and how it compares with the reference.

    Attributes:
        row: its figures.
        answers: prompt id → its first timed answer.
        latency: its latency in units of the reference's, paired by prompt.
        words: share of the reference's words that it repeats, mean and interval over prompts.
        same, shared: answers equal to the reference's letter for letter, of those that both gave.

    The reference is once itself, with all its words.
    """

    row: Row
    answers: Mapping[str, str] = field(hash=False)
    latency: Ratio = ITSELF
    words: Estimate = ALL_WORDS
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


@dataclass(frozen=True, slots=True)
class Precisions:
    """The builds of one model on one device, the reference first, then by bits and size, and what they say.

    Where there is nothing to compare, `builds` is empty and the one sentence says why.
    """

    builds: tuple[Build, ...]
    sentences: tuple[str, ...]


def compare_precisions(run: Run, alias: str = "") -> Precisions:
    """Compare the builds of one model with that of most bits.

    What counts as a clear difference of latency is corrected for the builds and metrics of all models of the run, as
    where they stand side by side (`comparison.between_builds`).

    Args:
        run: what was measured.
        alias: the model; empty = the largest on disk that answered in two precisions or more on one device.
    """
    several = _several_precisions(run)
    wanted = [rows for rows in several if alias in ("", rows[0].alias)]
    if not wanted:
        return Precisions((), (f"This run has no two precisions of {alias or 'one model'} that answered: {NOTHING}",))
    results = comparison.results_of(run)
    sides = {key(row): Side(results, row.model_id, row.device) for rows in several for row in rows}
    pairs = [(sides[key(rows[0])], sides[key(row)]) for rows in several for row in rows[1:]]
    changes = comparison.corrected([change for pair in pairs for change in comparison.compare_sides(*pair)])
    latencies = {(each.b.model_id, each.b.device): each.ratio for each in changes if each.measure == "latency"}
    first, *others = max(wanted, key=lambda rows: max(row.size_mb or 0.0 for row in rows))
    reference = Build(first, _answers(sides[key(first)]))
    compared = [_build(row, _answers(sides[key(row)]), latencies[key(row)], reference) for row in others]
    said = [_sentence(build, reference) for build in compared]
    said += [DRAWN] if run.plan.get("temperature") else _on_rounding(compared, reference)
    return Precisions((reference, *compared), tuple(said))


def _several_precisions(run: Run) -> list[list[Row]]:
    """The rows of each model that answered in several precisions on one device, by bits and size, most first."""
    builds: dict[tuple[str, str], list[Row]] = {}
    for row in summarise(run):
        if row.status == "ok" and row.precision:
            builds.setdefault((row.alias, row.device), []).append(row)
    for rows in builds.values():
        rows.sort(key=lambda row: (bits(row.precision), row.size_mb or 0.0), reverse=True)
    return [rows for rows in builds.values() if len({row.precision for row in rows}) > 1]


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


def share_repeated(reference: str, text: str) -> float | None:
    """Share of the words of `reference` that `text` begins with, 0 to 1; None where it has no words.

    >>> share_repeated("A model answers quickly.", "A model writes quickly.")
    0.5
    """
    words = len(reference.split())
    return len(repeated(reference, text).split()) / words if words else None


def mean_share(shares: Sequence[float], *, seed: int = 20) -> Estimate:
    """The mean over prompts, with the interval of a bootstrap over prompts; none where all are equal.

    Prompts that are all alike stay so however they are drawn: an interval of no width would claim too much.
    """
    import numpy as np

    if len(set(shares)) < 2:
        return Estimate(shares[0] if shares else None, n=len(shares), reason="The prompts do not differ.")
    drawn = np.asarray(shares)[comparison.draws(len(shares), seed)]
    return comparison.estimate(fmean(shares), len(shares), drawn.mean(axis=1))


def percent(share: Estimate) -> str:
    """A share in words: `77 % (95 % CI 60-90)`; without an interval the number of prompts."""
    if share.value is None:
        return "not measured"
    between = f"{share.n} prompts"
    if share.low is not None and share.high is not None:
        between = f"95 % CI {100 * share.low:.0f}-{100 * share.high:.0f}"
    return f"{100 * share.value:.0f} % ({between})"


def _build(row: Row, answers: Mapping[str, str], latency: Ratio, reference: Build) -> Build:
    pairs = [(text, answers[prompt]) for prompt, text in reference.answers.items() if prompt in answers]
    shares = [share for pair in pairs if (share := share_repeated(*pair)) is not None]
    return Build(row, answers, latency, mean_share(shares), sum(text == other for text, other in pairs), len(pairs))


def _answers(side: Side) -> dict[str, str]:
    found: dict[str, str] = {}
    for sample in side.samples:
        found.setdefault(sample.prompt_id, sample.text)
    return found


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
