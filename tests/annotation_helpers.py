"""Hand-made runs with many answers for the tests of annotation, in Python and in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.measurement_helpers import completion, run_of
from workshop_lib.records import Completion, ModelVariant, Prompt, Run, Serving
from workshop_lib.storage import RunWriter

SMALL = {"one": {"x": "first", "y": "second"}, "two": {"x": "third", "y": "third"}}
"""Three different texts from four answers of two models."""


def variant(name: str) -> ModelVariant:
    return ModelVariant(alias=name, model_id=f"{name}:1", device="cpu", precision="int4")


def run_with(texts: Mapping[str, Mapping[str, str]], prompts: Sequence[Prompt] = ()) -> Run:
    """A run in which each model gave the text that stands under prompt and model."""
    models = list(dict.fromkeys(model for given in texts.values() for model in given))
    asked = prompts or tuple(Prompt(name, f"What is {name}?", aspects=("sentence",)) for name in texts)
    return run_of(
        [answer(prompt, model, text) for prompt, given in texts.items() for model, text in given.items()],
        prompts=tuple(asked),
        servings=tuple(Serving(variant(model)) for model in models),
    )


def answer(prompt: str, model: str, text: str, **changes: object) -> Completion:
    """One model's timed answer to one prompt."""
    values = {"alias": model, "model_id": f"{model}:1", "prompt_id": prompt, **changes}
    return completion([0.1], [text], **values)


def forty() -> Run:
    """Eight prompts, five models, forty different answers."""
    models = ("alder", "birch", "cedar", "dogwood", "elm")
    return run_with(
        {f"topic-{n}": {model: f"Sentence {n} of {place}." for place, model in enumerate(models)} for n in range(8)}
    )


def write_run(run: Run, path: Path) -> Path:
    """Store a run as a benchmark does."""
    with RunWriter(path, run) as writer:
        for record in (*run.servings, *run.completions):
            writer.append(record)
    return path
