"""Exact pins that satisfy pyproject.toml; learners install requirements.txt, which holds no test tools."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import workshop_lib

ROOT = Path(__file__).resolve().parents[1]
IMPORT_NAMES = {
    "foundry_local_sdk": "foundry-local-sdk",
    "jupyter_client": "jupyter-client",
    "pynvml": "nvidia-ml-py",
}
FILES = ("requirements.txt", "requirements-test.txt", "requirements-fleet.txt")
PLATFORMS = [
    {"sys_platform": "linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_machine": "arm64"},
    {"sys_platform": "darwin", "platform_machine": "x86_64"},
    {"sys_platform": "win32", "platform_machine": "AMD64"},
    {"sys_platform": "win32", "platform_machine": "ARM64"},
]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def wanted(file: str = "requirements.txt") -> list[Requirement]:
    """What the project asks for; what its tests or a fleet ask for besides."""
    table = project()
    lines = {
        "requirements.txt": table["project"]["dependencies"],
        "requirements-test.txt": table["dependency-groups"]["test"],
        "requirements-fleet.txt": table["project"]["optional-dependencies"]["fleet"],
    }
    return [Requirement(line) for line in lines[file]]


def pins(file: str = "requirements.txt") -> list[Requirement]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def environment(platform: dict[str, str], python: str) -> dict[str, str]:
    names = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
    return {
        **platform,
        "platform_system": names[platform["sys_platform"]],
        "os_name": "nt" if platform["sys_platform"] == "win32" else "posix",
        "python_version": python,
        "python_full_version": f"{python}.5",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def reached(needs: list[Requirement]) -> set[str]:
    """The packages that these need here, and those in turn, as what is installed says."""
    to_do, found = [(need, "") for need in needs], set[tuple[str, str]]()
    while to_do:
        need, of_extra = to_do.pop()
        if need.marker and not need.marker.evaluate({"extra": of_extra}):
            continue
        for extra in ("", *need.extras):
            if (step := (canonicalize_name(need.name), extra)) not in found:
                found.add(step)
                to_do += [(Requirement(line), extra) for line in metadata.requires(need.name) or []]
    return {name for name, _ in found}


@pytest.mark.parametrize("file", FILES)
def test_every_pin_is_exact_and_bare(file: str) -> None:
    """One version each, no addresses, no options: whatever registry the reader has is used."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text, re.MULTILINE)
    for pin in pins(file):
        assert [each.operator for each in pin.specifier] == ["=="], str(pin)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda each: "-".join(each.values()))
def test_the_pins_satisfy_the_project(platform: dict[str, str], python: str) -> None:
    """On every platform and Python, each dependency is pinned once, inside its range."""
    here = environment(platform, python)
    found: dict[str, list[str]] = {}
    for pin in (*pins(), *pins("requirements-test.txt")):
        if pin.marker is None or pin.marker.evaluate(here):
            (version,) = pin.specifier
            found.setdefault(canonicalize_name(pin.name), []).append(version.version)
    assert all(len(versions) == 1 for versions in found.values())
    for need in (*wanted(), *wanted("requirements-test.txt")):
        if need.marker is None or need.marker.evaluate(here):
            assert need.specifier.contains(found[canonicalize_name(need.name)][0]), str(need)


def test_the_extra_adds_to_the_pins_and_changes_none() -> None:
    """Installing requirements-fleet.txt brings what the extra asks for, and leaves what is there already."""
    usual = {canonicalize_name(pin.name): pin.specifier for pin in pins()}
    tools = {canonicalize_name(pin.name): pin.specifier for pin in pins("requirements-test.txt")}
    added = {canonicalize_name(pin.name): pin.specifier for pin in pins("requirements-fleet.txt")}
    assert not usual.keys() & (added.keys() | tools.keys())
    assert {name: tools[name] for name in tools if name in added} == {
        name: added[name] for name in added if name in tools
    }
    for need in wanted("requirements-fleet.txt"):
        (version,) = added[canonicalize_name(need.name)]
        assert need.specifier.contains(version.version)


def test_a_learner_installs_nothing_that_is_not_asked_for() -> None:
    """Each pin for this machine is asked for by the project, directly or not; test tools are in their own file."""
    asked, tools = reached(wanted()), reached(wanted("requirements-test.txt"))
    for file, names in (("requirements.txt", asked), ("requirements-test.txt", tools)):
        here = {canonicalize_name(pin.name) for pin in pins(file) if pin.marker is None or pin.marker.evaluate()}
        assert here <= names, here - names
    assert not asked & {"ruff", "mypy", "playwright", "hypothesis", "scikit-learn"}


def test_every_import_is_a_declared_dependency() -> None:
    """The package imports nothing that merely happens to be installed, nor what only its tests need."""
    declared = {canonicalize_name(need.name) for need in (*wanted(), *wanted("requirements-fleet.txt"))}
    for file in (ROOT / "workshop_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for top in {name.split(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top != "workshop_lib":
                    assert canonicalize_name(IMPORT_NAMES.get(top, top)) in declared, file.name


def test_conda_installs_the_same_file() -> None:
    """environment.yml takes Python from conda-forge and everything else from requirements.txt."""
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert content["channels"][0] == "conda-forge"
    python, pip, packages = content["dependencies"]
    assert python == f"python {project()['project']['requires-python']}"
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.txt"]}


def test_the_version_is_the_packages() -> None:
    """The version is written once, in the package."""
    table = project()
    assert "version" not in table["project"]
    assert table["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "workshop_lib.__version__"}
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert workshop_lib.__version__ in changes
