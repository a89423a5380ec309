"""One GGUF file on two runtimes of this machine: Foundry Local with the file's own codes, and llama.cpp's server.

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
from workshop_lib.records import ModelVariant, Run
from workshop_lib.runtimes.child_process import ChildProcess, ServedChild
from workshop_lib.runtimes.profiles import Runtime, ServedModel

LLAMA, SERVER = "llama.cpp", "samples.07-two-runtimes.llama_server"
NO_SERVER = "Install it: .venv/bin/python -m pip install xllamacpp (Windows: .venv\\Scripts\\python)."
NO_MODEL = "Give a GGUF file of a Llama, Mistral or Qwen2 model, or run the workshop once: it fetches SmolLM2-135M."


class TwoRuntimes(Runtime):
    """Foundry Local, and llama.cpp's server beside it for the variant of that name."""

    def __init__(self, foundry: Runtime, file: Path) -> None:
        self.profile, self.foundry, self.file = foundry.profile, foundry, file

    def serve(self, variant: ModelVariant) -> ServedModel:
        """Load and serve a variant by its own runtime; both use one thread per core."""
        if variant.model_id != LLAMA:
            return self.foundry.serve(variant)
        job = {"file": str(self.file), "threads": machine.cores(), "context_tokens": 4096}
        process = ChildProcess(SERVER, job, name=LLAMA, doing=f"loading {self.file.name}")
        return ServedChild(variant, process, timeout_s=120)


def measure(file: Path, folder: Path, prompts: int, rounds: int, max_tokens: int) -> Run:
    """Import the file for Foundry Local, then ask both runtimes in turns; the records go to `folder`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        (model,) = gguf.import_as(file, "same-model", ("exact4",), cache_dir=Path(cache))
        with ws.open_runtime("practice", cache_dir=Path(cache)) as foundry:
            ours = replace(*foundry.find([model.model_id]), precision="Foundry Local, exact4")
            theirs = replace(ours, model_id=LLAMA, precision=LLAMA, size_mb=file.stat().st_size / 1e6)
            how = {"rounds": rounds, "max_tokens": max_tokens, "order": "round-robin"}
            asked = ws.read_prompts("meeting-notes")[:prompts]
            return ws.run_benchmark(TwoRuntimes(foundry, file), [ours, theirs], asked, folder=folder, **how)


def main() -> int:
    """Measure and print; what is missing is one line, and an exit code of 1 or 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=smollm2.file_in(), help="a GGUF file")
    parser.add_argument("--folder", type=Path, default=ws.benchmark.new_folder(), help="of the records")
    for name, default in (("prompts", 8), ("rounds", 3), ("max-tokens", 60)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    options = parser.parse_args()
    try:
        if not options.file.is_file():
            raise ws.errors.DataFileError(f"{options.file.name} is not there.", NO_MODEL)
        if importlib.util.find_spec("xllamacpp") is None:
            raise ws.errors.RuntimeUnavailableError("xllamacpp, which has llama.cpp's server, is missing.", NO_SERVER)
        run = measure(**vars(options))
    except ws.WorkshopError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    compared = ws.compare_precisions(run)
    said = compared.sentences if compared.builds else ws.highlights(run)  # which say why one of them did not answer
    print(f"{options.file.name} on {ws.machine_line(run)}\n", *said, sep="\n")
    for table in (ws.tables.precisions(compared), ws.tables.differences(run)) if compared.builds else ():
        print(f"\n{table.markdown()}")
    return 0 if compared.builds else 1


if __name__ == "__main__":
    sys.exit(main())
