"""The command `import`: a GGUF file becomes models that Foundry Local serves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from workshop_lib.errors import ConfigurationError
from workshop_lib.models import gguf
from workshop_lib.models.gguf_file import Precision


def add_parser(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = commands.add_parser("import", help="turn a GGUF file into models that Foundry Local serves")
    parser.add_argument("file", type=Path, help="a GGUF file of the Llama family: Llama, Mistral, Qwen2, SmolLM2")
    parser.add_argument("--alias", required=True, help="what to call it: lower-case letters, digits, '.', '_' and '-'")
    precisions = ", ".join(gguf.PRECISIONS)
    parser.add_argument("--precision", default="exact4", help=f"of {precisions}, separated by commas (default: exact4)")
    parser.add_argument("--licence", help="of the weights, e.g. MIT (default: what the file states)")
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(name.strip() for name in options.precision.split(",") if name.strip()))
    for name in names:
        if name not in gguf.PRECISIONS:
            what = f"--precision names '{name}'."
            raise ConfigurationError(what, f"Use {', '.join(gguf.PRECISIONS)}, separated by commas.")
    for model in gguf.import_as(options.file, options.alias, cast("list[Precision]", names), licence=options.licence):
        print(
            f"Imported and registered: {model.model_id} ({model.size_mb:.1f} MB, licence {model.licence or 'unknown'})."
        )
    return 0
