"""Command lines as people write them, in bash and in PowerShell → the same words for the same command. Runs nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_POWERSHELL_ASSIGNMENT = re.compile(r"\$env:(\w+)\s*=\s*(.*)")
_POWERSHELL_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")
_POWERSHELL_LOOP = re.compile(r"foreach \(\$(\w+) in (.+)\) \{")
_SEPARATORS = {";", "&&", "||", "|", "&"}


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, and the variables set for it. Paths have slashes, Python is called `python`."""

    words: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)


def bash(text: str) -> list[Command]:
    """The commands of a bash text; a loop is a command `for NAME VALUES`, its end is left out."""
    commands = []
    for words in _bash_statements(text):
        body = words[1:] if words[0] == "do" else words
        variables = {}
        while body and (found := _ASSIGNMENT.fullmatch(body[0])):
            variables[found[1]] = _path(found[2])
            body = body[1:]
        if body[:1] == ["for"]:
            commands.append(Command(("for", body[1], *body[3:])))
        elif body and body != ["done"]:
            commands.append(Command(_words(body), variables))
    return commands


def powershell(text: str) -> list[Command]:
    """The commands of a PowerShell text; variables hold from their line on."""
    commands, variables = [], {}
    for statement in _powershell_statements(text):
        if found := _POWERSHELL_ASSIGNMENT.fullmatch(statement):
            variables[found[1]] = _path(_unquoted(found[2]))
        elif found := _POWERSHELL_LOOP.fullmatch(statement):
            values = (_unquoted(value.strip()) for value in found[2].split(","))
            commands.append(Command(("for", found[1], *values)))
        elif statement not in {"", "}"}:
            words = [_unquoted(word) for word in _POWERSHELL_WORD.findall(statement.removeprefix("& "))]
            commands.append(Command(_words(words), dict(variables)))
    return commands


def _bash_statements(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").split("\n"):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in (*lexer, ";"):
            if word not in _SEPARATORS:
                words.append(word)
            elif words:
                yield words
                words = []


def _powershell_statements(text: str) -> Iterator[str]:
    for line in text.replace("`\n", " ").split("\n"):
        bare = re.sub(r"(^|\s)#.*", "", line)
        yield from (part.strip() for part in re.split(r""";(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""", bare))


def _unquoted(word: str) -> str:
    return re.sub(r"""'([^']*)'|"([^"]*)\"""", lambda found: found[1] or found[2] or "", word)


def _words(words: list[str]) -> tuple[str, ...]:
    """The same words on every system: `py -3.12` is `python3.12`, `.venv\\Scripts\\python` is `.venv/bin/python`."""
    first, *rest = words
    if first == "py" and rest and re.fullmatch(r"-3\.\d+", rest[0]):
        first, rest = f"python{rest[0][1:]}", rest[1:]
    elif first in {"py", "python3"}:
        first = "python"
    program = _path(first).replace("/Scripts/", "/bin/").removesuffix(".exe")
    return (program, *(word if " " in word else _path(word) for word in rest))


def _path(word: str) -> str:
    return word.replace("\\", "/")
