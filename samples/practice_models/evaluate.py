"""Measure the shipped CPU builds through the real Foundry Local service: ``python evaluate.py``.

Runs in the workshop's own environment (no PyTorch). Asks every held-out question greedily over
HTTP, scores the answers, compares them with PyTorch's (``reference.py``), and writes
``quality.json`` beside the models.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import openai
from quality import TESTS, held_out_tests, mean_score

from workshop_lib.runtimes.profiles import ServedModel, open_runtime

if TYPE_CHECKING:
    from corpus import Sample

ANSWER_LIMIT_TOKENS = 160
DATA_FOLDER = Path(__file__).parents[2] / "data" / "practice_models"
Answers = dict[str, list[str]]


def ask(client: openai.OpenAI, model_id: str, sample: Sample) -> str:
    """One greedy answer over HTTP."""
    completion = client.chat.completions.create(
        model=model_id,
        messages=[{"role": "user", "content": sample.question}],
        temperature=0,
        max_tokens=ANSWER_LIMIT_TOKENS,
    )
    return completion.choices[0].message.content or ""


def answer_tests(served: ServedModel, tests: dict[str, list[Sample]]) -> Answers:
    """The answers of a served model to every test."""
    client = openai.OpenAI(base_url=served.base_url, api_key="not-needed", max_retries=0)
    model_id = served.variant.model_id
    return {name: [ask(client, model_id, sample) for sample in samples] for name, samples in tests.items()}


def same_share(answers: Answers, reference: Answers) -> float:
    """The share of all answers that equal PyTorch's, letter for letter."""
    pairs = [
        (ours.strip(), theirs.strip())
        for name in answers
        for ours, theirs in zip(answers[name], reference[name], strict=True)
    ]
    return sum(ours == theirs for ours, theirs in pairs) / len(pairs)


def scores(tests: dict[str, list[Sample]], answers: Answers) -> dict[str, float]:
    """The mean score of each test, between 0 and 1."""
    return {name: round(mean_score(tests[name], answers[name]), 3) for name in tests}


def markdown_table(models: list[dict[str, Any]]) -> str:
    """The scores of every CPU build and of PyTorch, as the model card shows them."""
    columns = {}
    for model in models:
        columns[f"{model['alias']} PyTorch"] = model["pytorch"]
        for variant in model["variants"]:
            columns[variant["name"].removesuffix("-generic-cpu")] = variant["scores"]
    lines = ["| test | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for test in TESTS:
        cells = " | ".join(f"{column[test]:.2f}" for column in columns.values())
        lines.append(f"| {TESTS[test]} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure every CPU build, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trained", type=Path, default=Path("trained"), help="output of train.py")
    parser.add_argument("--sizes", nargs="+", default=["small", "medium", "large"])
    parser.add_argument("--models", type=Path, default=DATA_FOLDER, help="output of export.py")
    options = parser.parse_args()
    tests = held_out_tests()
    models = []
    with open_runtime("practice", index_file=options.models / "index.json") as runtime:
        for size in options.sizes:
            reference_file = options.trained / size / "reference_answers.json"
            reference = json.loads(reference_file.read_text(encoding="utf-8"))
            variants = []
            for variant in runtime.find([f"practice-{size}"], devices=("cpu",)):
                with runtime.serve(variant) as served:
                    answers = answer_tests(served, tests)
                variants.append(
                    {
                        "name": variant.model_id.split(":")[0],
                        "scores": scores(tests, answers),
                        "same_as_pytorch": round(same_share(answers, reference), 3),
                        "course_answers": answers["course_prompts"],
                    }
                )
                print(f"{variant.model_id}: {variants[-1]['same_as_pytorch']:.1%} as PyTorch")
            pytorch = scores(tests, reference)
            models.append({"alias": f"practice-{size}", "pytorch": pytorch, "variants": variants})
    counts = {name: len(samples) for name, samples in tests.items()}
    record = {"schema": 1, "tests": TESTS, "questions": counts, "models": models}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (options.models / "quality.json").write_text(text, encoding="utf-8")
    print(markdown_table(models))


if __name__ == "__main__":
    main()
