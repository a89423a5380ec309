"""Python in documents: whether it compiles, and whether what it names exists. Runs none of it."""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cache
from types import ModuleType

from tests.markdown import PROJECT

OPTIONAL = {"torch", "transformers", "onnxruntime_genai", "distributed"}
"""Packages of extra requirements, which snippets may import though they are not installed here."""

CHECKED = ("workshop_lib", "foundry_local_sdk")
"""Packages whose calls must take their arguments; what others take is theirs to say."""


@cache
def own_modules() -> dict[str, ModuleType]:
    """Modules of the package by their short names; of two with one name the one nearer the top."""
    paths = [path.relative_to(PROJECT).with_suffix("") for path in (PROJECT / "workshop_lib").rglob("*.py")]
    paths.sort(key=lambda path: -len(path.parts))
    return {path.name: importlib.import_module(".".join(path.parts)) for path in paths if path.name[0] != "_"}


def check_snippet(source: str, **known: object) -> None:
    """Raise `ValueError` for code that does not compile, or names what does not exist.

    Imports must work; of the package's own modules every attribute must exist and every call take its arguments.
    `known` are names that the reader has by then: classes stand for their instances.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{error.msg} in line {error.lineno}") from None
    names: dict[str, object] = {**own_modules(), **known}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(_imported(node))
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _resolved(node, names, assigned)
        elif isinstance(node, ast.Call):
            _check_call(node, names, assigned)


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, object]:
    found: dict[str, object] = {}
    for alias in node.names:
        module = alias.name if isinstance(node, ast.Import) else str(node.module)
        if module.split(".")[0] in OPTIONAL:
            continue
        try:
            loaded = importlib.import_module(module)
            if isinstance(node, ast.Import):
                found[alias.asname or module.split(".")[0]] = loaded
            elif hasattr(loaded, alias.name):
                found[alias.asname or alias.name] = getattr(loaded, alias.name)
            else:
                found[alias.asname or alias.name] = importlib.import_module(f"{module}.{alias.name}")
        except ImportError as error:
            raise ValueError(str(error)) from None
    return found


def _resolved(node: ast.expr, names: dict[str, object], assigned: set[str]) -> object | None:
    """The object that a dotted name means; None where only running the code would tell."""
    if isinstance(node, ast.Name):
        return None if node.id in assigned else names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _resolved(node.value, names, assigned)
    if owner is None or not (isinstance(owner, ModuleType) or inspect.isclass(owner)):
        return None
    stated = getattr(owner, "__annotations__", {})  # attributes of instances
    require(hasattr(owner, node.attr) or node.attr in stated, f"{owner.__name__} has no {node.attr}")
    return getattr(owner, node.attr, None)


def _check_call(node: ast.Call, names: dict[str, object], assigned: set[str]) -> None:
    called = _resolved(node.func, names, assigned)
    starred = any(isinstance(each, ast.Starred) for each in node.args) or any(
        each.arg is None for each in node.keywords
    )
    if starred or not callable(called) or not getattr(called, "__module__", "").startswith(CHECKED):
        return
    signature = inspect.signature(called)
    positional = [None] * (len(node.args) + _is_method(called))
    try:
        signature.bind(*positional, **{str(each.arg): None for each in node.keywords})
    except TypeError as error:
        raise ValueError(f"{ast.unparse(node)}: {error}") from None


def _is_method(called: object) -> int:
    """1 for a function that is looked up on its class, whose first parameter is the instance."""
    return int(
        inspect.isfunction(called) and "." in called.__qualname__ and "self" in inspect.signature(called).parameters
    )


def require(condition: bool, complaint: str) -> None:
    """Raise `ValueError` with the complaint unless the condition holds."""
    if not condition:
        raise ValueError(complaint)
