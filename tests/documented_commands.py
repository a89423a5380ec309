"""Where documents name commands, and whether each of them would be understood. Runs none of them."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests import shell
from tests.markdown import PROJECT, Document, code_in, written
from tests.markdown import read as read_document
from tests.shell import Command
from tests.snippets import check_snippet, require
from tools import reference
from workshop_lib import __main__ as command_line
from workshop_lib import settings
from workshop_lib.errors import ConfigurationError

SHELLS = {"bash": shell.bash, "powershell": shell.powershell}
NOT_COMMANDS = {"text", "python", "json", "yaml", "mermaid", "csv", "toml"}
"""Languages of fenced blocks that hold no commands; a block without a language is taken for bash."""

OUTSIDE = {
    "pip": "installs packages from an index",
    "uv": "compiles the pins from an index",
    "conda": "makes an environment from an index",
    "git": "version control of the reader",
    "cd": "changes the reader's folder",
    "for": "a loop; what it repeats is checked",
    "sudo": "Debian's package manager, as administrator",
    "apt": "Debian's package manager",
    "lsof": "part of the operating system",
    "unset": "part of the shell",
    "nvidia-smi": "comes with NVIDIA's driver",
    "pre-commit": "optional, for contributors",
    "New-ItemProperty": "part of Windows",
    "Remove-Item": "part of PowerShell",
    "Get-NetTCPConnection": "part of Windows",
    "winget": "Windows' package manager",
    "hf": "Hugging Face's own program",
    "olive": "converts models; needs torch",
}
"""Programs that are not ours to check, each with its reason."""

OUTSIDE_MODULES = {
    "pip": "installs packages from an index",
    "venv": "part of Python",
    "onnxruntime_genai.models.builder": "writes model folders; needs torch and transformers",
    "ipykernel": "registers a kernel for other editors",
}
FOUNDRY = {
    *(f"model {verb}" for verb in ("list", "info", "download", "load", "unload", "run")),
    *(f"cache {verb}" for verb in ("list", "location", "cd", "remove")),
    *(f"server {verb}" for verb in ("start", "stop", "restart", "status", "logs")),
    *(f"service {verb}" for verb in ("start", "stop", "restart", "status", "ps", "set", "diag")),
    "run", "chat", "complete", "status", "--version", "--help",
}  # fmt: skip
"""What the Foundry Local CLI has by its documentation, 0.9 and 0.10; it is not installed where the tests run."""

OWN = re.compile(r"(?:(?:\.\./)*\.venv(?:-training)?/bin/)?python(?:3\.\d+)?")
PROGRAMS = re.compile(r"(?:python3?|py|pip|uv|conda|foundry|git|hf|workshop\.py|\.venv\S+) |[\w.][\w./\\-]* .*--[a-z]")
"""What makes inline code a command: it begins with a program and a word follows, or has a flag with two dashes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A command and where it stands: `README.md:12`; `folder` is that of the document.

    In prose a command of ours may be called by its name alone, without what it needs.
    """

    command: Command
    where: str
    folder: Path
    in_prose: bool = False


class NotUnderstoodError(AssertionError):
    """A documented command that would not work: where it is and why."""


def commands_of(document: Document) -> Iterator[Place]:
    """Every command of a document: fenced, in a column for a shell, or inline where it begins with a program."""
    for fence in document.fences:
        language = fence.language or "bash"
        if language in SHELLS:
            yield from _places(document, SHELLS[language](fence.text), fence.line)
        elif fence.language not in NOT_COMMANDS:
            where = f"{document.name}:{fence.line}"
            raise NotUnderstoodError(f"{where}: a block of language {fence.language!r}; say bash, powershell or text.")
    for name, code, line in commands_in_tables(document):
        yield from _places(document, SHELLS[name](code), line)
    for code, line in document.inline_code():
        if PROGRAMS.match(code):
            for place in _places(document, SHELLS["powershell" if "\\" in code else "bash"](code), line):
                yield replace(place, in_prose=True)


def commands_in_tables(document: Document) -> Iterator[tuple[str, str, int]]:
    """Shell, text and line of each command in a column whose heading names a shell."""
    for row in document.rows:
        for heading, cell in row.cells.items():
            if name := shell_of(heading):
                yield from ((name, code, row.line) for code in code_in(cell))


def shell_of(heading: str) -> str | None:
    """The shell whose commands a column of a table holds."""
    return next((name for name in SHELLS if re.search(rf"\b{name}\b", heading.lower())), None)


def all_commands() -> list[Place]:
    """Every command of every document and notebook."""
    return [place for path in written() for place in commands_of(read_document(path))]


def _places(document: Document, commands: list[Command], line: int) -> Iterator[Place]:
    folder = document.path.parent
    for command in commands:
        yield Place(command, f"{document.name}:{line}", folder)
        if command.words[0] == "cd":
            folder = PROJECT / command.words[1]


def check(place: Place) -> None:
    """Raise `NotUnderstoodError` for a command whose program, file, flag or value does not exist."""
    words = place.command.words
    try:
        _check_variables(place.command)
        if OWN.fullmatch(words[0]):
            _check_python(list(words[1:]), place)
        elif words[0] == "workshop.py":
            _check_own(list(words[1:]), place)
        elif words[0].endswith(".py"):
            _check_script(_found(words[0], place.folder), list(words[1:]))
        elif words[0] == "foundry":
            require(" ".join(words[1:3]) in FOUNDRY or words[1] in FOUNDRY, f"no CLI command 'foundry {words[1]}'")
        elif words[0].endswith("/pip") or words[0] in OUTSIDE:
            _check_files(words[1:], place.folder)
        else:
            require(False, f"no known program {words[0]!r}")
    except (ConfigurationError, ValueError) as error:
        raise NotUnderstoodError(f"{place.where}: `{' '.join(words)}`: {error}") from None


def _check_variables(command: Command) -> None:
    known = {each.variable for each in settings.SETTINGS} | {
        "FOUNDRY_LOCAL_ALIAS", "WORKSHOP_CACHE_DIR", "WORKSHOP_RUNS_DIR", "NO_PROXY", "HTTPS_PROXY", "HTTP_PROXY",
        "OMP_NUM_THREADS", "SSL_CERT_FILE", "FOUNDRY_LOCAL_CUDA_EP_LIBRARY",
    }  # fmt: skip
    unknown = set(command.variables) - known
    require(not unknown, f"no known variable {', '.join(unknown)}")


def _check_python(arguments: list[str], place: Place) -> None:
    if arguments[0] == "-c":
        check_snippet(arguments[1])
    elif arguments[0] == "-m" and arguments[1] == "workshop_lib":
        parsed(command_line._parser(), arguments[2:])
    elif arguments[0] == "-m" and arguments[1] not in OUTSIDE_MODULES:
        _check_script(_module_file(arguments[1]), arguments[2:])
    elif arguments[0] == "workshop.py":
        _check_own(arguments[1:], place)
    elif arguments[0] != "-m":
        _check_script(_found(arguments[0], place.folder), arguments[1:])


def _check_own(arguments: list[str], place: Place) -> None:
    """`workshop.py` and what follows: a command that it knows, and that the package's parser takes."""
    if arguments != ["--help"]:
        known = runpy.run_path(str(PROJECT / "workshop.py"))["COMMANDS"]
        require(bool(arguments) and arguments[0] in known, f"workshop.py has no command {arguments[:1]}")
        if arguments[0] == "test":
            unknown = set(arguments[1:]) - {"lint", "types", "tests", "pages", "alone", "coverage", "--list", "…"}
            require(not unknown, f"test has no check {', '.join(unknown)}")
            return
        parser = reference.parser() if arguments[:1] == ["reference"] else command_line._parser()
        arguments = arguments[1:] if arguments[:1] == ["reference"] else arguments
        parsed(parser, ["--help"] if place.in_prose and len(arguments) == 1 else arguments)


def _module_file(name: str) -> Path:
    for root in (PROJECT, PROJECT / "samples"):
        if (file := root.joinpath(*name.split(".")).with_suffix(".py")).is_file():
            return file
    raise ValueError(f"there is no module {name}")


def _found(name: str, folder: Path) -> Path:
    for root in (folder, PROJECT):
        if (root / name).is_file():
            return root / name
    raise ValueError(f"there is no file {name}")


def _check_script(file: Path, arguments: list[str]) -> None:
    """A script's flags: those of the settings for the full script, else those that it adds to its parser."""
    source = file.read_text(encoding="utf-8")
    if "commands import benchmark" in source:
        if "--help" not in arguments:
            settings.parse(arguments, {})
        return
    added = {
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    unknown = {word for word in arguments if word.startswith("--")} - added - {"--help"}
    require(not unknown, f"{file.name} has no flag {', '.join(unknown)}")


def parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Raise `ValueError` with argparse's own words for arguments that it does not take."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(arguments)
    except SystemExit as end:
        require(end.code == 0, said.getvalue().strip().split("\n")[-1])


def _check_files(words: tuple[str, ...], folder: Path) -> None:
    for word in words:
        if re.fullmatch(r"[\w./-]+\.(txt|yml|toml|py|json)", word):
            _found(word, folder)
