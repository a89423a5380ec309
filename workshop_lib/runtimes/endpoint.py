"""Models of any OpenAI-compatible server, seen as a runtime. Imports no SDK and starts nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from workshop_lib.addresses import Address, parse_address
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, EndpointError, ModelNotFoundError
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes.profiles import ALL, AUTO, Runtime, ServedModel, select_variants
from workshop_lib.settings import ENDPOINT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workshop_lib.data import ModelCard

    Entry = Mapping[str, Any]

LIST_TIMEOUT_S = 15.0
WITHOUT_A_LIST = {"http_400", "http_403", "http_404", "http_405", "http_500", "http_501", "not_json"}
"""How servers answer that have no model list: models that are named can be asked all the same."""

_NO_CHAT = re.compile(
    r"(?i)(?<![a-z])(embed(ding)?s?|rerank(er)?|bge|e5|gte|minilm|whisper|tts|asr|transcribe|moderation|dall-e|clip|colbert|kokoro|stable-diffusion|sdxl|flux|wav2vec2|parakeet|gpt-image|sora)(?![a-z])"
)
"""Words in the ids of models that make vectors, speech or pictures."""

_CHAT_KINDS = re.compile(r"chat(?!': false)|llm|vlm|language|text-to-text|text-generation|(?<!embeddings)completion\b")
_NO_CHAT_KINDS = re.compile("embed|rerank|image|audio|speech|transcri|moderation|feature-extraction|chat': false")
"""What lists say of a model's kind."""


class EndpointRuntime(Runtime):
    """Models of the server at an address, e.g. `http://127.0.0.1:5273/v1`.

    `/v1` is added where the address has no path, or where only that finds the models. `cards` are those of
    `models.json`. Raises `ConfigurationError` where the address cannot be one.
    """

    profile = "endpoint"

    def __init__(
        self, address: str, *, api_key: str | None = None, cards: Mapping[str, ModelCard] | None = None
    ) -> None:
        if not address:
            fix = f"Set {ENDPOINT_VARIABLE}, e.g. to http://127.0.0.1:5273/v1."
            raise ConfigurationError("The profile 'endpoint' needs the address of a server.", fix)
        self._address, self._api_key, self._cards = parse_address(address), api_key, cards or {}
        self._left_out: list[tuple[ModelVariant, str]] = []

    def list_models(self) -> list[ModelVariant]:
        """What `/models` names; an id that is a path is shown by its last part. Raises `EndpointError`."""
        return self._variants(self._entries())

    def _entries(self) -> Sequence[Entry]:
        try:
            return self._listed(self._address)
        except EndpointError as error:
            if error.kind not in WITHOUT_A_LIST or re.search(r"/v\d[^/]*$", self._address.path):
                raise
            try:
                return self._listed(self._address.with_version())
            except EndpointError:
                raise error from None

    def _listed(self, address: Address) -> Sequence[Entry]:
        """What an address lists; it is this runtime's from then on, redirects followed."""
        from tqdm.auto import tqdm

        # a bar that is never told of a pause is never shown; a shorter delay would be lost in rounding
        with tqdm(desc="The server is loading a model", unit="s", delay=1e-3, mininterval=0) as bar:
            options: dict[str, Any] = {"timeout_s": LIST_TIMEOUT_S, "on_wait": bar.update}
            with ChatClient(address.url(), api_key=self._api_key, **options) as asked:
                entries = asked.list_entries()
                self._address = asked.address
                return entries

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        """Variants for ids or `auto`; a device counts only where the id names one.

        `auto` and `all` mean all that the server has loaded and that can chat. Foundry Local lists its whole catalog
        and refuses what it has not loaded; of a server that does not say what is loaded, all that it lists. A server
        without a list is asked for the models that are named.

        Raises:
            EndpointError: as `list_models`.
            ModelNotFoundError: no such model, and the nearest that exist; or `auto`, and none is loaded.
        """
        names = [AUTO if name == ALL else name for name in names]
        try:
            entries = self._entries()
        except EndpointError as error:
            if error.kind not in WITHOUT_A_LIST or AUTO in names:
                raise
            entries = ()
        if not entries and AUTO not in names:
            entries = [{"id": name} for name in names]
        if not (offered := self._variants(entries)):
            raise ModelNotFoundError(f"The server at {self._address.shown} lists no model.", "Load one there.")
        shown = {_name(variant): variant.model_id for variant in offered}
        loaded = self._loaded(shown) if AUTO in names else set(shown)
        silent = loaded.intersection(str(entry["id"]) for entry in entries if _cannot_chat(entry))
        why = "It is no chat model: it makes embeddings, speech or pictures. Name it to ask it all the same."
        self._left_out = [(variant, why) for variant in offered if _name(variant) in silent]
        return select_variants(
            offered,
            [shown.get(name, name) for name in names],
            devices,
            in_auto=lambda variant: _name(variant) in loaded - silent,
            nearest={alias: card.nearest for alias, card in self._cards.items()},
        )

    def _loaded(self, listed: Mapping[str, str]) -> set[str]:
        """Which of the models listed are loaded, all where the server does not say; `ModelNotFoundError` for none."""
        with ChatClient(self._address.url(), api_key=self._api_key, timeout_s=LIST_TIMEOUT_S) as asked:
            said = asked.list_loaded()
        if loaded := set(listed if said is None else said).intersection(listed):
            return loaded
        what = f"The server lists {len(listed)} models and has loaded none of them."
        fix = "with `foundry run NAME` (CLI 0.10 and later) or `foundry model run NAME` (until 0.9)"
        raise ModelNotFoundError(what, f"Load one there, {fix}.")

    def serve(self, variant: ModelVariant) -> ServedModel:
        """The server serves already: only says where."""
        return ServedModel(variant, self._address.url(), self._api_key)

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        """What the last `auto` left out: models that do not chat."""
        return self._left_out

    def _variants(self, entries: Sequence[Entry]) -> list[ModelVariant]:
        """The models of a list, in its order; two paths with the same last part keep their whole names."""
        ids = [str(entry["id"]) for entry in entries]
        shown = [_shown_id(name) for name in ids]
        return [
            self._variant(short if shown.count(short) == 1 else name, name)
            for name, short in zip(ids, shown, strict=True)
        ]

    def _variant(self, model_id: str, served_as: str) -> ModelVariant:
        parts, card = re.split("[-:]", model_id.lower()), self._cards.get(model_id)
        return ModelVariant(
            alias=model_id,
            model_id=model_id,
            device=next((device for device in ("cpu", "gpu", "npu") if device in parts), "unknown"),
            capabilities=card.capabilities if card else (),
            watts=card.watts if card else None,
            trained_on=card.trained_on if card else None,
            served_as=None if served_as == model_id else served_as,
        )


def _name(variant: ModelVariant) -> str:
    """What the server calls it."""
    return variant.served_as or variant.model_id


def _shown_id(name: str) -> str:
    """The last part of an id that is a path of the server's machine; any other id as it is.

    >>> _shown_id("/srv/models/tiny.gguf"), _shown_id("Qwen/Qwen3-0.6B")
    ('tiny.gguf', 'Qwen/Qwen3-0.6B')
    """
    is_path = re.match(r"/|~|\.\.?/|\\\\|[A-Za-z]:[\\/]", name)
    if not is_path and not name.lower().endswith((".gguf", ".onnx", ".safetensors", ".bin")):
        return name
    parts = re.split(r"[\\/]", name.rstrip("/\\"))
    cached = next((part for part in parts if part.startswith("models--")), "")  # Hugging Face's cache
    return cached.removeprefix("models--").replace("--", "/") or parts[-1] or name


def _cannot_chat(entry: Entry) -> bool:
    """Whether a list's entry says that the model is no chat model, by its type or else by its name."""
    said = " ".join(str(entry.get(name) or "") for name in ("type", "task", "mode", "labels", "capabilities")).lower()
    if _CHAT_KINDS.search(said):
        return False
    return bool(_NO_CHAT_KINDS.search(said) or _NO_CHAT.search(str(entry["id"])))
