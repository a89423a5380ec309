"""The files for hosted machines call the README's commands and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_container_calls_a_command_of_the_readme() -> None:
    """A development container makes the environment as the README does; its editor uses that environment."""
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    (command,) = (value for key, value in container.items() if key.endswith("Command"))
    assert f"`{command}`" in README
    assert "/.venv/bin/python" in container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]


def test_the_workflow_calls_commands_of_the_readme_on_every_system() -> None:
    """`run` and `test`, with each system's own spelling, on Linux (both processors), macOS and Windows."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/workshop.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    machines = job["strategy"]["matrix"]["include"]
    starts = {machine["system"].split("-")[0]: machine["python"] for machine in machines}
    assert starts == {"ubuntu": "python3", "macos": "python3", "windows": "py"}
    assert len(machines) == 4 and any(machine["system"].endswith("-arm") for machine in machines)
    checkout, *commands = job["steps"]
    assert checkout["uses"].startswith("actions/checkout@")
    assert commands == [{"run": f"${{{{ matrix.python }}}} workshop.py {command}"} for command in ("run", "test")]
    for command in ("python3 workshop.py run", "py workshop.py run", "python3 workshop.py test", "py workshop.py test"):
        assert f"`{command}`" in README
