"""Decode rate and latency of one model folder against another's, through the real runtime, in alternating pairs.

Run `python tests/benchmarks/decode_pairs.py FOLDER OTHER --pairs 20`, e.g. for an imported model and the official
builder's, or for one model with two settings of `intra_op_num_threads`. Each serving is a new process, the only one at
the time, and every second pair begins with the other folder: of two processes side by side the one that started first
was up to a third slower. A pair gives one ratio of medians; their median comes with a
bootstrap interval. Gates nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop_lib import data, timing
from workshop_lib.client import ChatClient
from workshop_lib.models.registry import LOAD_TIMEOUT_S, foundry_process
from workshop_lib.records import ModelVariant, Request
from workshop_lib.runtimes.child_process import ServedChild

WARM_UPS, REQUESTS, TOKENS = 1, 3, 48


def measured(folder: Path, logs: Path) -> tuple[float, float]:
    """Medians of decode rate (tok/s) and latency (s) of one serving."""
    variant = ModelVariant(folder.name, f"{folder.name}:1", "cpu")
    prompt = data.read_prompts("meeting-notes")[0]
    request = Request("pair", variant, prompt.id, prompt.text, 1, TOKENS)
    process = foundry_process("serve", variant, logs_dir=logs, place=folder.absolute())
    with (
        ServedChild(variant, process, timeout_s=LOAD_TIMEOUT_S) as served,
        ChatClient(served.base_url) as client,
    ):
        answers = [client.ask(request) for _ in range(WARM_UPS + REQUESTS)][WARM_UPS:]
    rates, waits = ([measure(each) for each in answers] for measure in (timing.decode_tokens_per_s, timing.latency_s))
    return median(filter(None, rates)), median(filter(None, waits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    chosen = parser.parse_args()
    found: dict[Path, list[tuple[float, float]]] = {chosen.folder: [], chosen.other: []}
    with tempfile.TemporaryDirectory() as logs:
        for pair in range(chosen.pairs):
            for folder in list(found)[:: -1 if pair % 2 else 1]:
                found[folder].append(measured(folder, Path(logs)))
    ratios = np.array(found[chosen.folder]) / np.array(found[chosen.other])
    drawn = np.random.default_rng(20).integers(0, chosen.pairs, (4000, chosen.pairs))
    for name, values in zip(("decode rate", "latency"), ratios.T, strict=True):
        low, high = np.percentile(np.median(values[drawn], axis=1), [2.5, 97.5])
        print(f"{name}: {np.median(values):.3f} of the other's, 95 % interval {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
