"""Write `tests/gguf_logits.npz`: what transformers computes for the random GGUF files of the tests.

Needs an environment of its own: `pip install transformers==5.24.0 torch==2.14.1 gguf==0.19.0 accelerate`. Run it from
the project's folder after a change of `tests/gguf_helpers.py`: `python tests/benchmarks/gguf_logits.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from tests.gguf_helpers import CASES, IDS, name_of, tiny_gguf  # noqa: E402 - found through the line above


def main() -> None:
    """Write the logits of the token after `IDS`, by the name of each case."""
    found = {}
    for case in CASES:
        if case["kind"] == "llama" and "biases" in case:  # transformers drops a Llama's biases without a word
            continue
        with tempfile.TemporaryDirectory() as folder:
            tiny_gguf(Path(folder) / "tiny.gguf", **case)
            model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="tiny.gguf", dtype=torch.float32)
        model.eval()
        with torch.no_grad():
            found[name_of(case)] = model(torch.tensor([IDS])).logits[0, -1].numpy()
    np.savez(TESTS / "gguf_logits.npz", **found)


if __name__ == "__main__":
    main()
