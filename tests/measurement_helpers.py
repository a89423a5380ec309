"""Hand-made requests and completions for the tests of the measurement core."""

from __future__ import annotations

from typing import Any

from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Request, Run, Serving

VARIANT = ModelVariant(alias="tiny", model_id="tiny:1", device="cpu", precision="int4", size_mb=1.5)


def completion(times: list[float], words: list[str] | None = None, **changes: Any) -> Completion:
    """A successful streamed completion with content chunks at `times` and as many tokens as chunks."""
    texts = words or [" word"] * len(times)
    values: dict[str, Any] = {
        "request_id": "tiny:1/p/1",
        "alias": "tiny",
        "model_id": "tiny:1",
        "device": "cpu",
        "prompt_id": "p",
        "round": 1,
        "started_at": "2026-01-01T00:00:00.000+00:00",
        "chunks": tuple(Chunk(at_s, "content", text) for at_s, text in zip(times, texts, strict=True)),
        "end_s": times[-1] if times else None,
        "finish_reason": "stop",
        "prompt_tokens": 10,
        "completion_tokens": len(times),
    }
    return Completion(**{**values, **changes})


def request(model: str = "steady", *, stream: bool = True, max_tokens: int = 120) -> Request:
    """A request to a behaviour of the fake server."""
    variant = ModelVariant(alias=model, model_id=model, device="unknown")
    return Request(f"{model}/p/1", variant, "p", "Say it.", 1, max_tokens, stream=stream)


def run_of(completions: list[Completion], **changes: Any) -> Run:
    """A run of one model with these completions."""
    values: dict[str, Any] = {
        "run_id": "20260101T000000Z",
        "started_at": "2026-01-01T00:00:00+00:00",
        "profile": "practice",
        "machine": {"cpu": "test"},
        "plan": {"rounds": 3},
        "prompts": (Prompt("p", "Say it.", aspects=("it",)),),
        "servings": (Serving(VARIANT, load_s=0.5),),
        "completions": tuple(completions),
    }
    return Run(**{**values, **changes})
