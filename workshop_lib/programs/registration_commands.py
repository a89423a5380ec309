"""The commands `register`, `unregister` and `registered`: models of one's own from the command line.

Knows arguments and words on a terminal; registering itself is done elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from workshop_lib.errors import ConfigurationError
from workshop_lib.models import local, registry
from workshop_lib.programs import terminal

_ADAPTER_HELP = "the class that answers, FILE.py:ClassName; registering runs that file, so take only one you trust"


def add_parsers(commands: Any) -> None:
    """Add the three commands to a parser's subparsers."""
    register = commands.add_parser("register", help="offer a model of your own beside the others")
    register.add_argument("alias", help="what to call it: lower-case letters, digits, '.', '_' and '-'")
    register.add_argument("weights", type=Path, help="an ONNX GenAI folder; with --adapter whatever the adapter loads")
    register.add_argument("--adapter", metavar="FILE.py:CLASS", help=_ADAPTER_HELP)
    register.add_argument("--licence", help="of the weights, e.g. MIT (default: what the folder states)")
    register.add_argument("--capabilities", default="", help="tags as in models.json, separated by commas")
    register.add_argument("--context", type=int, metavar="TOKENS", help="with --adapter: longest prompt plus answer")
    register.add_argument("--precision", help="of the weights, e.g. int4 (default: what a folder's model file tells)")
    register.set_defaults(command=_register)

    unregister = commands.add_parser("unregister", help="no longer offer a model of your own; its files stay")
    unregister.add_argument("alias", help="its alias")
    unregister.set_defaults(command=_unregister)

    registered = commands.add_parser("registered", help="the models of your own, and whether they can be used")
    registered.set_defaults(command=_registered)


def _register(options: argparse.Namespace) -> int:
    capabilities = tuple(tag.strip() for tag in options.capabilities.split(",") if tag.strip())
    if options.adapter is None:
        if options.context is not None:
            raise ConfigurationError("--context was given without --adapter.", "Leave it out: the folder itself says.")
        print(f"This loads {options.weights} once.", file=sys.stderr)
    else:
        file = options.adapter.rpartition(":")[0] or options.adapter
        print(f"This runs {file} and loads the weights once.", file=sys.stderr)
    model = local.register(
        options.alias,
        options.weights,
        adapter=options.adapter,
        licence=options.licence,
        context_tokens=options.context,
        precision=options.precision,
        capabilities=capabilities,
    )
    print(f"Registered: {model.alias} ({model.model_id}, {model.size_mb:.1f} MB).")
    print(f"Measure it: python3 workshop.py run --models {model.alias}")
    return 0


def _unregister(options: argparse.Namespace) -> int:
    for model in registry.remove(options.alias):
        print(f"{model.model_id} is no longer offered. Its files stay at {model.place}.")
    return 0


def _registered(_: argparse.Namespace) -> int:
    models = registry.read()
    if not models:
        print("No model is registered. Register one: python3 workshop.py register ALIAS FOLDER")
        return 0
    terminal.show_registered([(model, " ".join(model.why_unusable() or ()) or None) for model in models])
    return 0
