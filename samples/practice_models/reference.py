"""PyTorch's own answers to the held-out tests: ``python reference.py --size small``.

Every exported build is checked against these answers. They come from the saved Hugging Face folder
through ``Qwen2ForCausalLM``, greedily, so they also show that the folder describes the network that
was trained.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from quality import held_out_tests, mean_score
from tokenizer import encode_prompt
from transformers import AutoModelForCausalLM, Qwen2Tokenizer

if TYPE_CHECKING:
    from corpus import Sample

ANSWER_LIMIT_TOKENS = 160
ROWS_AT_ONCE = 25


@torch.inference_mode()
def answer_all(folder: Path, samples: list[Sample]) -> list[str]:
    """Greedy answers in the order of the samples; similar lengths are answered together."""
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = [encode_prompt(tokenizer, sample) for sample in samples]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), ROWS_AT_ONCE):
        chosen = order[start : start + ROWS_AT_ONCE]
        longest = max(len(prompts[index]) for index in chosen)
        gaps = [longest - len(prompts[index]) for index in chosen]
        pad = tokenizer.pad_token_id
        rows = [[pad] * gap + prompts[index] for gap, index in zip(gaps, chosen, strict=True)]
        seen = [[0] * gap + [1] * (longest - gap) for gap in gaps]
        written = model.generate(
            torch.tensor(rows),
            attention_mask=torch.tensor(seen),
            max_new_tokens=ANSWER_LIMIT_TOKENS,
            do_sample=False,
        )
        for index, row in zip(chosen, written, strict=True):
            text = tokenizer.decode(row[longest:].tolist(), skip_special_tokens=True)
            answers[index] = text
    return answers


def main() -> None:
    """Read the command line, answer every test, and write ``reference_answers.json``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=["small", "medium", "large"], required=True)
    parser.add_argument("--trained", type=Path, default=Path("trained"), help="output of train.py")
    options = parser.parse_args()
    folder = options.trained / options.size
    tests = held_out_tests()
    answers = answer_all(folder, [sample for samples in tests.values() for sample in samples])
    by_test, position = {}, 0
    for name, samples in tests.items():
        by_test[name] = answers[position : position + len(samples)]
        position += len(samples)
        print(f"{name:24} {mean_score(samples, by_test[name]):.2f}")
    text = json.dumps(by_test, indent=1, ensure_ascii=False) + "\n"
    (folder / "reference_answers.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
