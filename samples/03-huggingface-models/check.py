"""Check the steps of a form, one line each: what came, what was expected, what to write or mend.

    python check.py starter
    python check.py finished

Each step is checked by itself: what it is given comes from the finished form, so that one fault is told once. The exit
code is 0 when every step is right. Nothing is registered outside a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from unittest import mock

import facts
import steps
from facts import ALIAS, CONVERTED, SNAPSHOT, Limits, Shape, TodoError

import workshop_lib as ws

TRUE_PARAMETERS = 1_391_040
"""Of practice-medium, counted when it was trained."""

LLAMA = Shape("LlamaForCausalLM", 100, 8, 16, 1, 2, 1, 4, 64, is_tied=False)
"""Small enough to count by hand: 1600 embeddings, 192 + 384 + 16 in its layer, 8 in the last norm."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one step came out, and what to do; `to_do` is empty when it is right."""

    step: str
    status: str
    seen: str
    to_do: str = ""

    def __str__(self) -> str:
        return f"{self.step}: {self.status}. {self.seen} {self.to_do}".rstrip()


class UnexpectedError(Exception):
    """A step gave something else than it should: what came, what was expected, where to look."""

    def __init__(self, came: object, expected: object, hint: str) -> None:
        super().__init__(f"{came!r} came, {expected!r} was expected.", hint)


def expect(came: object, expected: object, hint: str) -> None:
    """Raise `UnexpectedError` unless both are equal."""
    if came != expected:
        raise UnexpectedError(came, expected, hint)


def check(form: str) -> list[Finding]:
    """Check every step of a form.

    Raises:
        ConfigurationError: the form cannot be imported.
    """
    candidate, given = steps.load(form), steps.load("finished")
    return [_finding(step, look, candidate, given) for step, look in CHECKS.items()]


def _finding(
    step: str, look: Callable[[ModuleType, ModuleType], str], candidate: ModuleType, given: ModuleType
) -> Finding:
    try:
        return Finding(step, "right", look(candidate, given))
    except TodoError as error:
        return Finding(step, "to do", "", error.fix)
    except UnexpectedError as error:
        return Finding(step, "wrong", *error.args)
    except ws.WorkshopError as error:
        return Finding(step, "wrong", error.what, error.fix)
    except Exception as error:  # noqa: BLE001 - a learner's step may raise anything, and the others are checked all the same
        return Finding(
            step, "wrong", f"It raised {type(error).__name__}: {error}.", "Read the step's first sentence again."
        )


def _card(candidate: ModuleType, given: ModuleType) -> str:
    card = candidate.read_card(SNAPSHOT)
    expect(card, given.read_card(SNAPSHOT), "Return the whole card of `cards.read_card`.")
    return f"Licence {card.licence}, languages {', '.join(card.languages)}, base model: none stated."


def _shape(candidate: ModuleType, given: ModuleType) -> str:
    shape, wanted = candidate.read_shape(SNAPSHOT), given.read_shape(SNAPSHOT)
    for name in Shape.__slots__:
        expect((name, getattr(shape, name, None)), (name, getattr(wanted, name)), "Compare the key with config.json.")
    return f"{shape.architecture}, {shape.layers} layers of {shape.hidden}, {shape.context_tokens} tokens of context."


def _count(candidate: ModuleType, given: ModuleType) -> str:
    shape = given.read_shape(SNAPSHOT)
    hint = "Tied embeddings count once; a layer has attention, biases, three feed-forward matrices and two norms."
    expect(candidate.count_parameters(shape), TRUE_PARAMETERS, hint)
    expect(candidate.count_parameters(LLAMA), 2200, "Llama has no biases, and embeddings that are apart count twice.")
    return f"{TRUE_PARAMETERS} weights, as many as were trained."


def _size(candidate: ModuleType, given: ModuleType) -> str:
    """The count before is the finished one, so that a wrong count is told at its own step."""
    with mock.patch.object(candidate, steps.COUNT, given.count_parameters):
        return _size_alone(candidate, given.read_shape(SNAPSHOT))


def _size_alone(candidate: ModuleType, shape: Shape) -> str:
    hint = "Weights times bits by 8, then the same plus vocabulary times hidden size times 4 bytes; both by a million."
    for precision, wanted in {
        "fp32": (5.56416, 7.137024),
        "fp16": (2.78208, 4.354944),
        "int4": (0.8694, 2.442264),
    }.items():
        came = tuple(round(value, 6) for value in candidate.estimate_mb(shape, precision))
        expect((precision, came), (precision, wanted), hint)
    return "; ".join(_against_the_truth(candidate, shape, precision) for precision in ("int4", "fp32"))


def _against_the_truth(candidate: ModuleType, shape: Shape, precision: str) -> str:
    """The least estimate beside the size of the shipped folder."""
    least_mb = candidate.estimate_mb(shape, precision)[0]
    true_mb = steps.folder_mb(CONVERTED.with_name(CONVERTED.name.replace("int4", precision)))
    return f"{precision} {least_mb:.2f} MB, really {true_mb:.2f} ({100 * (least_mb / true_mb - 1):+.0f} %)"


def _objections(candidate: ModuleType, given: ModuleType) -> str:
    card, shape = given.read_card(SNAPSHOT), given.read_shape(SNAPSHOT)
    expect(candidate.objections(card, shape, 1.0, Limits()), [], "This one breaks no limit: return an empty list.")
    broken = (replace(card, licence=None, languages=()), replace(shape, context_tokens=64), 9.0, Limits())
    reasons = candidate.objections(*broken)
    hint = "One reason each for licence, languages, context and size, in that order; an unknown licence is no licence."
    expect([str(reason).split(":")[0] for reason in reasons], ["licence", "languages", "context", "size"], hint)
    return "None for int4 within 2 MB; a candidate that breaks every limit gets four reasons."


def _builder(candidate: ModuleType, _: ModuleType) -> str:
    command = candidate.builder_command(SNAPSHOT, Path("converted"), precision="int4", provider="cpu")
    expect(command[:3], [sys.executable, "-m", "onnxruntime_genai.models.builder"], "Begin with this Python and -m.")
    options = dict(zip(command[3::2], command[4::2], strict=False))
    hint = "Each option is two entries of the list, the flag and its value as text."
    for flag, value in {"-i": str(SNAPSHOT), "-o": "converted", "-p": "int4", "-e": "cpu"}.items():
        expect((flag, options.get(flag)), (flag, value), hint)
    if "-c" not in options:
        raise UnexpectedError(command, "-c and a folder", "Without -c what is temporary lands where you are.")
    return "The builder's command for int4 on the CPU."


def _examined(candidate: ModuleType, given: ModuleType) -> str:
    report, wanted = candidate.examine_converted(CONVERTED), given.examine_converted(CONVERTED)
    expect(report, wanted, "Return what `ws.try_folder` returns.")
    return f"The runtime loaded it: {report.precision} for {report.execution_provider}."


def _registered(candidate: ModuleType, _: ModuleType) -> str:
    from workshop_lib.models import registry

    with tempfile.TemporaryDirectory() as cache:
        candidate.register_converted(CONVERTED, alias=ALIAS, licence="mit", cache_dir=Path(cache))
        models = registry.read(Path(cache))
    hint = "Pass folder, alias, licence and cache_dir on to `ws.register`."
    expect([(model.alias, model.licence, model.place) for model in models], [(ALIAS, "mit", CONVERTED)], hint)
    return f"Registered as {ALIAS} in a temporary folder, and forgotten again."


def _benchmark(candidate: ModuleType, _: ModuleType) -> str:
    command = candidate.benchmark_command(ALIAS)
    expect(command[0], sys.executable, "Begin with this Python.")
    script = facts.PROJECT / "samples" / "session03" / "benchmark_oss_models.py"
    expect(command[1], str(script), "Give the script's whole path as text.")
    expect(command[2:], ["--models", ALIAS], "Give the alias after --models.")
    return "The full script, for this model."


CHECKS: Mapping[str, Callable[[ModuleType, ModuleType], str]] = {
    steps.CARD: _card,
    steps.SHAPE: _shape,
    steps.COUNT: _count,
    steps.SIZE: _size,
    steps.OBJECTIONS: _objections,
    steps.BUILDER: _builder,
    steps.EXAMINE: _examined,
    steps.REGISTER: _registered,
    steps.BENCHMARK: _benchmark,
}


def main(arguments: list[str]) -> int:
    """Print a line per step; 0 when every one is right, 2 when the form cannot be imported."""
    try:
        findings = check(arguments[0] if arguments else "starter")
    except ws.WorkshopError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(*findings, sep="\n")
    return 0 if all(finding.status == "right" for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
