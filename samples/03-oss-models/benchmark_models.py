"""Time three models for three rounds and print a JSON summary. Made to be typed along.

Serves the practice models; with FOUNDRY_LOCAL_ENDPOINT it asks that server instead.
"""

import json
import os
import sys
import time

import numpy as np
from openai import OpenAI, OpenAIError

import workshop_lib as ws

MODELS = ["practice-small", "practice-medium", "practice-large"]
PROMPT = "Explain the principle of retrieval augmented generation in 2 sentences."
ROUNDS = 3
REMOTE = bool(os.environ.get("FOUNDRY_LOCAL_ENDPOINT"))


def ask(base_url: str, model: str) -> tuple[float, float, int | None]:
    """Seconds to the first token, seconds to the last one, and how many tokens there were."""
    with OpenAI(base_url=base_url, api_key=os.environ.get("API_KEY", "none"), max_retries=0) as client:
        arrivals, tokens, start = [], None, time.perf_counter()
        for chunk in client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": PROMPT}], max_tokens=120,
            temperature=0, stream=True, stream_options={"include_usage": True},
        ):  # fmt: skip
            if chunk.choices and chunk.choices[0].delta.content:  # an empty role chunk is no token
                arrivals.append(time.perf_counter() - start)
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return arrivals[0], arrivals[-1], tokens


def measure(base_url: str, model: str) -> dict[str, object]:
    """One warm-up that does not count, then the timed rounds."""
    ask(base_url, model)
    firsts, latencies, tokens = zip(*(ask(base_url, model) for _ in range(ROUNDS)), strict=True)
    rates = [n / seconds for n, seconds in zip(tokens, latencies, strict=True) if n]
    return {"model": model, "rounds": ROUNDS, "first_token_s": float(np.mean(firsts)),
            "latency_avg_s": float(np.mean(latencies)), "latency_p95_s": float(np.percentile(latencies, 95)),
            "tokens_per_s": float(np.mean(rates)) if rates else None}  # fmt: skip


summary = []
try:
    with ws.open_runtime() as runtime:
        variants = runtime.find(["auto"] if REMOTE else MODELS, devices=["cpu"])
        for variant in list({each.alias: each for each in reversed(variants)}.values())[::-1][:3]:
            with runtime.serve(variant) as served:
                summary.append(measure(served.base_url, variant.model_id))
except (ws.WorkshopError, OpenAIError, IndexError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(json.dumps(summary, indent=2))
print("Seconds: lower is better; tokens_per_s: higher. A p95 of 3 rounds is nearly the slowest one.", file=sys.stderr)
