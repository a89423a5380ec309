"""A second model as judge: grades from 1 to 5 with a reason, and preferences in both orders, at temperature 0.

Every verdict is a `Score` or `Preference` of the rater `judge:<model id>`. What cannot be read is a verdict without
grade, never a number. A model is not asked about its own answers, in whatever build; where that is
allowed explicitly, the rater's name ends in `+own`. A model that hides behind another id is not recognised.
Knows one question at a time; `judging` asks them all. Knows no files and no tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.instrument.client import DEFAULT_TIMEOUT_S, ChatClient
from workshop_lib.people import judge_prompts
from workshop_lib.records import Completion, Request
from workshop_lib.untrusted import one_line
from workshop_lib.verdicts import score_files
from workshop_lib.verdicts.answers import Candidate
from workshop_lib.verdicts.pairs import JUDGE
from workshop_lib.verdicts.reliability import OWN
from workshop_lib.verdicts.rubric import Rubric, read_rubric
from workshop_lib.verdicts.scores import Answer, Preference, Score

if TYPE_CHECKING:
    from workshop_lib.records import ModelVariant, Prompt
    from workshop_lib.runtimes.profiles import ServedModel

GIVE_UP_AFTER = 2
"""Requests in a row that fail before the rest is left unasked."""

FAILED = "The request failed:"
"""How the comment begins where no verdict came because of the server; such a question may be asked again."""

REASON_LETTERS = 500
MAX_TOKENS = 300

OwnAnswers = Literal["refuse", "label", "leave out"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a judge is asked.

    Attributes:
        rubric_version: what its scores are kept under, of `rubric.version_for(prompts)`.
        rubric: what the grades mean; None = the shipped one.
        own_answers: what to do with answers of the judge itself: refuse to begin, label them, or leave them out.
        seed: decides the codes of the markers, and is sent as the server's sampling seed.
        max_tokens: room for the reply; a model that reasons first needs more.
    """

    rubric_version: str
    rubric: Rubric | None = None
    own_answers: OwnAnswers = "refuse"
    seed: int = 20
    max_tokens: int = MAX_TOKENS
    timeout_s: float = DEFAULT_TIMEOUT_S


class Judge:
    """One served model that judges; a context manager.

    Args:
        model: what judges, of any runtime; for an endpoint, `EndpointRuntime(...).serve(variant)`.
        settings: how it is asked.

    Raises:
        ConfigurationError: the model's id cannot be part of a rater's name.
    """

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.variant = model.variant
        self.settings = settings
        self.rater = score_files.rater_name(f"{JUDGE}{model.variant.model_id}")
        self._rubric = settings.rubric or read_rubric()
        self._client = ChatClient.to(model, timeout_s=settings.timeout_s)
        self._failures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._client.close()

    def wrote(self, candidate: Candidate) -> bool:
        """Whether an answer is the judge's own, of this build or another build of the same model."""
        return any(is_same_model(self.variant, author) for author in candidate.authors)

    def rater_for(self, *candidates: Candidate) -> str:
        """The judge's name as a rater of these answers."""
        return f"{self.rater}{OWN}" if any(map(self.wrote, candidates)) else self.rater

    def grade(self, candidate: Candidate) -> Score:
        """Ask for one grade.

        Raises:
            ConfigurationError: the answer is the judge's own, and that is not allowed.
            EndpointError: the second request in a row that failed.
        """
        self._check(candidate)
        text, code = judge_prompts.grade_prompt(
            candidate.prompt, candidate.answer.text, self._rubric, self.settings.seed
        )
        reply, trouble = self._reply(candidate.prompt, text, [candidate.answer])
        grade = None if trouble else judge_prompts.read_grade(reply, code)
        comment = trouble or (_reason(reply) if grade else f"No grade could be read: {_reason(reply)}")
        return Score(
            self.rater_for(candidate),
            *candidate.key,
            grade,
            self.settings.rubric_version,
            score_files.now(),
            comment,
        )

    def prefer(self, first: Candidate, second: Candidate) -> Preference:
        """Ask which of two answers to one prompt is better, shown in this order.

        Raises:
            ConfigurationError: answers to different prompts; or one is the judge's own, and that is not allowed.
            EndpointError: the second request in a row that failed.
        """
        if first.prompt.id != second.prompt.id:
            raise ConfigurationError(
                f"'{first.prompt.id}' and '{second.prompt.id}' are two prompts.", "Compare answers to one prompt."
            )
        self._check(first, second)
        texts = first.answer.text, second.answer.text
        text, code = judge_prompts.pair_prompt(first.prompt, *texts, self.settings.seed)
        reply, trouble = self._reply(first.prompt, text, [first.answer, second.answer])
        choice = None if trouble else judge_prompts.read_choice(reply, code)
        comment = trouble or (_reason(reply) if choice else f"No choice could be read: {_reason(reply)}")
        return Preference(
            self.rater_for(first, second),
            first.prompt.id,
            first.answer.sha256,
            second.answer.sha256,
            choice,
            self.settings.rubric_version,
            score_files.now(),
            comment,
        )

    def _check(self, *candidates: Candidate) -> None:
        if self.settings.own_answers != "label" and any(map(self.wrote, candidates)):
            raise ConfigurationError(
                f"{self.variant.model_id} would judge its own answer to '{candidates[0].prompt.id}'.",
                "Take another model as judge, or set own_answers to 'leave out' or 'label'.",
            )

    def _reply(self, prompt: Prompt, text: str, judged: Sequence[Answer]) -> tuple[str, str | None]:
        """What the judge said, or why there is nothing to read."""
        longest = max(len(answer.text) for answer in judged)
        if longest > judge_prompts.LONGEST_TEXT:
            return "", f"Not asked: the answer has {longest:,} characters, more than {judge_prompts.LONGEST_TEXT:,}."
        completion = self._client.ask(self._request(prompt, text))
        answered = completion.ok or completion.is_empty  # a judge that says nothing has a server that works
        self._failures = 0 if answered else self._failures + 1
        if self._failures >= GIVE_UP_AFTER:
            raise EndpointError(
                f"The judge {self.variant.model_id} failed {self._failures} times in a row: {completion.error}",
                "What it said before is kept; look at the server, then judge again to go on.",
            )
        return completion.text, _trouble(completion)

    def _request(self, prompt: Prompt, text: str) -> Request:
        return Request(
            request_id=f"{self.rater}/{prompt.id}",
            variant=self.variant,
            prompt_id=prompt.id,
            text=text,
            round=1,
            max_tokens=self.settings.max_tokens,
            temperature=0.0,
            seed=self.settings.seed,
        )


def is_same_model(one: ModelVariant, other: ModelVariant) -> bool:
    """Whether two variants are the same model, perhaps in two builds."""
    return one.model_id == other.model_id or one.alias == other.alias


def _trouble(completion: Completion) -> str | None:
    if completion.ok and completion.finish_reason == "length":
        said = "nothing was said yet." if completion.is_empty else completion.text
        return one_line(f"Cut off by max_tokens before its end: {said}", REASON_LETTERS)
    if completion.is_empty:
        return "No verdict could be read: it said nothing."
    if completion.error is not None:
        return one_line(f"{FAILED} {completion.error}", REASON_LETTERS)
    return None


def _reason(reply: str) -> str:
    return one_line(judge_prompts.read_reason(reply), REASON_LETTERS)
