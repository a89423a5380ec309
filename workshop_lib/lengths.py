"""How long may a meeting be: the first token at several prompt lengths, and what it means in minutes of talk.

    found = measure_prompt_lengths(runtime, variant, lengths=(64, 256, 1024))
    print(found.sentence())

Prompts are cut from the shipped notes and begin unlike each other, so that no cache of prompts helps; the server's own
count says how long one is. First token = overhead + tokens / prefill rate, by Theil and Sen: the slope is the median
of the slopes of all pairs (Sen 1968), which a few late answers do not move. The interval comes from drawing the
requests of each length again (bootstrap, percentile method).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from workshop_lib import comparison, data, files, timing
from workshop_lib.benchmark import answered
from workshop_lib.client import DEFAULT_TIMEOUT_S, ChatClient
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.records import Completion, ModelVariant, Request, RequestOptions, Row, Run
from workshop_lib.show.text import seconds
from workshop_lib.storage import object_of, record_of

if TYPE_CHECKING:
    from workshop_lib.runtimes.profiles import Runtime

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
REPEATS = 3
ANSWER_TOKENS = 32
STANDARD = (512, 128)
"""Prompt and answer tokens of the shape that llama-bench reports by default, as pp512 and tg128."""
LENGTHS_FILE = "prompt_lengths.jsonl"
SCHEMA = 1
WORDS_PER_MINUTE = 150
"""Of people in a meeting, an assumption: conversation in English runs at 130 to 170 words a minute."""
SUMMARY_TOKENS = 256
"""What a summary needs of the context beside the notes."""
MINUTES = (60, 20, 5)
POOR_FIT = 0.10
"""A length at which the line misses the median first token by more than this share is said to bend it."""
_TRIES = (40, 120)
"""Words of the two untimed prompts that tell how many tokens a word has."""
_RESAMPLES = 400


class Point(NamedTuple):
    """One length: medians over its requests; tokens as the server counted them. The first four are its JSON.

    The prefill rate is taken up to the first token, so it holds what a request costs beside the prompt (network, chat
    template, tokenizer, the first token itself): at most llama-bench's pp512. The decode rate is the pace after it,
    tg128 at a depth of 512: llama-bench's tg128 alone begins with an empty context.
    """

    prompt_tokens: float
    first_token_s: float
    decode_tokens_per_sec: float | None
    requests: int
    answer_tokens: float
    prefill_tokens_per_sec: float | None


class Fit(NamedTuple):
    """First token = `overhead_s` + prompt tokens / `prefill_tokens_per_s`, the rate with its 95 % interval.

    `worst_miss` is the largest share by which the line misses a length's median.
    """

    overhead_s: float
    prefill_tokens_per_s: float
    prefill_range: tuple[float, float]
    worst_miss: float

    def first_token_s(self, prompt_tokens: float) -> float:
        """The wait for the first token that the line gives for a prompt of this length."""
        return self.overhead_s + prompt_tokens / self.prefill_tokens_per_s


@dataclass(frozen=True)
class PromptLengths:
    """What was measured of one model: every request, and the lengths that its context does not hold.

    `tokens_per_word` is that of the transcripts, `template_tokens` what every prompt has beside them.
    `reason` says why nothing could be measured.
    """

    variant: ModelVariant
    completions: tuple[Completion, ...]
    left_out: tuple[int, ...] = ()
    tokens_per_word: float = 0.0
    template_tokens: float = 0.0
    reason: str = ""

    @cached_property
    def waits(self) -> list[list[tuple[float, float]]]:
        """Prompt tokens and seconds to the first token of each answered request, those of one length together."""
        return [list(map(_wait, group)) for group in self._by_length]

    @cached_property
    def points(self) -> list[Point]:
        """One per length with an answer, the shortest first."""
        return list(map(_point, self._by_length))

    @cached_property
    def fit(self) -> Fit | None:
        """The line through all requests; None with fewer than three lengths, or where it does not clearly rise."""
        import numpy as np

        if len(self.waits) < 3:
            return None
        generator = np.random.default_rng(20)
        overhead, slope = _line(chain(*self.waits))
        drawn = [
            _line(group[at] for group in self.waits for at in generator.integers(0, len(group), len(group)))[1]
            for _ in range(_RESAMPLES)
        ]
        least, most = comparison.interval(drawn) or (slope, slope)
        if least <= 0:  # noise alone gives every line some slope, and its inverse is no rate
            return None
        misses = [
            abs(overhead + slope * each.prompt_tokens - each.first_token_s) / each.first_token_s for each in self.points
        ]
        return Fit(overhead, 1 / slope, (1 / most, 1 / least), max(misses))

    @property
    def shape(self) -> Point | None:
        """The standard shape, 512 prompt and 128 answer tokens; None where that was not asked, or not answered."""
        standard = (group[0].prompt_id == f"length-{STANDARD[0]}" for group in self._by_length)
        return next((point for point, is_it in zip(self.points, standard, strict=True) if is_it), None)

    def tokens(self, minutes: float) -> float:
        """Prompt tokens of a meeting of so many minutes."""
        return self.template_tokens + minutes * WORDS_PER_MINUTE * self.tokens_per_word

    def fits(self, minutes: float) -> bool | None:
        """Whether a meeting and its summary fit the model's context; None when the context is unknown."""
        context = self.variant.context_tokens
        return None if context is None else self.tokens(minutes) + SUMMARY_TOKENS <= context

    def sentence(self) -> str:
        """How long the wait for the first word is after meetings of some lengths, or that they do not fit."""
        fit = self.fit
        if fit is None and self.reason:
            return self.reason
        if fit is None and len(self.points) > 2:
            return f"{self.variant.model_id}: longer prompts did not clearly delay the first token. Ask longer ones."
        if fit is None:
            return "How long a meeting may be was not found: that needs answers at three lengths or more."
        said = []
        for each in MINUTES:
            tokens = self.tokens(each)
            beyond = tokens > 1.1 * self.points[-1].prompt_tokens
            wait = f"{each} minutes ({tokens:,.0f} tokens): {seconds(fit.first_token_s(tokens))}"
            wait += ", estimated: longer than was measured" * beyond
            too_long = f"{each} minutes of meeting (about {tokens:,.0f} tokens) do not fit"
            said.append(too_long if self.fits(each) is False else wait)
        rough = f" The line is off by up to {100 * fit.worst_miss:.0f} %: take these times as rough."
        bend = rough if fit.worst_miss > POOR_FIT else ""
        return f"Wait for the first word of {self.variant.model_id}: {'; '.join(said)}.{bend}"

    def sentences(self) -> list[str]:
        """The sentence, and the standard shape where it was measured."""
        said, shape = [self.sentence()], self.shape
        if shape:
            rates = (shape.prefill_tokens_per_sec, shape.decode_tokens_per_sec)
            prefill, decode = ("not measured" if rate is None else f"{rate:,.0f} tok/s" for rate in rates)
            written = f"{shape.answer_tokens:.0f}"
            size = f"{shape.prompt_tokens:.0f} prompt + {written} answer tokens"
            said.append(
                f"With the lengths of llama-bench ({size}), median of {shape.requests}, {self.variant.model_id}: "
                f"prefill (pp512) {prefill}, up to the first token; decode (tg{written} at depth 512) {decode}."
            )
        return said

    @cached_property
    def _by_length(self) -> list[list[Completion]]:
        good = [each for each in self.completions if each.ok and each.prompt_tokens and timing.first_token_s(each)]
        return [list(group) for _, group in groupby(good, lambda each: each.prompt_id)]


def _wait(answer: Completion) -> tuple[float, float]:
    return float(answer.prompt_tokens or 0), timing.first_token_s(answer) or 0.0


def _point(answers: Sequence[Completion]) -> Point:
    tokens, firsts = zip(*map(_wait, answers), strict=True)
    decode, prefill = (map(measure, answers) for measure in (timing.decode_tokens_per_s, timing.prefill_tokens_per_s))
    written = median(each.completion_tokens or 0 for each in answers)
    return Point(median(tokens), median(firsts), _middle(decode), len(answers), written, _middle(prefill))


def _middle(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate]
    return median(known) if known else None


def _line(waits: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Overhead and seconds per token, by Theil and Sen."""
    from scipy import stats

    tokens, firsts = zip(*waits, strict=True)
    found = stats.theilslopes(firsts, tokens, method="joint")
    return float(found.intercept), float(found.slope)


def measure_prompt_lengths(
    runtime: Runtime,
    of: ModelVariant | Run,
    lengths: Sequence[int] = LENGTHS,
    *,
    repeats: int = REPEATS,
    folder: Path | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    options: RequestOptions | None = None,
) -> PromptLengths:
    """Serve a model and ask it prompts of several lengths, in tokens, each `repeats` times, the lengths in turn.

    A run stands for that of its models which answered and has the longest context.

    Lengths that leave no room for an answer in the model's context are not asked. Answers have up to 32 tokens, those
    to 512 tokens up to 128, as llama-bench has it. Nothing is asked where there are no `lengths`; with `folder` every
    request is kept there. `options` None = those of the environment.

    Raises:
        ConfigurationError: a length below 32 tokens, or repeats below 1.
        WorkshopError: the model could not be served.
    """
    variant = _longest(of) if isinstance(of, Run) else of
    if min(lengths, default=ANSWER_TOKENS) < ANSWER_TOKENS or repeats < 1:
        what = f"The prompt lengths are {', '.join(map(str, lengths))}, {repeats} requests each."
        raise ConfigurationError(what, f"Give {ANSWER_TOKENS} tokens or more, and 1 request or more.")
    if not lengths:
        return PromptLengths(variant, ())
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
        if reason := _uncounted(tries):
            return PromptLengths(variant, tuple(tries), reason=f"{variant.model_id} {reason}")
        fewer, more = (each.prompt_tokens or 0 for each in tries)
        per_word = (more - fewer) / (_TRIES[1] - _TRIES[0])
        template = max(0.0, fewer - per_word * _TRIES[0])
        counts = {length: max(1, round((length - template) / per_word)) for length in asked}
        for untimed in (-1, 0) if STANDARD[0] in counts else ():  # others' figures are of 512 tokens: correct the count
            tried = ask(STANDARD[0], counts[STANDARD[0]], untimed).prompt_tokens or STANDARD[0]
            share = (STANDARD[0] - template) / max(1.0, tried - template)
            counts[STANDARD[0]] = max(1, round(share * counts[STANDARD[0]]))
        answers = [ask(length, counts[length], number) for number in range(1, repeats + 1) for length in asked]
    answers.sort(key=lambda each: (_length(each), each.round))
    refused = {_length(each) for each in answers if not each.fits}
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


def _length(answer: Completion) -> int:
    return int(answer.prompt_id.removeprefix("length-"))


def _uncounted(tries: Sequence[Completion]) -> str:
    """Why the tokens of a word cannot be told from two prompts of known numbers of words; empty where they can."""
    failures = [f"did not answer: {each.error}" for each in tries if each.error]
    counts = [each.prompt_tokens or 0 for each in tries]
    if counts[1] > counts[0] > 0:
        return ""
    said = failures or [f"counts {counts[0]} and {counts[1]} prompt tokens for {_TRIES[0]} and {_TRIES[1]} words."]
    return f"{said[0]} Prompt lengths need a server that answers, and counts the tokens of a prompt."


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


def _from(line: dict[str, Any]) -> PromptLengths:
    answers = tuple(record for entry in line.pop("completions") if isinstance(record := record_of(entry), Completion))
    variant = line.pop("variant")
    variant["capabilities"] = tuple(variant["capabilities"])
    return PromptLengths(ModelVariant(**variant), answers, tuple(line.pop("left_out")), **line)


def with_fits(rows: Iterable[Row], found: Iterable[PromptLengths]) -> list[Row]:
    """The rows, those of the models measured with the fitted prefill rate, its overhead, and the standard shape."""
    figures = {each.variant.model_id: _figures(each) for each in found}
    return [replace(row, more={**row.more, **figures.get(row.model_id, {})}) for row in rows]


def _figures(found: PromptLengths) -> dict[str, float | None]:
    """What fit and shape are called in JSON and CSV."""
    fit, shape = found.fit, found.shape
    figures: dict[str, float | None] = {
        "prefill_tokens_per_sec_fitted": fit and fit.prefill_tokens_per_s,
        "first_token_overhead_s": fit and fit.overhead_s,
    }
    if shape:
        figures["pp512_tokens_per_sec"] = shape.prefill_tokens_per_sec
        figures["tg128_d512_tokens_per_sec"] = shape.decode_tokens_per_sec
    return figures


def point_objects(found: Iterable[PromptLengths]) -> list[dict[str, Any]]:
    """The points of all models as JSON objects."""
    return [
        {"model_id": each.variant.model_id, **dict(zip(Point._fields[:4], point, strict=False))}
        for each in found
        for point in each.points
    ]
