"""Take the steps one after the other, from a download and its conversion to a model that can be measured.

    python walk.py finished
    python walk.py finished --snapshot DOWNLOAD --converted FOLDER --alias my-model --max-size-mb 4000

Without options it walks the shipped example. Converting is yours to start: the command is printed, not run.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import steps
from facts import ALIAS, BITS, CONVERTED, OUTPUT, SNAPSHOT, Limits

import workshop_lib as ws


def walk(candidate: ModuleType, options: argparse.Namespace) -> None:
    """Print what each step found.

    Raises:
        WorkshopError: a step is not written, the candidate breaks a limit, or its folder cannot be registered.
    """
    limits = Limits(max_size_mb=options.max_size_mb)
    card, shape = candidate.read_card(options.snapshot), candidate.read_shape(options.snapshot)
    print(f"1 The card: licence {card.licence or 'unknown'}, languages {', '.join(card.languages) or 'unknown'}, "
          f"base model {', '.join(card.base_models) or 'none stated'}.")  # fmt: skip
    print(f"2 The network: {shape.architecture}, {shape.layers} layers, {shape.context_tokens} tokens of context.")
    print(f"3 Weights: {candidate.count_parameters(shape):,}.".replace(",", " "))
    estimates = {precision: candidate.estimate_mb(shape, precision) for precision in BITS}
    sizes = ", ".join(f"{name} {least:.2f} to {most:.2f} MB" for name, (least, most) in estimates.items())
    print(f"4 Estimated size: {sizes}.")
    reasons = candidate.objections(card, shape, estimates["int4"][0], limits)
    if reasons:
        raise ws.errors.ModelServerError(
            f"The candidate is out: {'; '.join(reasons)}.", "Look for another, or change the limits."
        )
    print("5 It breaks no limit.")
    print(f"6 Convert it with: {as_typed(candidate.builder_command(options.snapshot, options.output))}")
    if not any(options.snapshot.glob("*.safetensors")):
        print(
            f"  The snapshot has no weights, so that this would fail; its shipped result is {options.converted.name}."
        )
    if not options.converted.is_dir():
        raise ws.errors.ModelServerError(
            f"{options.converted} is not there yet.", "Run the command of step 6, then walk again."
        )
    found = candidate.examine_converted(options.converted)
    print(f"7 The runtime loads the converted folder: {found.precision}, {found.device}, "
          f"{steps.folder_mb(options.converted):.2f} MB, "
          f"estimated at least {estimates.get(found.precision or '', (0.0,))[0]:.2f}.")  # fmt: skip
    model = candidate.register_converted(options.converted, alias=options.alias, licence=card.licence)
    print(f"8 Registered as {model.alias}: {model.model_id}.")
    print(f"9 Measure it with: {as_typed(candidate.benchmark_command(options.alias))}")


def as_typed(command: list[str]) -> str:
    """The command as this system's terminal takes it."""
    return f"& {subprocess.list2cmdline(command)}" if sys.platform == "win32" else shlex.join(command)


def main(arguments: list[str]) -> int:
    """Walk; a step that is missing or a candidate that is out is one line and exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=steps.FORMS)
    parser.add_argument("--snapshot", type=Path, default=SNAPSHOT, help="folder downloaded from Hugging Face")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the builder shall write")
    parser.add_argument("--converted", type=Path, default=CONVERTED, help="what the builder wrote")
    parser.add_argument("--alias", default=ALIAS, help=f"name in the workshop (default: {ALIAS})")
    parser.add_argument("--max-size-mb", type=float, default=Limits().max_size_mb, help="largest size (default: 2)")
    options = parser.parse_args(arguments)
    try:
        walk(steps.load(options.form), options)
    except ws.WorkshopError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (OSError, LookupError, ValueError) as error:
        print(f"{type(error).__name__}: {error}. Give the folder of a Llama, Mistral or Qwen2 model.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
