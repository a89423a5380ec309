"""One set of pins: requirements.txt satisfies pyproject.toml, and conda installs the same file."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
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
    "sklearn": "scikit-learn",
}
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


def wanted() -> list[Requirement]:
    """What the project and its tests ask for."""
    table = project()
    return [Requirement(line) for line in table["project"]["dependencies"] + table["dependency-groups"]["test"]]


def extra() -> list[Requirement]:
    """What a fleet asks for besides."""
    return [Requirement(line) for line in project()["project"]["optional-dependencies"]["fleet"]]


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


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-fleet.txt"])
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
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(here):
            (version,) = pin.specifier
            found.setdefault(canonicalize_name(pin.name), []).append(version.version)
    assert all(len(versions) == 1 for versions in found.values())
    for need in wanted():
        if need.marker is None or need.marker.evaluate(here):
            assert need.specifier.contains(found[canonicalize_name(need.name)][0]), str(need)


def test_the_extra_adds_to_the_pins_and_changes_none() -> None:
    """Installing requirements-fleet.txt brings what the extra asks for, and leaves every version of the workshop."""
    usual = {canonicalize_name(pin.name): pin.specifier for pin in pins()}
    added = {canonicalize_name(pin.name): pin.specifier for pin in pins("requirements-fleet.txt")}
    assert {name: usual[name] for name in added if name in usual} == {
        name: added[name] for name in added if name in usual
    }
    for need in extra():
        (version,) = added[canonicalize_name(need.name)]
        assert need.specifier.contains(version.version) and canonicalize_name(need.name) not in usual


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda each: "-".join(each.values()))
def test_the_runtime_is_asked_for_only_where_it_exists(platform: dict[str, str]) -> None:
    """foundry-local-sdk has no wheels for Linux on ARM and for Macs with Intel processors."""
    (sdk,) = [need for need in wanted() if need.name == "foundry-local-sdk"]
    assert sdk.marker is not None
    exists = (platform["sys_platform"], platform["platform_machine"]) not in (
        ("linux", "aarch64"),
        ("darwin", "x86_64"),
    )
    assert sdk.marker.evaluate(environment(platform, "3.12")) is exists


def test_every_import_is_a_declared_dependency() -> None:
    """The package imports nothing that merely happens to be installed."""
    declared = {canonicalize_name(need.name) for need in (*wanted(), *extra())}
    for file in (ROOT / "workshop_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for top in {name.split(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top != "workshop_lib":
                    assert canonicalize_name(IMPORT_NAMES.get(top, top)) in declared, file.name


def test_every_dependency_has_its_reason() -> None:
    """A line of pyproject.toml that adds a dependency says what for."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for need in (*wanted(), *extra()):
        if need.name != "foundry-local-sdk":  # its reason stands above its long line
            assert re.search(rf'^ +"{need.name}[^"]*", +# \w', text, re.MULTILINE), need.name


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
