"""What models answered, ready to be judged: each different answer once, with the prompt and the models that gave it.

Knows runs. Knows no raters: who thought what of an answer is in `scores`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workshop_lib.records import Completion, ModelVariant, Prompt, Run, variant_key
from workshop_lib.verdicts.scores import Answer

AnswerKey = tuple[str, str]
"""Prompt and hash of the answer's text: what a score or a preference refers to."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to judge; `authors` are the models that gave exactly this text."""

    prompt: Prompt
    answer: Answer
    authors: tuple[ModelVariant, ...]

    @property
    def key(self) -> AnswerKey:
        """What scores of this answer refer to."""
        return self.prompt.id, self.answer.sha256


def candidates(run: Run) -> tuple[Candidate, ...]:
    """The answers of the first timed round, in the order of prompts and of models; failures and silence left out."""
    prompts = {prompt.id: prompt for prompt in run.prompts}
    variants = {variant_key(serving.variant): serving.variant for serving in run.servings}
    found: dict[AnswerKey, tuple[Answer, list[ModelVariant]]] = {}
    for completion in first_answers(run.completions):
        variant = variants.get((completion.model_id, completion.device))
        if variant is None or completion.prompt_id not in prompts or not completion.text.strip():
            continue
        answer = Answer(completion.prompt_id, completion.text)
        found.setdefault((answer.prompt_id, answer.sha256), (answer, []))[1].append(variant)
    order = {prompt_id: place for place, prompt_id in enumerate(prompts)}
    return tuple(
        Candidate(prompts[answer.prompt_id], answer, tuple(authors))
        for answer, authors in sorted(found.values(), key=lambda each: order[each[0].prompt_id])
    )


def first_answers(completions: Iterable[Completion]) -> list[Completion]:
    """Each model's first successful answer to each prompt, warm-ups left out."""
    first: dict[tuple[str, str, str], Completion] = {}
    for completion in sorted((each for each in completions if each.ok and each.round), key=lambda each: each.round):
        first.setdefault((completion.model_id, completion.device, completion.prompt_id), completion)
    return list(first.values())
