"""Is B really faster than A? Ratios paired by prompt, with a bootstrap interval. Pure; knows no files.

The ratio is the geometric mean, over the prompts both sides answered, of median B / median A. Its interval comes from
resampling the scatter: the logarithms of all samples around their own prompt's mean are pooled per side (three
rounds of one prompt are too few to resample alone), widened by sqrt(n / (n - 1)) for the mean that was taken out, and
drawn again 4 000 times with a fixed seed (residual bootstrap; Efron and Tibshirani 1993, chapter 9). It measures
noise, not the bias of the client and not what differs between two starts of a server or two hours of a machine. So a
difference that repeating alone can make is never called clear: see `SAME_RUN`, `BETWEEN_RUNS` and `WITH_BURSTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 4_000
SAME_RUN = 0.02
"""Smallest share that counts as a difference where both sides were measured in turn, in one run."""

BETWEEN_RUNS = 0.08
"""The same where the sides were measured apart.

Six runs of the practice models on one idle machine, all pairs: 98 % of latencies and all first tokens within 8 %.
"""

WITH_BURSTS = 0.5
"""The same for decode rates of answers that arrived in bursts, where little is left to take a pace from."""

WIDEST = 20
"""An interval whose ends differ by a larger factor says nothing: its ends are not worth printing."""

Samples = Mapping[str, Sequence[float]]
"""Prompt id → the values measured for it, one per round, all positive."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """B in units of A.

    Attributes:
        value: 1.25 means that B's values are 25 % larger; None when nothing can be compared.
        low, high: the interval at `CONFIDENCE`; None without at least two rounds of some prompt on both sides.
        prompts: how many prompts both sides answered.
        samples: values used, A and B together.
        smallest: a difference below this share is not called clear.
    """

    value: float | None
    low: float | None
    high: float | None
    prompts: int
    samples: int
    smallest: float = SAME_RUN

    @property
    def is_beyond_noise(self) -> bool:
        """True when the interval excludes 1."""
        return self.low is not None and self.high is not None and (self.low > 1 or self.high < 1)

    @property
    def is_too_wide(self) -> bool:
        """True when the ends of the interval differ by more than the factor `WIDEST`."""
        return self.low is not None and self.high is not None and self.high > WIDEST * self.low

    @property
    def is_clear(self) -> bool:
        """True when the interval, not too wide, excludes 1 and the difference is larger than repeating can make it."""
        if self.value is None or self.is_too_wide or not self.is_beyond_noise:
            return False
        return max(self.value, 1 / self.value) - 1 >= self.smallest


def compare_samples(a: Samples, b: Samples, *, smallest: float = SAME_RUN, seed: int = 20) -> Ratio:
    """Compare two sides on the prompts they share."""
    import numpy as np

    shared = sorted(prompt for prompt in a.keys() & b.keys() if a[prompt] and b[prompt])
    used = sum(len(side[prompt]) for side in (a, b) for prompt in shared)
    if not shared:
        return Ratio(None, None, None, 0, 0, smallest)
    logs = [[np.log(np.asarray(side[prompt], dtype=float)) for prompt in shared] for side in (a, b)]
    log_ratio = np.mean([np.median(late) - np.median(early) for early, late in zip(*logs, strict=True)])
    value = float(np.exp(log_ratio))
    if any(max(map(len, side)) < 2 for side in logs):
        return Ratio(value, None, None, len(shared), used, smallest)
    generator = np.random.default_rng(seed)
    shift = _median_noise(logs[1], generator) - _median_noise(logs[0], generator)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.exp(log_ratio - np.percentile(shift, [100 - tail, tail]))
    return Ratio(value, float(low), float(high), len(shared), used, smallest)


def _median_noise(prompts: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Draws of the mean over prompts of (median of a resampled prompt - its true centre), one per resample."""
    import numpy as np
    from scipy import special

    residuals = np.concatenate(
        [(values - values.mean()) * np.sqrt(len(values) / (len(values) - 1)) for values in prompts if len(values) > 1]
    )
    draws = np.zeros(RESAMPLES)
    for values in prompts:
        draws += np.median(generator.choice(residuals, size=(RESAMPLES, len(values))), axis=1)
    freedom = sum(len(values) - 1 for values in prompts)
    wider = special.stdtrit(freedom, 0.5 + CONFIDENCE / 2) / special.ndtri(0.5 + CONFIDENCE / 2)
    noise: np.ndarray = wider * (draws - draws.mean()) / len(prompts)
    return noise


def describe(ratio: Ratio, better: Literal["lower", "higher"], *, noun: str = "faster") -> str:
    """The verdict in words: `1.80x faster (95 % CI 1.60-2.00)` or `no clear difference (...)`.

    Where the interval is wider than the factor `WIDEST`, its ends are left out: nothing can be said.
    """
    if ratio.value is None:
        return "nothing to compare"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}x, no interval: at least 2 rounds are needed"
    if ratio.is_too_wide:
        return f"nothing can be said ({ratio.value:.2f}x, 95 % CI spans a factor of more than {WIDEST})"
    interval = f"95 % CI {ratio.low:.2f}-{ratio.high:.2f}"
    if not ratio.is_clear:
        within = f"; repeating shifts by up to {ratio.smallest:.0%}" if ratio.is_beyond_noise else ""
        return f"no clear difference ({ratio.value:.2f}x, {interval}{within})"
    gain, low, high = ratio.value, ratio.low, ratio.high
    if better == "lower":
        gain, low, high = 1 / gain, 1 / high, 1 / low
    word = noun
    if gain < 1:
        gain, low, high, word = 1 / gain, 1 / high, 1 / low, "slower"
    return f"{gain:.2f}x {word} (95 % CI {low:.2f}-{high:.2f})"
