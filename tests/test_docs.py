"""Documents that stay true: links lead somewhere, commands are understood, both shells say the same, snippets work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import shell
from tests.documented_commands import (
    FOUNDRY,
    OUTSIDE,
    OUTSIDE_MODULES,
    SHELLS,
    NotUnderstoodError,
    all_commands,
    check,
    commands_of,
    shell_of,
)
from tests.markdown import PROJECT, Document, code_in, read, read_text, written
from tests.snippets import check_snippet

DOCUMENTS = {path.relative_to(PROJECT).as_posix(): path for path in written()}
PATH = re.compile(r"(?:docs|data|notebooks|samples|tests|workshop_lib|corpus)/[\w./*-]*")
"""Inline code that is a path inside the project: it begins with one of its folders."""

SAME_TASK = {
    ("lsof", "-i", ":5273"): ("Get-NetTCPConnection", "-LocalPort", "5273"),
    ("unset", "FOUNDRY_LOCAL_ENDPOINT"): ("Remove-Item", "Env:FOUNDRY_LOCAL_ENDPOINT"),
}
"""Commands that differ between the shells and do the same."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    """Files, images and anchors that a document links to exist; addresses of the web are not looked up."""
    document = read(DOCUMENTS[name])
    for target, line in document.links():
        if not re.match(r"[a-z]+:", target):
            assert exists(document, target), f"{name}:{line}: {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_in_the_text_exists(name: str) -> None:
    """Code like `data/models.json` or `samples/` names a file or folder of the project."""
    for code, line in read(DOCUMENTS[name]).inline_code():
        if PATH.fullmatch(code):
            found = list(PROJECT.glob(code.rstrip("/"))) + list(DOCUMENTS[name].parent.glob(code.rstrip("/")))
            assert found, f"{name}:{line}: {code}"


def exists(document: Document, target: str) -> bool:
    """Whether a relative link leads to a file or folder of the project, and to an anchor in it."""
    path, _, anchor = target.partition("#")
    file = (document.path.parent / unquote(path)).resolve() if path else document.path
    if not file.exists() or not file.is_relative_to(PROJECT):
        return False
    if not anchor:
        return True
    linked = read(file)
    in_lab = {heading.title.replace(" ", "-") for heading in linked.headings}
    return anchor in (linked.anchors | in_lab if file.suffix == ".ipynb" else linked.anchors)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_is_understood(name: str) -> None:
    """Our own commands parse with the real parsers, files and flags exist, every other program is on the list."""
    for place in commands_of(read(DOCUMENTS[name])):
        check(place)


def test_documents_have_commands() -> None:
    """The check above has something to check: the first commands of the README, in both shells, are found."""
    readme = [place.command.words for place in all_commands() if place.where.startswith("README.md")]
    assert readme.count(("python", "workshop.py", "run")) >= 2
    assert len(all_commands()) > 60


def test_the_lists_of_others_hold_nothing_unused_that_could_hide_a_slip() -> None:
    """Every program on the list of those that are not ours has a reason."""
    assert all(reason for reason in (*OUTSIDE.values(), *OUTSIDE_MODULES.values()))
    assert not {"python", "workshop.py", "foundry"} & OUTSIDE.keys()
    assert "model list" in FOUNDRY


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("python3 workshop.py walk", "has no command"),
        ("python3 workshop.py run --model x --speed 3", "unrecognized arguments: --speed 3"),
        ("python3 workshop.py run --profile cloud", "invalid choice: 'cloud'"),
        ("python3 workshop.py run --rounds many", "invalid int value: 'many'"),
        (".venv/bin/python -m workshop_lib compare", "required: first"),
        (".venv/bin/python samples/session03/benchmark_oss_models.py --rounds 0", "--rounds is '0'"),
        (".venv/bin/python samples/session03/benchmark_oss_models.py --speed 3", "nrecognized arguments"),
        (".venv/bin/python samples/no_such_script.py", "no file samples/no_such_script.py"),
        (".venv/bin/python samples/practice_models/train.py --speed 3", "train.py has no flag --speed"),
        (".venv/bin/python -m no_such_module", "no module no_such_module"),
        ('.venv/bin/python -c "from workshop_lib import no_such_module"', "no_such_module"),
        ("BENCH_SPEED=3 python3 workshop.py run", "no known variable BENCH_SPEED"),
        ("foundry model lists", "no CLI command"),
        ("pip install -r no-such-file.txt", "no file no-such-file.txt"),
        ("make benchmark", "no known program 'make'"),
    ],
)
def test_a_command_that_would_not_work_is_found(text: str, complaint: str) -> None:
    """A wrong command, flag, value, file, module, variable or program fails with its place."""
    document = read_text(PROJECT / "README.md", f"Before.\n\n```bash\n{text}\n```\n")
    (place,) = commands_of(document)
    with pytest.raises(NotUnderstoodError, match=rf"README\.md:4: .*{re.escape(complaint)}"):
        check(place)


def test_a_block_without_a_language_holds_commands() -> None:
    """So that none escapes: what is no command needs `text`, and a language that nobody knows is refused."""
    (place,) = commands_of(read_text(PROJECT / "README.md", "```\nmake\n```"))
    assert place.command.words == ("make",)
    assert list(commands_of(read_text(PROJECT / "README.md", "```text\nmake\n```"))) == []
    with pytest.raises(NotUnderstoodError, match=r"README\.md:2: a block of language 'shell'"):
        list(commands_of(read_text(PROJECT / "README.md", "```shell\nmake\n```")))


def test_documented_help_is_there() -> None:
    """Commands that cost nothing, those that only explain themselves, are run as they stand."""
    own = (place.command.words for place in all_commands() if place.command.words[-1] == "--help")
    helps = {words for words in own if "python" in words[0]}
    assert ("python", "workshop.py", "--help") in helps
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for words in helps:
        command = [sys.executable, *words[1:]]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert b"--" in done.stdout


@pytest.mark.parametrize("name", DOCUMENTS)
def test_both_shells_say_the_same(name: str) -> None:
    """In a row of a table, and in blocks that follow each other, both do the same with the same values."""
    for line, bash, powershell in twins(read(DOCUMENTS[name])):
        assert meaning(shell.bash(bash)) == meaning(shell.powershell(powershell)), f"{name}:{line}"


def twins(document: Document) -> list[tuple[int, str, str]]:
    """Texts for the two shells that stand side by side, with their line."""
    found = []
    for row in document.rows:
        cells = {name: cell for heading, cell in row.cells.items() if (name := shell_of(heading))}
        if cells.keys() == SHELLS.keys():
            found += [(row.line, *pair) for pair in zip(*(code_in(cells[name]) for name in SHELLS), strict=True)]
    for first, second in zip(document.fences, document.fences[1:], strict=False):
        if (first.language, second.language) == ("bash", "powershell"):
            found.append((first.line, first.text, second.text))
    return found


def meaning(commands: list[shell.Command]) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """Words and variables; folders outside of the project count by their last part."""
    variables = {name: value for each in commands for name, value in each.variables.items()}
    shortened = {name: re.sub(r"^([A-Z]:)?/(?!/).*/?(?=\w+$)", "", value) for name, value in variables.items()}
    return [SAME_TASK.get(command.words, command.words) for command in commands], shortened


def test_every_document_for_people_has_both_shells() -> None:
    """README and troubleshooting name each of our commands for bash and for PowerShell."""
    for name in ("README.md", "docs/TROUBLESHOOTING.md"):
        document = read(DOCUMENTS[name])
        assert twins(document), name
        for fence in document.fences:
            assert "workshop.py" not in fence.text or "apt install" in fence.text or fence.language == "text", name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_python_snippet_works(name: str) -> None:
    """Snippets compile, their imports exist, and calls of the package take the arguments given."""
    document = read(DOCUMENTS[name])
    for fence in document.fences:
        if fence.language == "python":
            try:
                check_snippet(fence.text)
            except ValueError as error:
                pytest.fail(f"{name}:{fence.line}: {error}")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("for", "invalid syntax"),
        ("import no_such_package", "no_such_package"),
        ("from workshop_lib import timing\ntiming.no_such_metric", "has no no_such_metric"),
        ("from workshop_lib.plan import no_such_name", "no_such_name"),
        ("profiles.open_runtime(speed=3)", "unexpected keyword argument 'speed'"),
        ("profiles.Runtime.fetch", "has no fetch"),
    ],
)
def test_a_snippet_that_would_not_work_is_found(source: str, complaint: str) -> None:
    """Wrong syntax, packages, names and arguments are each found."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        check_snippet(source)


# -- the reading of commands itself


@pytest.mark.parametrize(
    ("bash", "powershell"),
    [
        ("python3 workshop.py run", "py workshop.py run"),
        ("python3.12 workshop.py run", "py -3.12 workshop.py run"),
        (".venv/bin/python -m workshop_lib", r".venv\Scripts\python -m workshop_lib"),
        ("A=x BENCH_ROUNDS=3 python3 a.py", "$env:A='x'; $env:BENCH_ROUNDS = \"3\"; py a.py"),
        ("for size in a b; do\n  x --size $size\ndone", 'foreach ($size in "a", "b") {\n  x --size $size\n}'),
        ("x a \\\n  b  # why", "x a `\n  b  # why"),
        ("x 'two words'; y && z", 'x "two words"; y; z'),
    ],
)
def test_the_same_command_reads_the_same_from_both_shells(bash: str, powershell: str) -> None:
    """Variables, loops, continued lines, comments, quotes and Python's names come out alike."""
    assert meaning(shell.bash(bash)) == meaning(shell.powershell(powershell))
    assert shell.bash(bash)


@given(st.lists(st.text("abcxyz-./=019", min_size=1), min_size=1).filter(lambda words: "=" not in words[0]))
def test_plain_words_survive_both_shells(words: list[str]) -> None:
    """Words without special characters are the same words in either shell."""
    line = f"program {' '.join(words)}"
    assert shell.bash(line) == shell.powershell(line) == [shell.Command(("program", *words))]


def test_the_parts_of_a_document_are_found(tmp_path: Path) -> None:
    """Headings and anchors, blocks with their lines, rows by column, links, and nothing of what stands in a block."""
    text = "# A `b` c?\n\n[x](a.md#b) ![y](i.png)\n\n| p | q |\n|---|---|\n| `a \\| b` | 2 |\n\n```bash\n# no\nrun\n```"
    text += "\n# A b c"
    document = read_text(PROJECT / "x.md", text)
    assert document.anchors == {"a-b-c", "a-b-c-1"}
    assert list(document.links()) == [("a.md#b", 3), ("i.png", 3)]
    assert [(row.cells, row.line) for row in document.rows] == [({"p": "`a | b`", "q": "2"}, 7)]
    assert [(fence.language, fence.text, fence.line) for fence in document.fences] == [("bash", "# no\nrun", 10)]
    assert [heading.line for heading in document.headings] == [1, 13]
    with pytest.raises(ValueError, match="not closed"):
        read_text(tmp_path / "x.md", "```bash\nrun")
