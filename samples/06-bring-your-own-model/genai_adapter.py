"""A worked `CustomModelAdapter`: any ONNX GenAI folder, answered by onnxruntime-genai.

    python3 workshop.py register my-model FOLDER --adapter samples/06-bring-your-own-model/genai_adapter.py:GenAIAdapter

It has every part that an adapter can have: chat template, streaming, true token counts, sampling, context length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import workshop_lib as ws


class GenAIAdapter(ws.CustomModelAdapter):
    """Runs a folder with `genai_config.json` on the CPU."""

    def load(self, weights_path: Path) -> None:
        """Load model and tokenizer, and read how much context the model has."""
        genai = _library()
        config = json.loads((weights_path / "genai_config.json").read_text(encoding="utf-8"))
        self.context_tokens = config["model"]["context_length"]
        self.model = genai.Model(str(weights_path))
        self.tokenizer = genai.Tokenizer(self.model)
        self.tokenizer.encode("ready")  # brings numpy in, for which the first answer would wait otherwise

    def stream(self, prompt: str, **params: Any) -> Iterator[str]:
        """Yield one piece per token; a character split over several tokens comes with the last of them."""
        generator = self._generator(prompt, params)
        decoder = self.tokenizer.create_stream()
        while not generator.is_done():
            generator.generate_next_token()
            token = generator.get_next_tokens()[0]
            if token not in self.tokenizer.eos_token_ids:
                yield ws.adapter.Piece(decoder.decode(token), tokens=1)

    def count_tokens(self, text: str) -> int:
        """Count with the model's own tokenizer; a chat includes its template."""
        return len(self.tokenizer.encode(self._with_template(text) if isinstance(text, ws.adapter.Chat) else text))

    def _generator(self, prompt: str, params: dict[str, Any]) -> Any:
        tokens = self.tokenizer.encode(self._with_template(prompt))
        room = self.context_tokens - len(tokens)
        if room < 1:
            raise ws.WorkshopError(f"The prompt has {len(tokens)} tokens.", f"{self.context_tokens} fit.")
        genai = _library()
        options = genai.GeneratorParams(self.model)
        options.set_search_options(max_length=len(tokens) + min(params["max_tokens"], room), **_sampling(params))
        generator = genai.Generator(self.model, options)
        generator.append_tokens(tokens)
        return generator

    def _with_template(self, prompt: str) -> str:
        messages = [{"role": each.role, "content": each.content} for each in ws.adapter.Chat(prompt).messages]
        return self.tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)


def _sampling(params: dict[str, Any]) -> dict[str, Any]:
    """Temperature 0 takes the likeliest token each time; otherwise tokens are drawn, repeatably with a seed."""
    if params["temperature"] == 0:
        return {"do_sample": False}
    seed = {} if params["seed"] is None else {"random_seed": params["seed"]}
    return {"do_sample": True, "temperature": params["temperature"], "top_p": params["top_p"], "top_k": 0, **seed}


def _library() -> Any:
    try:
        import onnxruntime_genai
    except ImportError as error:
        what = f"onnxruntime-genai cannot be used here ({error})."
        fix = "pip install onnxruntime-genai==0.18.0 (Linux x64 and arm64, macOS arm64, Windows; Python 3.11 to 3.14)."
        raise ws.errors.RuntimeUnavailableError(what, fix) from error
    return onnxruntime_genai
