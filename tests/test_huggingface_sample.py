"""The starter project: what it asks for, what it says of each mistake, and that its finished form really works."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import run
from workshop_lib import data
from workshop_lib.errors import ConfigurationError
from workshop_lib.models import registry

PROJECT = Path(__file__).resolve().parents[1]
SAMPLE = PROJECT / "samples" / "03-huggingface-models"
README = (SAMPLE / "README.md").read_text(encoding="utf-8")
MODULES = ("facts", "cards", "steps", "check", "walk")


@pytest.fixture(scope="module")
def sample() -> Iterator[dict[str, ModuleType]]:
    """The sample's modules, as a person's Python finds them in their folder."""
    sys.path.insert(0, str(SAMPLE))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(SAMPLE))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def finished(sample) -> ModuleType:
    return sample["steps"].load("finished")


@pytest.fixture(scope="module")
def shape(sample, finished):
    return finished.read_shape(sample["facts"].SNAPSHOT)


def test_the_finished_form_passes_every_step(sample):
    """Nine steps, all right, each with a sentence about what it found."""
    findings = sample["check"].check("finished")
    assert [finding.step for finding in findings] == list(sample["steps"].STEPS)
    assert [(finding.status, finding.to_do) for finding in findings] == [("right", "")] * 9
    assert all(finding.seen for finding in findings)


def test_the_starter_asks_for_every_step_and_names_the_next_line(sample):
    """No step is written, none crashes, and each says what to write; the line is one of the finished form."""
    findings = sample["check"].check("starter")
    assert {finding.status for finding in findings} == {"to do"}
    solution = (SAMPLE / "finished" / "candidate.py").read_text(encoding="utf-8")
    for finding in findings:
        line = re.search(r"`(.+?)`", finding.to_do)
        assert line, finding
        assert line.group(1).split(" = ")[-1].split(",")[0] in solution, finding


def test_both_forms_have_the_same_steps():
    """Names, arguments and first sentences are the same, so that the solution fits the question."""

    def steps_of(form: str) -> dict[str, tuple[str, str | None]]:
        tree = ast.parse((SAMPLE / form / "candidate.py").read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        return {each.name: (ast.unparse(each.args), ast.get_docstring(each)) for each in functions}

    assert steps_of("starter") == steps_of("finished")
    assert len(steps_of("starter")) == 9


MISTAKES: dict[str, tuple[str, Callable[..., object], str]] = {
    "a text for a card": ("read_card", lambda snapshot: "mit", "Return the whole card"),
    "no biases for Qwen2": ("count_parameters", lambda shape: 1_391_040, "1391040 came, 2200 was expected"),
    "bytes for megabytes": ("estimate_mb", lambda shape, precision: (5_564_160, 7_137_024), "both by a million"),
    "never an objection": ("objections", lambda card, shape, size_mb, limits: [], "One reason each"),
    "a text for a command": ("builder_command", lambda *_, **__: "python -m builder", "Begin with this Python"),
    "not registered": ("register_converted", lambda folder, **_: None, "Pass folder, alias, licence"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_diagnosed_at_its_step_alone(sample, finished, monkeypatch, name):
    """The step with the mistake is wrong, with what came and what to mend; every other stays right."""
    step, wrong, said = MISTAKES[name]
    broken = sample["steps"].load("finished")
    monkeypatch.setattr(broken, step, wrong)
    monkeypatch.setattr(sample["steps"], "load", lambda form: broken if form == "starter" else finished)
    findings = {finding.step: finding for finding in sample["check"].check("starter")}
    assert [each for each, finding in findings.items() if finding.status != "right"] == [step]
    assert said in str(findings[step])
    assert findings[step].to_do


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def read_card(:\n", "cannot be imported"),
        ("import no_such_module\n", "cannot be imported"),
        ("", "no function"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(sample, tmp_path, monkeypatch, content, said):
    """A slip of the keyboard is one clear error with the file, no traceback."""
    (tmp_path / "starter").mkdir()
    (tmp_path / "starter" / "candidate.py").write_text(content)
    monkeypatch.setattr(sample["steps"], "HERE", tmp_path)
    for form, expected in (("starter", said), ("other", "There is no form 'other'")):
        with pytest.raises(ConfigurationError, match=expected):
            sample["steps"].load(form)


@pytest.mark.parametrize("alias", ["practice-small", "practice-medium", "practice-large"])
def test_the_formula_counts_the_weights_of_every_shipped_model(sample, finished, shape, alias):
    """The counts are those of the training, from the layers and sizes in the shipped model card."""
    card = (data.DATA_FOLDER / "practice_models" / "README.md").read_text(encoding="utf-8")
    column = ["practice-small", "practice-medium", "practice-large"].index(alias)
    row = re.search(r"\| layers . hidden size \(feed-forward\) \|(.*)\|", card).group(1).split("|")[column]
    layers, hidden, feed_forward = map(int, re.findall(r"\d+", row))
    row = re.search(r"\| attention heads \(key-value heads\) \|(.*)\|", card).group(1).split("|")[column]
    heads, kv_heads = map(int, re.findall(r"\d+", row))
    values = {name: getattr(shape, name) for name in type(shape).__slots__}
    changes = {"layers": layers, "hidden": hidden, "feed_forward": feed_forward, "heads": heads, "kv_heads": kv_heads}
    this = type(shape)(**{**values, **changes, "head_size": hidden // heads})
    index = data.read_practice_index()
    (model,) = [each for each in index.models if each.alias == alias]
    assert finished.count_parameters(this) == model.parameters


def test_the_figures_of_the_readme_are_those_of_the_shipped_folders(sample):
    """Estimate, real size and error of each line are computed again."""
    index = data.read_practice_index()
    for model in index.models:
        cells = []
        for precision in ("int4", "fp32"):
            (variant,) = [each for each in model.variants if each.folder.endswith(f"{precision}-generic-cpu")]
            estimate_mb = model.parameters * sample["facts"].BITS[precision] / 8 / 1e6
            real_mb = sample["steps"].folder_mb(data.DATA_FOLDER / "practice_models" / variant.folder)
            assert real_mb == variant.size_mb
            cells += [f"{estimate_mb:.2f}", f"{real_mb:.2f}", f"{100 * (estimate_mb / real_mb - 1):+.0f} %"]
        assert f"| {model.alias} | {' | '.join(cells)} |" in README


def builder_parser() -> argparse.ArgumentParser:
    """The builder's own options, read from its source: importing it would need torch."""
    source = Path(find_spec("onnxruntime_genai").origin).parent / "models" / "builder.py"
    parser = argparse.ArgumentParser(exit_on_error=False)
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            flags = [each.value for each in node.args if isinstance(each, ast.Constant)]
            options = {
                each.arg: ast.literal_eval(each.value)
                for each in node.keywords
                if each.arg in {"required", "choices", "nargs", "action"}
            }
            parser.add_argument(*flags, **options)
    return parser


@pytest.mark.skipif(find_spec("onnxruntime_genai") is None, reason="no wheel of onnxruntime-genai for this machine")
def test_the_builder_knows_every_option_of_the_command(finished, tmp_path):
    """The command of step 6 is parsed by the builder's own options; one that it does not know is refused."""
    command = finished.builder_command(tmp_path / "a download", tmp_path / "out", precision="fp16", provider="cuda")
    parsed = builder_parser().parse_args(command[3:])
    assert (parsed.input, parsed.output) == (str(tmp_path / "a download"), str(tmp_path / "out"))
    assert (parsed.precision, parsed.execution_provider) == ("fp16", "cuda")
    assert Path(parsed.cache_dir).parent == tmp_path
    for wrong in ({"precision": "int5"}, {"provider": "abacus"}):
        with pytest.raises(argparse.ArgumentError):
            builder_parser().parse_args(finished.builder_command(tmp_path, tmp_path / "out", **wrong)[3:])


def test_the_readme_converts_with_the_versions_that_read_it_here():
    """Whoever follows it writes folders with the workshop's own onnx, onnxruntime and onnxruntime-genai."""
    known = dict(re.findall(r"^([\w-]+)==([\d.]+)", (PROJECT / "requirements.txt").read_text(), re.M))
    named = dict(re.findall(r"([\w-]+)==([\d.]+)", README))
    assert set(named) == {"onnxruntime-genai", "onnx", "onnx-ir", "onnxruntime", "torch", "transformers"}
    assert {name: named[name] for name in named.keys() & known} == {
        name: known[name] for name in ("onnxruntime-genai", "onnx", "onnxruntime")
    }


def test_a_gguf_file_is_imported_as_the_readme_says(tmp_path, monkeypatch, capsys):
    """The three lines of Python register a model that answers, with nothing rounded."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    for folder in ("data/practice_models", "samples/mine"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(PROJECT / "data/practice_models/practice-small.gguf", tmp_path / "data/practice_models")
    monkeypatch.chdir(tmp_path / "samples" / "mine")
    exec(code, {})
    assert capsys.readouterr().out == "my-candidate-folder-cpu:1: 26 of 26 tensors kept exactly\n"
    (model,) = registry.read()
    assert (model.precision, model.licence, model.device) == ("exact4", "MIT", "cpu")


def test_the_commands_of_the_readme_run():
    """Each command of the table starts what it says, in this folder."""
    commands = re.findall(r"`\.\./\.\./\.venv/bin/python ([\w.]+) (\w+)`", README)
    assert commands == [("check.py", "starter"), ("walk.py", "starter"), ("walk.py", "finished")]
    done = run(SAMPLE / "check.py", "starter", folder=SAMPLE)
    assert (done.returncode, done.stderr) == (1, "")
    assert len(done.stdout.splitlines()) == 9
    unwritten = run(SAMPLE / "walk.py", "starter", folder=SAMPLE)
    assert unwritten.returncode == 1
    assert unwritten.stderr.startswith("read_card is not written yet. Write next: ")


def test_the_finished_walk_ends_in_a_measurement(tmp_path):
    """From the snapshot to a row: the last command that it prints measures the registered model on the real runtime."""
    walked = run(SAMPLE / "walk.py", "finished", folder=tmp_path, WORKSHOP_CACHE_DIR=str(tmp_path / "cache"))
    assert (walked.returncode, walked.stderr) == (0, "")
    lines = walked.stdout.splitlines()
    assert [line[0] for line in lines] == ["1", "2", "3", "4", "5", "6", " ", "7", "8", "9"]
    assert "has no weights" in lines[6] and "8 Registered as my-candidate" in lines[8]
    if sys.platform == "win32":
        return
    command = shlex.split(lines[9].split(": ", 1)[1])
    measured = run(Path(command[1]), *command[2:], folder=tmp_path, WORKSHOP_CACHE_DIR=str(tmp_path / "cache"),
                   BENCH_ROUNDS="1", BENCH_PROMPT="What is edge AI?", BENCH_OUTPUT=str(tmp_path / "run"))  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    row = next(row for row in json.loads(measured.stdout) if row["device"] == "cpu")
    assert (row["alias"], row["status"], row["requests_ok"]) == ("my-candidate", "ok", 1)
    assert (row["precision"], row["licence"]) == ("int4", "mit")


def test_a_candidate_that_breaks_a_limit_goes_no_further(tmp_path):
    """It is out with the reason, and nothing is registered."""
    done = run(SAMPLE / "walk.py", "finished", "--max-size-mb", "0.5", WORKSHOP_CACHE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "The candidate is out: size: 0.87 MB, allowed are 0.50." in done.stderr
    assert list(tmp_path.iterdir()) == []
