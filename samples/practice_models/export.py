"""Export trained models as ONNX Runtime GenAI folders: ``python export.py --trained trained``.

For every size it builds four variants, checks that the runtime's tokenizer reads text as in
training, and writes ``index.json`` with sizes and checksums. The GPU builds are written without a
GPU and are not run here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime_genai
from tokenizer import corpus_lines
from transformers import Qwen2Tokenizer

SHIPPED_FILES = (
    "genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja",
)  # fmt: skip
CONTEXT_TOKENS, MAX_OUTPUT_TOKENS = 1024, 256
DATA_FOLDER = Path(__file__).parents[2] / "data" / "practice_models"


@dataclass(frozen=True, slots=True)
class Build:
    """One variant: the end of its name, its precision, and the builder's and runtime's provider."""

    suffix: str
    precision: str
    builder_provider: str
    device: str
    execution_provider: str
    options: tuple[str, ...] = ()


BUILDS = (
    Build("int4-generic-cpu", "int4", "cpu", "cpu", "CPUExecutionProvider"),
    Build("fp32-generic-cpu", "fp32", "cpu", "cpu", "CPUExecutionProvider"),
    Build("fp16-cuda-gpu", "fp16", "cuda", "gpu", "CUDAExecutionProvider"),
    Build("int4-generic-gpu", "int4", "webgpu", "gpu", "WebGpuExecutionProvider"),
)


def build_folder(source: Path, target: Path, build: Build) -> None:
    """Run the builder on a Hugging Face folder and keep only the files the runtime reads."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs, output, cache = (Path(scratch, name) for name in ("model", "built", "cache"))
        wanted = shutil.ignore_patterns("checkpoint*", "training.json", "reference*", "int4")
        shutil.copytree(source, inputs, ignore=wanted)
        command = [
            sys.executable, "-m", "onnxruntime_genai.models.builder",
            "-i", str(inputs), "-o", str(output), "-c", str(cache),
            "-p", build.precision, "-e", build.builder_provider,
        ]  # fmt: skip
        if build.options:
            command += ["--extra_options", *build.options]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise SystemExit(f"The builder failed for {target.name}:\n{result.stderr[-2000:]}")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in SHIPPED_FILES:
            if (output / name).exists():
                shutil.copyfile(output / name, target / name)


def check_tokenizer(source: Path, target: Path) -> None:
    """Stop unless the runtime turns text into the numbers that training used, and back."""
    trained = Qwen2Tokenizer.from_pretrained(source)
    exported = onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(target)))
    for line in corpus_lines(seed=11)[:400]:
        numbers = exported.encode(line).tolist()
        if numbers != trained.encode(line) or exported.decode(numbers) != line:
            raise SystemExit(f"{target.name} reads {line!r} differently from training.")


def describe_variant(build: Build, folder: Path) -> dict[str, Any]:
    """The index entry of one variant; sizes are bytes, checksums are SHA-256."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "name": folder.name,
        "version": "1",
        "device": build.device,
        "execution_provider": build.execution_provider,
        "precision": build.precision,
        "folder": folder.name,
        "size_bytes": sum(path.stat().st_size for path in files),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def export_model(size: str, source: Path, output: Path) -> dict[str, Any]:
    """Build all variants of one size and return its index entry."""
    alias = f"practice-{size}"
    variants = []
    for build in BUILDS:
        folder = output / f"{alias}-{build.suffix}"
        rounded = source / "int4"  # weights trained for rounding, where the size has them
        use_rounded = build.precision == "int4" and rounded.exists()
        build_folder(rounded if use_rounded else source, folder, build)
        if build.device == "cpu":
            check_tokenizer(source, folder)
        variants.append(describe_variant(build, folder))
        print(f"{folder.name}: {variants[-1]['size_bytes'] / 1e6:.2f} MB")
    training = json.loads((source / "training.json").read_text())
    return {
        "alias": alias,
        "display_name": f"Practice {size}",
        "parameters": training["parameters"],
        "context_tokens": CONTEXT_TOKENS,
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "variants": variants,
    }


def main() -> None:
    """Read the command line, export, and write the index."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trained", type=Path, default=Path("trained"), help="output of train.py")
    parser.add_argument("--output", type=Path, default=DATA_FOLDER)
    parser.add_argument("--sizes", nargs="+", default=["small", "medium", "large"])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    models = [export_model(size, options.trained / size, options.output) for size in options.sizes]
    index = {"schema": 1, "publisher": "workshop", "licence": "MIT", "models": models}
    (options.output / "index.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
