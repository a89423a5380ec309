"""How long may a meeting be: the first token at several prompt lengths, and what it means in minutes of talk.

    found = measure_prompt_lengths(runtime, variant, lengths=(64, 256, 1024))
    print(found.sentence())

Prompts are cut from the shipped notes and begin unlike each other, so that no cache of prompts helps; the server's own
count says how long one is. First token = overhead + tokens / prefill rate, by Theil and Sen: the slope is the median
of the slopes of all pairs (Sen 1968), which a few late answers do not move. The intervals come from drawing the
requests of each length again (bootstrap, percentile method).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from workshop_lib import comparison, data, files, settings, timing
from workshop_lib.benchmark import answered
from workshop_lib.client import DEFAULT_TIMEOUT_S, ChatClient
from workshop_lib.errors import ConfigurationError, ModelServerError, RecordFileError
from workshop_lib.records import Completion, ModelVariant, Request, RequestOptions, Row, Run
from workshop_lib.show.text import seconds
from workshop_lib.storage import object_of, record_of

if TYPE_CHECKING:
    import numpy as np

    from workshop_lib.runtimes.protocols import Runtime

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
REPEATS = 3
ANSWER_TOKENS = 32
STANDARD = (512, 128)
"""Prompt and answer tokens of the shape that llama-bench reports by default, as pp512 and tg128."""
LENGTHS_FILE = "prompt_lengths.jsonl"
SCHEMA = 1
PREFILL_FITTED, OVERHEAD = "prefill_tokens_per_sec_fitted", "first_token_overhead_s"
"""What the fit is called in JSON and CSV."""
SHAPE_PREFILL, SHAPE_DECODE = "pp512_tokens_per_sec", "tg128_d512_tokens_per_sec"
"""What the figures of the standard shape are called there."""
WORDS_PER_MINUTE = 150
"""Of people in a meeting, an assumption: conversation in English runs at 130 to 170 words a minute."""
SUMMARY_TOKENS = 256
"""What a summary needs of the context beside the notes."""
POOR_FIT = 0.10
"""A length at which the line misses the median first token by more than this share is said to bend it."""
_TRIES = (40, 120)
"""Words of the two untimed prompts that tell how many tokens a word has."""
_RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Point:
    """One length: medians over its requests; `prompt_tokens` as the server counted them."""

    prompt_tokens: float
    first_token_s: float
    decode_tokens_per_sec: float | None
    requests: int


@dataclass(frozen=True, slots=True)
class Fit:
    """First token = `overhead_s` + prompt tokens / `prefill_tokens_per_s`, each with the ends of its 95 % interval.

    `worst_miss` is the largest share by which the line misses a length's median.
    """

    overhead_s: float
    overhead_range_s: tuple[float, float]
    prefill_tokens_per_s: float
    prefill_range: tuple[float, float]
    worst_miss: float

    def first_token_s(self, prompt_tokens: float) -> float:
        """The wait for the first token that the line gives for a prompt of this length."""
        return self.overhead_s + prompt_tokens / self.prefill_tokens_per_s


@dataclass(frozen=True, slots=True)
class Shape:
    """The standard shape, 512 prompt and 128 answer tokens, as medians over its requests; tokens as the server counted.

    `prefill_tokens_per_s` is taken up to the first token, so it holds what a request costs beside the prompt (network,
    chat template, tokenizer, the first token itself): at most llama-bench's pp512. `decode_tokens_per_s` is the pace
    after it, tg128 at a depth of 512: llama-bench's tg128 alone begins with an empty context.
    """

    prompt_tokens: float
    answer_tokens: float
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    requests: int


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """What was measured of one model: every request, and the lengths that its context does not hold.

    `tokens_per_word` is that of the transcripts, `template_tokens` what every prompt has beside them.
    `reason` says why nothing could be measured.
    """

    variant: ModelVariant
    completions: tuple[Completion, ...]
    left_out: tuple[int, ...]
    tokens_per_word: float
    template_tokens: float
    reason: str = ""

    @property
    def points(self) -> tuple[Point, ...]:
        """One per length with an answer, the shortest first."""
        return tuple(map(_point, self._by_length()))

    @property
    def requests(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Prompt tokens and seconds to the first token of each answered request, those of one length together."""
        return tuple(tuple(map(_pair, group)) for group in self._by_length())

    @property
    def fit(self) -> Fit | None:
        """The line through all requests; None with fewer than three lengths, or where it does not clearly rise."""
        return _fit(self.requests)

    @property
    def shape(self) -> Shape | None:
        """The standard shape; None where that length was not asked, or not answered."""
        for group in self._by_length():
            if group[0].prompt_id == f"length-{STANDARD[0]}":
                point, prefill = _point(group), _middle(map(timing.prefill_tokens_per_s, group))
                answer = median(each.completion_tokens or 0 for each in group)
                return Shape(point.prompt_tokens, answer, prefill, point.decode_tokens_per_sec, point.requests)
        return None

    def tokens(self, minutes: float) -> float:
        """Prompt tokens of a meeting of so many minutes."""
        return self.template_tokens + minutes * WORDS_PER_MINUTE * self.tokens_per_word

    def fits(self, minutes: float) -> bool | None:
        """Whether a meeting and its summary fit the model's context; None when the context is unknown."""
        context = self.variant.context_tokens
        return None if context is None else self.tokens(minutes) + SUMMARY_TOKENS <= context

    def sentence(self, minutes: Sequence[float] = (60, 20, 5)) -> str:
        """How long the wait for the first word is after meetings of so many minutes, or that they do not fit."""
        fit = self.fit
        if fit is None and self.reason:
            return self.reason
        if fit is None and len(self.points) > 2:
            return f"{self.variant.model_id}: longer prompts did not clearly delay the first token. Ask longer ones."
        if fit is None:
            return "How long a meeting may be was not found: that needs answers at three lengths or more."
        longest = self.points[-1].prompt_tokens
        said = []
        for each in minutes:
            tokens = self.tokens(each)
            if self.fits(each) is False:
                said.append(f"{each:g} minutes of meeting (about {tokens:,.0f} tokens) do not fit")
                continue
            beyond = ", by the line beyond what was measured" if tokens > 1.1 * longest else ""
            said.append(f"{each:g} minutes ({tokens:,.0f} tokens): {seconds(fit.first_token_s(tokens))}{beyond}")
        rough = f" The line misses by up to {100 * fit.worst_miss:.0f} %: take it as rough."
        bend = rough if fit.worst_miss > POOR_FIT else ""
        return f"Wait for the first word of {self.variant.model_id}: {'; '.join(said)}.{bend}"

    def sentences(self) -> list[str]:
        """The sentence, and the standard shape where it was measured."""
        said, shape = [self.sentence()], self.shape
        if shape:
            rates = (shape.prefill_tokens_per_s, shape.decode_tokens_per_s)
            prefill, decode = ("not measured" if rate is None else f"{rate:,.0f} tok/s" for rate in rates)
            written = f"{shape.answer_tokens:.0f}"
            size = f"{shape.prompt_tokens:.0f} prompt + {written} answer tokens"
            said.append(
                f"The shape of llama-bench, {size}, median of {shape.requests}, {self.variant.model_id}: "
                f"prefill (pp512) {prefill}, up to the first token; decode (tg{written} at depth 512) {decode}."
            )
        return said

    def _by_length(self) -> list[list[Completion]]:
        good = [each for each in self.completions if each.ok and each.prompt_tokens and timing.first_token_s(each)]
        return [list(group) for _, group in groupby(good, lambda each: each.prompt_id)]


def measure_prompt_lengths(
    runtime: Runtime,
    of: ModelVariant | Run,
    lengths: str | Sequence[int] = LENGTHS,
    *,
    repeats: int = REPEATS,
    folder: Path | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    options: RequestOptions | None = None,
) -> PromptLengths:
    """Serve a model and ask it prompts of several lengths, in tokens, each `repeats` times, the lengths in turn.

    A run stands for that of its models which answered and has the longest context.

    Lengths that leave no room for an answer in the model's context are not asked. Answers have up to 32 tokens, those
    to 512 tokens up to 128 (see `Shape`). `lengths` are numbers, or text like `64,256`, nothing is asked where there
    are none; with `folder` every request is kept there. `options` None = those of the environment.

    Raises:
        ConfigurationError: a length below 32 tokens, or repeats below 1.
        WorkshopError: the model could not be served.
    """
    variant = _longest(of) if isinstance(of, Run) else of
    if isinstance(lengths, str):
        lengths = settings.checked({"prompt_lengths": lengths}).prompt_lengths
    if min(lengths, default=ANSWER_TOKENS) < ANSWER_TOKENS or repeats < 1:
        what = f"The prompt lengths are {', '.join(map(str, lengths))}, {repeats} requests each."
        raise ConfigurationError(what, f"Give {ANSWER_TOKENS} tokens or more, and 1 request or more.")
    if not lengths:
        return PromptLengths(variant, (), (), 0.0, 0.0)
    words = " ".join(prompt.text for prompt in data.read_prompts("meetings")).split()
    most = (variant.context_tokens or max(lengths) + 2 * STANDARD[1]) - STANDARD[1]
    asked = [length for length in sorted(set(lengths)) if length <= most]
    with runtime.serve(variant) as model, ChatClient.to(model, timeout_s=timeout_s, options=options) as client:

        def ask(length: int, count: int, number: int) -> Completion:
            place = 0 if length == STANDARD[0] else number  # of one place, so that all have the corrected count
            start = (place * 97 + length) % len(words)
            text = f"Notes {length}-{number}. {' '.join((words[start:] + words * (count // len(words) + 1))[:count])}"
            answer = STANDARD[1] if length == STANDARD[0] and number > 0 else ANSWER_TOKENS
            name = f"{variant.model_id}/length-{length}/{number}"
            return client.ask(Request(name, variant, f"length-{length}", text, number, answer))

        tries = [ask(0, count, 0) for count in _TRIES]
        try:
            per_word, template = _tokens_per_word(tries, variant)
        except ModelServerError as error:
            return PromptLengths(variant, tuple(tries), (), 0.0, 0.0, str(error))
        counts = {length: max(1, round((length - template) / per_word)) for length in asked}
        for untimed in (-1, 0) if STANDARD[0] in counts else ():  # others' figures are of 512 tokens: correct the count
            tried = ask(STANDARD[0], counts[STANDARD[0]], untimed).prompt_tokens or STANDARD[0]
            more = (STANDARD[0] - template) / max(1.0, tried - template)
            counts[STANDARD[0]] = max(1, round(more * counts[STANDARD[0]]))
        answers = [ask(length, counts[length], number) for number in range(1, repeats + 1) for length in asked]
    answers.sort(key=lambda each: (int(each.prompt_id.removeprefix("length-")), each.round))
    refused = {int(each.prompt_id.removeprefix("length-")) for each in answers if not each.fits}
    left_out = tuple(length for length in sorted(set(lengths)) if length > most or length in refused)
    found = PromptLengths(variant, tuple(answers), left_out, per_word, template)
    if folder:
        save_lengths(folder, found)
    return found


def _longest(run: Run) -> ModelVariant:
    models = answered(run)
    if not models:
        raise ConfigurationError("No model of this run answered.", "Measure one that does.")
    return max(models, key=lambda each: each.context_tokens or 0)


def save_lengths(folder: Path, found: PromptLengths) -> Path:
    """Append a model's requests to `prompt_lengths.jsonl`; return the file's path."""
    path, plain = folder / LENGTHS_FILE, asdict(replace(found, completions=()))
    files.append_lines(path, [{**plain, "schema": SCHEMA, "completions": list(map(object_of, found.completions))}])
    return path


def read_lengths(folder: Path) -> tuple[PromptLengths, ...]:
    """What `save_lengths` wrote last of each model; nothing where there is no file. Raises `RecordFileError`."""
    path = folder / LENGTHS_FILE
    if not path.is_file():
        return ()
    try:
        lines = [json.loads(line) for line in files.whole_lines(path.read_bytes())]
        found = [_from(line) for line in lines if line.pop("schema") == SCHEMA]
        return tuple({each.variant.model_id: each for each in found}.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordFileError(f"{path.name} cannot be read: {error}.", "Delete it, and measure again.") from None


def with_fits(rows: Iterable[Row], found: Iterable[PromptLengths]) -> list[Row]:
    """The rows, those of the models measured with the fitted prefill rate, its overhead, and the standard shape."""
    figures = {each.variant.model_id: _figures(each) for each in found}
    return [replace(row, more={**row.more, **figures.get(row.model_id, {})}) for row in rows]


def _figures(found: PromptLengths) -> dict[str, float | None]:
    fit, shape = found.fit, found.shape
    figures: dict[str, float | None] = {PREFILL_FITTED: None, OVERHEAD: None}
    if fit:
        figures |= {PREFILL_FITTED: fit.prefill_tokens_per_s, OVERHEAD: fit.overhead_s}
    if shape:
        figures |= {SHAPE_PREFILL: shape.prefill_tokens_per_s, SHAPE_DECODE: shape.decode_tokens_per_s}
    return figures


def point_objects(found: Iterable[PromptLengths]) -> list[dict[str, Any]]:
    """The points of all models as JSON objects."""
    return [{"model_id": each.variant.model_id, **asdict(point)} for each in found for point in each.points]


def _from(line: dict[str, Any]) -> PromptLengths:
    answers = tuple(record for entry in line.pop("completions") if isinstance(record := record_of(entry), Completion))
    variant = line.pop("variant")
    variant["capabilities"] = tuple(variant["capabilities"])
    return PromptLengths(ModelVariant(**variant), answers, tuple(line.pop("left_out")), **line)


def _tokens_per_word(tries: Sequence[Completion], variant: ModelVariant) -> tuple[float, float]:
    """Tokens per word, and the tokens that the template adds, from two prompts of known numbers of words."""
    for each in tries:
        if not each.ok or not each.prompt_tokens:
            what = f"{variant.model_id} {f'did not answer: {each.error}' if each.error else 'counts no prompt tokens.'}"
            raise ModelServerError(what, "Prompt lengths need a server that answers, and states usage.")
    fewer, more = (each.prompt_tokens or 0 for each in tries)
    per_word = (more - fewer) / (_TRIES[1] - _TRIES[0])
    if per_word <= 0:
        what = f"{variant.model_id} counts {fewer} and {more} tokens for {_TRIES[0]} and {_TRIES[1]} words."
        raise ModelServerError(what, "Prompt lengths need a server that counts the tokens of a prompt.")
    return per_word, max(0.0, fewer - per_word * _TRIES[0])


def _pair(answer: Completion) -> tuple[float, float]:
    return float(answer.prompt_tokens or 0), timing.first_token_s(answer) or 0.0


def _point(answers: Sequence[Completion]) -> Point:
    tokens, firsts = zip(*map(_pair, answers), strict=True)
    return Point(median(tokens), median(firsts), _middle(map(timing.decode_tokens_per_s, answers)), len(answers))


def _middle(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate]
    return median(known) if known else None


@lru_cache(maxsize=64)
def _fit(lengths: tuple[tuple[tuple[float, float], ...], ...]) -> Fit | None:
    """Theil and Sen's line through (tokens, seconds), the requests of one length together.

    Kept, because drawing takes half a second, and table, figure, sentence and report all ask for it.
    """
    import numpy as np

    if len(lengths) < 3:
        return None
    line = _line(lengths)
    generator = np.random.default_rng(20)
    drawn = np.array([
        _line([[length[at] for at in generator.integers(0, len(length), len(length))] for length in lengths])
        for _ in range(_RESAMPLES)
    ])  # fmt: skip
    overhead, slope = map(float, line)
    between = comparison.interval(drawn[:, 0]) or (overhead, overhead)
    least, most = comparison.interval(drawn[:, 1]) or (slope, slope)
    if least <= 0:  # noise alone gives every line some slope, and its inverse is no rate
        return None
    centres = [tuple(median(column) for column in zip(*length, strict=True)) for length in lengths]
    misses = [abs(overhead + slope * tokens - first) / first for tokens, first in centres]
    return Fit(overhead, between, 1 / slope, (1 / most, 1 / least), float(max(misses)))


def _line(lengths: Sequence[Sequence[tuple[float, float]]]) -> np.ndarray:
    """Overhead and seconds per token."""
    import numpy as np
    from scipy import stats

    tokens, seconds = zip(*(pair for length in lengths for pair in length), strict=True)
    found = stats.theilslopes(seconds, tokens, method="joint")
    return np.array([found.intercept, found.slope])
