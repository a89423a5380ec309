"""Hand-made runs of several models for the tests of tables, charts and reports."""

from __future__ import annotations

from typing import Any

from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Row, Run, Serving

SPEEDS = {
    "small": (0.004, 0.001, 1.0),
    "medium": (0.008, 0.002, 4.0),
    "large": (0.020, 0.005, 12.0),
}
BUILDS = (("int4", "cpu"), ("fp32", "cpu"), ("fp16", "gpu"), ("int4", "gpu"))
HOSTILE = '<script>alert("x")</script> | `a` *b* [c](http://evil.example) \x1b[31m\u202e\ud800'
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
FAILURE = "The process ended: out of memory. Choose a smaller variant."


def row(alias: str = "small", **changes: Any) -> Row:
    """A row of a model that answered well: 6 ms to the first token, 1 000 tokens/s, 2 MB."""
    values: dict[str, Any] = {
        "alias": alias,
        "model_id": f"{alias}-int4-cpu:1",
        "device": "cpu",
        "status": "ok",
        "requests_ok": 24,
        "latency_avg": 0.050,
        "first_token_latency_avg": 0.006,
        "decode_tokens_per_sec": 1000.0,
        "precision": "int4",
        "size_mb": 2.0,
    }
    return Row(**{**values, **changes})


def run_of_models(count: int = 6, *, failed: int = 1, rounds: int = 3, answer: str = " word") -> Run:
    """A run of the first `count` of 12 variants; the last `failed` of them could not be served.

    A model's first token takes `SPEEDS[size][0]` seconds, each of 20 more `SPEEDS[size][1]`; the
    warm-up's first token takes three times as long; requests differ by up to 10 %.
    """
    devices = ("cpu",) if count <= 6 else ("cpu", "gpu")
    variants = [_variant(size, *build) for size in SPEEDS for build in BUILDS if build[1] in devices]
    prompts = (Prompt("first", "What is an edge device?"), Prompt("second", "Name two risks."))
    good, bad = variants[: count - failed], variants[count - failed : count]
    return Run(
        run_id="20260101T000000Z",
        started_at="2026-01-01T00:00:00+00:00",
        profile="practice",
        machine={
            "cpu": "Test CPU",
            "versions": {"foundry-local-sdk": "2.2.1"},
            "load_average": None,
        },
        plan={"rounds": rounds, "seed": 20},
        prompts=prompts,
        servings=tuple(
            Serving(each, load_s=0.2, resident_mb=150.0, peak_resident_mb=180.0, registered_providers=PROVIDERS)
            for each in good
        )
        + tuple(Serving(each, status="failed", error=FAILURE) for each in bad),
        completions=tuple(_completions(good, prompts, rounds, answer)),
    )


def _variant(size: str, precision: str, device: str) -> ModelVariant:
    return ModelVariant(
        alias=f"practice-{size}",
        model_id=f"practice-{size}-{precision}-{device}:1",
        device=device,
        precision=precision,
        size_mb=SPEEDS[size][2],
        licence="MIT",
    )


def _completions(
    variants: list[ModelVariant], prompts: tuple[Prompt, ...], rounds: int, answer: str
) -> list[Completion]:
    asked = [(prompts[0], 0)] + [(prompt, turn) for turn in range(1, rounds + 1) for prompt in prompts]
    return [_completion(variant, prompt, turn, answer) for prompt, turn in asked for variant in variants]


def _completion(variant: ModelVariant, prompt: Prompt, turn: int, answer: str) -> Completion:
    first, step, _ = SPEEDS[variant.alias.removeprefix("practice-")]
    slower = 3.0 if turn == 0 else 1.0 + 0.05 * (turn % 3)
    times = [first * slower + step * place for place in range(21)]
    return Completion(
        request_id=f"{variant.model_id}/{prompt.id}/{turn}",
        alias=variant.alias,
        model_id=variant.model_id,
        device=variant.device,
        prompt_id=prompt.id,
        round=turn,
        started_at="2026-01-01T00:00:00+00:00",
        chunks=tuple(Chunk(at_s, "content", answer) for at_s in times),
        end_s=times[-1],
        finish_reason="stop",
        prompt_tokens=12,
        completion_tokens=21,
    )
