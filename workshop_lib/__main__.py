"""The command line: `python -m workshop_lib COMMAND`, which `workshop.py` hands over to. Arguments become calls."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workshop_lib import data, places
from workshop_lib.programs import commands, fleet_commands, notebooks
from workshop_lib.settings import PROFILES, Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the process's exit code."""

    def work() -> int:
        options = vars(_parser().parse_args(arguments))
        return int(options.pop("command")(**options))

    return commands.ended(work)


def _lab(*, no_browser: bool, allow_root: bool) -> int:
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--notebook-dir={places.PROJECT}"]
    command += [flag for flag, given in (("--no-browser", no_browser), ("--allow-root", allow_root)) if given]
    first = str(places.NOTEBOOKS / notebooks.PAGES[0])
    return subprocess.run([*command, first], env={**os.environ, "PYTHONUTF8": "1"}, check=False).returncode


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="workshop.py", description="Choose a small language model by measuring it.")
    parts = parser.add_subparsers(required=True, metavar="COMMAND")

    run = parts.add_parser("run", help="download, benchmark and chart the models, write a report under runs/")
    run.add_argument("--devices", default="cpu,gpu", help="devices to measure (default: cpu,gpu)")
    run.add_argument("--prompt-set", default=data.TASK, metavar="NAME", help=f"prompts to ask (default: {data.TASK})")
    run.add_argument("--rounds", type=int, default=2, help="timed rounds per prompt (default: 2)")
    run.add_argument("--watts", type=float, help="power to assume where none can be measured (default: models.json)")
    run.add_argument("--output", type=Path, help="folder of the run (default: runs/<started>)")
    run.set_defaults(command=commands.run)

    lab = parts.add_parser("lab", help="open JupyterLab on the notebooks")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    lab.add_argument("--allow-root", action="store_true", help="let JupyterLab run as root, as in a container")
    lab.set_defaults(command=_lab)

    check = parts.add_parser("check", help="is every model listed, cached, served, and does it answer?")
    check.add_argument("--devices", default="cpu", help="devices to check the models on (default: cpu)")
    check.add_argument("--download", action="store_true", help="bring what is missing into the model cache first")
    check.set_defaults(command=commands.check)

    for part in (run, check):
        part.add_argument("--profile", choices=PROFILES, default="", help="default: practice, with an address endpoint")
        part.add_argument("--models", default="auto", help="aliases or ids with commas; or auto (default), all")

    compare = parts.add_parser("compare", help="what changed between two results, with intervals")
    compare.add_argument("first", type=Path, help="benchmark_report.json or records.jsonl")
    compare.add_argument("second", type=Path, nargs="?", help="the other one; default: the same file")
    compare.add_argument("--model", default="", metavar="NAME[@DEVICE]", help="this model of the first file only")
    compare.add_argument("--against", default="", metavar="NAME[@DEVICE]", help="with --model: that of the second file")
    compare.add_argument("--fail-if-slower", action="store_true", help="exit with 1 if a latency is clearly worse")
    compare.set_defaults(command=commands.compare)

    register = parts.add_parser("register", help="offer a model of your own beside the others")
    register.add_argument("alias", help="what to call it: lower-case letters, digits, '.', '_' and '-'")
    register.add_argument("weights", type=Path, help="an ONNX GenAI folder; with --adapter whatever the adapter loads")
    register.add_argument("--adapter", metavar="FILE.py:CLASS", help="the class that answers; take one that you trust")
    register.add_argument("--licence", help="of the weights, e.g. MIT (default: what the folder states)")
    register.add_argument("--capabilities", default="", help="tags as in models.json, separated by commas")
    register.add_argument("--precision", help="of the weights, e.g. int4 (default: what a folder's model file tells)")
    register.set_defaults(command=commands.register)

    unregister = parts.add_parser("unregister", help="no longer offer a model of your own; its files stay")
    unregister.add_argument("alias", help="its alias")
    unregister.set_defaults(command=commands.unregister)
    registered = parts.add_parser("registered", help="the models of your own, and whether they can be used")
    registered.set_defaults(command=commands.registered)

    gguf = parts.add_parser("import", help="turn a GGUF file into models that Foundry Local serves")
    gguf.add_argument("file", type=Path, help="a GGUF file of the Llama family; smollm2 fetches a real model once")
    gguf.add_argument("--alias", default="", help="what to call it: lower-case letters, digits, '.', '_' and '-'")
    gguf.add_argument("--precision", default="exact4", help="of exact4 (default), int8, int4, fp32, with commas")
    gguf.add_argument("--licence", help="of the weights, e.g. MIT (default: what the file states)")
    gguf.set_defaults(command=commands.import_gguf)

    fleet_commands.add_parser(parts)
    return parser


if __name__ == "__main__":
    sys.exit(main())
