"""Documents that stay true and short: links lead somewhere, commands and names exist, both shells say the same."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import re
import runpy
import shlex
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest

import workshop_lib as ws
from tests.markdown import PROJECT, Document, code_in, plain, read, written
from tools import reference
from workshop_lib import __main__ as command_line
from workshop_lib import records, settings
from workshop_lib.errors import ConfigurationError
from workshop_lib.runtimes.profiles import Runtime, ServedModel

DOCUMENTS = {path.relative_to(PROJECT).as_posix(): read(path) for path in written()}
CHEATSHEET, GLOSSARY, FEATURES = (DOCUMENTS[f"docs/{name}.md"] for name in ("CHEATSHEET", "GLOSSARY", "FEATURES"))
PATH = re.compile(r"(?:docs|data|notebooks|samples|tests|workshop_lib|corpus)/[\w./*-]*")
COMMAND = re.compile(r"(?:python3?|py|python)(?:\.exe)? (workshop\.py|-m workshop_lib|[\w./-]+\.py)\b *(.*)")
CHECKS = {"lint", "types", "tests", "alone", "coverage", "--list"}
PRIVATE = re.compile(r"/home/(?!ada)\w|/root\b|/Users/\w|\b(?:sk|hf|ghp)[-_]\w{16}")


@pytest.mark.parametrize(("name", "most"), [("README.md", 700), ("DESIGN.md", 1200), ("CONTRIBUTING.md", 400)])
def test_a_document_for_everybody_is_short(name: str, most: int) -> None:
    """What everybody reads first has a limit of words."""
    assert len(DOCUMENTS[name].text.split()) <= most


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_link_and_path_leads_somewhere(document: Document) -> None:
    """Files, images and anchors exist, and code like `data/models.json` names a file; the web is not looked up."""
    targets = [target for target in document.links if not re.match(r"[a-z]+:", target)]
    assert [target for target in targets if not exists(document, target)] == []
    places = [code.rstrip("/") for code in document.code if PATH.fullmatch(code)]
    assert [place for place in places if not [*PROJECT.glob(place), *document.path.parent.glob(place)]] == []
    assert not PRIVATE.search(document.text)


def exists(document: Document, target: str) -> bool:
    """Whether a relative link leads to a file or folder of the project, and to an anchor in it."""
    path, _, anchor = target.partition("#")
    file = (document.path.parent / unquote(path)).resolve() if path else document.path
    if not file.exists() or not file.is_relative_to(PROJECT):
        return False
    linked = read(file) if anchor else document
    in_lab = {title.replace(" ", "-") for title in linked.titles} if file.suffix == ".ipynb" else set()
    return not anchor or anchor in linked.anchors | in_lab


# -- commands


def own_commands(text: str) -> list[tuple[str, list[str]]]:
    """Our commands in a text of either shell, as program and arguments; slashes and Python's names come out alike."""
    joined = re.sub(r"\s*[\\`]\n\s*", " ", text)
    found = (COMMAND.search(line.replace("\\", "/")) for line in re.split(r"\n|;|&&", joined))
    return [(each[1], shlex.split(re.sub(r" +#.*", "", each[2]))) for each in found if each]


def check(document: Document, program: str, arguments: list[str]) -> None:
    """Raise for a command whose file, flag or value does not exist."""
    if program == "workshop.py" and arguments[0] == "test":
        assert {*arguments[1:]} <= {*CHECKS, "…"}
    elif program in ("workshop.py", "-m workshop_lib") and arguments != ["--help"]:
        known = runpy.run_path(str(PROJECT / "workshop.py"))["COMMANDS"]
        assert program != "workshop.py" or arguments[0] in known
        parser = command_line._parser() if arguments[0] != "reference" else reference.parser()
        alone = arguments if len(arguments) > 1 else [arguments[0], "--help"]  # prose calls a command by its name
        parsed(parser, alone if arguments[0] != "reference" else alone[1:])
    elif program.endswith(".py"):
        file = next((root / program for root in (document.path.parent, PROJECT) if (root / program).is_file()), None)
        assert file or program == "workshop.py", program
        if file and file.name == "benchmark_oss_models.py" and "--help" not in arguments:
            settings.parse(arguments, {})


def parsed(parser: Any, arguments: list[str]) -> None:
    """Raise `ConfigurationError` with argparse's own words for arguments that it does not take."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(arguments)
    except SystemExit as end:
        if end.code:
            raise ConfigurationError(said.getvalue().strip().split("\n")[-1], "Correct the document.") from None


def shown_in(document: Document) -> list[str]:
    """The pieces of a document that may hold commands."""
    return [fence.text for fence in document.fences if fence.language in ("", "bash", "powershell")] + document.code


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_command_of_ours_is_understood_and_both_shells_say_the_same(document: Document) -> None:
    """Our own commands parse with the real parsers; beside bash, PowerShell does the same with the same values."""
    for text in shown_in(document):
        for program, arguments in own_commands(text):
            check(document, program, arguments)
    for bash, powershell in twins(document):
        assert own_commands(bash) == own_commands(powershell)


def twins(document: Document) -> list[tuple[str, str]]:
    """Texts for the two shells that stand side by side, in a row or in blocks that follow each other."""
    found = []
    for row in document.rows:
        cells = {
            shell: cell for heading, cell in row.items() for shell in re.findall("bash|powershell", heading.lower())
        }
        if len(cells) == 2:
            found.append(("\n".join(code_in(cells["bash"])), "\n".join(code_in(cells["powershell"]))))
    for first, second in zip(document.fences, document.fences[1:], strict=False):
        if (first.language, second.language) == ("bash", "powershell"):
            found.append((first.text, second.text))
    return found


# -- names


def check_snippet(source: str, **known: object) -> None:
    """Raise for code that does not compile or import, or that names an attribute which a module or class lacks."""
    tree, names = ast.parse(source), {"ws": ws, **known}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                module = alias.name if isinstance(node, ast.Import) else str(node.module)
                if module.split(".")[0] in ("workshop_lib", "foundry_local_sdk"):
                    loaded = importlib.import_module(module)
                    names[alias.asname or alias.name] = (
                        loaded if isinstance(node, ast.Import) else getattr(loaded, alias.name)
                    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolved(node, names)


def resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """The object that a dotted name means; None where only running the code would tell."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    owner = resolved(node.value, names) if isinstance(node, ast.Attribute) else None
    if not (isinstance(owner, ModuleType) or inspect.isclass(owner)):
        return None
    stated = node.attr in getattr(owner, "__annotations__", {})  # an attribute of instances
    return None if stated else getattr(owner, node.attr)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_python_snippet_has_names_that_exist(document: Document) -> None:
    """Snippets compile, and what they import of the package is there."""
    for fence in document.fences:
        if fence.language == "python":
            check_snippet(fence.text)


def test_the_cheat_sheet_names_what_exists() -> None:
    """Names of the library and of the SDK resolve; a wrong one is found."""
    library = {"runtime": Runtime, "served": ServedModel, "variant": records.ModelVariant}
    for row in CHEATSHEET.rows:
        for code in code_in(row.get("this library", "")):
            check_snippet(code, **library)
    sdk = pytest.importorskip("foundry_local_sdk", reason="there is no SDK for this platform")
    for row in CHEATSHEET.rows:
        for code in code_in(row.get("SDK", "")):
            check_snippet(code.replace("manager.catalog", "catalog").replace("manager.urls", "None"),
                          manager=sdk.FoundryLocalManager, catalog=sdk.Catalog, model=sdk.IModel)  # fmt: skip
    for wrong in ("runtime.fetch()", "ws.tables.no_such_table([variant])", "from workshop_lib.plan import no_such"):
        with pytest.raises(AttributeError):
            check_snippet(wrong, **library)


def test_the_glossary_is_in_order_and_says_where_a_term_is_used() -> None:
    """Each term once; every place exists and holds the term, by one of its names, in words or as part of a name."""
    names = [plain(row["term"]).casefold() for row in GLOSSARY.rows]
    assert names == sorted({*names})
    for row in GLOSSARY.rows:
        places = Document(GLOSSARY.path, row["used in"]).links
        assert places
        for place in places:
            text = simple((GLOSSARY.path.parent / place).resolve().read_text(encoding="utf-8"))
            called = [part for part in re.split(r"[(),]", plain(row["term"])) if part.strip()]
            assert any(simple(each).strip() in text for each in called), (row["term"], place)


def simple(text: str) -> str:
    """Without case, underscores and hyphens, on one line: `first_token` is `First token`."""
    return re.sub(r"[\s_\-]+", " ", text.casefold())


def test_every_feature_is_there_and_says_where_it_is_seen_lies_and_is_tested() -> None:
    """The specification has 32 features; that the named files exist is tested above."""
    features = {title: each for title, each in FEATURES.sections(3).items() if re.match(r"\d+\. ", title)}
    assert [int(title.split(".")[0]) for title in features] == list(range(1, 33))
    for section in features.values():
        assert {"See it", "In", "Tests"} <= {*re.findall(r"^- \*\*(.+?):\*\* ", section.text, re.M)}
