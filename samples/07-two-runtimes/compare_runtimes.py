"""One GGUF file on two runtimes of this machine: Foundry Local with the file's own codes, and llama.cpp's server.

    .venv/bin/python samples/07-two-runtimes/compare_runtimes.py [FILE.gguf] [--rounds 3] [--max-tokens 60]

Without a file: SmolLM2-135M from the model cache. Both are loaded, and their requests take turns in a shuffled order.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import workshop_lib as ws
from workshop_lib import machine
from workshop_lib.models import gguf, smollm2
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes.child_process import ChildProcess, ServedChild
from workshop_lib.runtimes.protocols import Runtime, ServedModel

LLAMA = "llama.cpp"
CONTEXT_TOKENS, START_S = 4096, 120.0
SERVER = "samples.07-two-runtimes.llama_server"
NO_SERVER = "Install it: .venv/bin/python -m pip install xllamacpp (Windows: .venv\\Scripts\\python)."
NO_MODEL = "Give a GGUF file of a Llama, Mistral or Qwen2 model, or run the workshop once: it fetches SmolLM2-135M."


class TwoRuntimes(Runtime):
    """Foundry Local, with llama.cpp's server beside it for the variant of that name."""

    def __init__(self, foundry: Runtime, file: Path) -> None:
        self.profile, self.foundry, self.file = foundry.profile, foundry, file

    def serve(self, variant: ModelVariant) -> ServedModel:
        """Load and serve a variant by the runtime that it belongs to, with one thread per core in both."""
        if variant.execution_provider != LLAMA:
            return self.foundry.serve(variant)
        job = {"file": str(self.file), "threads": machine.cores(), "context_tokens": CONTEXT_TOKENS}
        process = ChildProcess(SERVER, job, name=LLAMA, doing=f"loading {self.file.name}")
        return ServedChild.when_ready(variant, process, timeout_s=START_S)


def measure(file: Path, prompts: int, rounds: int, max_tokens: int, output: Path | None) -> None:
    """Import the file, measure both, and print how they compare."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        (model,) = gguf.import_as(file, "same-model", ("exact4",), cache_dir=Path(cache))
        with ws.open_runtime("practice", cache_dir=Path(cache)) as foundry:
            ours = replace(*foundry.find([model.model_id]), precision="Foundry Local, exact4")
            size_mb = file.stat().st_size / 1e6
            theirs = replace(ours, model_id=LLAMA, precision=LLAMA, execution_provider=LLAMA, size_mb=size_mb)
            asked = ws.read_prompts("meeting-notes")[:prompts]
            how = {"rounds": rounds, "max_tokens": max_tokens, "order": "round-robin"}
            run = ws.run_benchmark(
                TwoRuntimes(foundry, file), [ours, theirs], asked, folder=output or Path(cache) / "run", **how
            )
    compared = ws.compare_precisions(run)
    print(f"{file.name}, {len(asked)} prompts, {rounds} rounds, {max_tokens} tokens; {ws.machine_line(run)}\n")
    for table in (ws.tables.precisions(compared), ws.tables.differences(run)):
        print("" if table is None else f"{table.markdown()}\n")
    print(*compared.sentences, sep="\n")


def main() -> int:
    """Measure; what is missing is one line and exit code 1 or 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=smollm2.file_in(), help="a GGUF file")
    parser.add_argument("--output", type=Path, help="folder to keep the records in; without it they are not kept")
    for name, default in (("prompts", 8), ("rounds", 3), ("max-tokens", 60)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    options = parser.parse_args()
    try:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ws.errors.RuntimeUnavailableError("xllamacpp, which has llama.cpp's server, is missing.", NO_SERVER)
        if not options.file.is_file():
            raise ws.errors.DataFileError(f"{options.file.name} is not there.", NO_MODEL)
        measure(**vars(options))
    except ws.WorkshopError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
