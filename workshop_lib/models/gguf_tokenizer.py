"""The files beside the weights, from a GGUF's metadata: tokenizer, chat template, and the runtime's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workshop_lib.models.gguf_graph import MODEL_FILE

if TYPE_CHECKING:
    from workshop_lib.models.gguf_file import GgufFile

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
_SPLITS = {
    "gpt-2": [_GPT2],
    "smollm": [r"\p{N}", _GPT2],  # the runtime passes over `Digits` without a word
    "llama-bpe": [_LLAMA3],
    "qwen2": [_QWEN2],
    "deepseek-r1-qwen": [_QWEN2],
}
"""`tokenizer.ggml.pre` → the patterns that cut a text before its pieces are merged."""
_CONTROL, _USER_DEFINED = 3, 4


def tokenizer_files(file: GgufFile) -> dict[str, Any]:
    """Return `tokenizer.json` and `tokenizer_config.json` as objects, `chat_template.jinja` as text.

    Raises:
        DataFileError: the tokenizer is of a kind that was not tried with the runtime, or there is no chat template.
    """
    if (model := file.value("tokenizer.ggml.model")) != "gpt2":
        kind = "SentencePiece" if model == "llama" else repr(model)
        raise file.refusal(f"has a tokenizer of the kind {kind}; this import knows byte-level BPE")
    if (cut := file.value("tokenizer.ggml.pre", "default")) not in _SPLITS:
        raise file.refusal(f"cuts texts in the way {cut!r}; this import knows {', '.join(_SPLITS)}")
    template = file.value("tokenizer.chat_template", "")
    if not template:
        raise file.refusal("has no chat template, so the runtime could not turn messages into a prompt")
    tokens = file.value("tokenizer.ggml.tokens")
    if len(tokens) > file.shape.vocabulary:
        raise file.refusal(f"names {len(tokens)} tokens and has embeddings for {file.shape.vocabulary}")
    if file.value("tokenizer.ggml.add_bos_token", 0) and "bos_token" not in template:
        raise file.refusal("puts a token before each text that its chat template does not name")
    names = {
        f"{name}_token": tokens[file.value(f"tokenizer.ggml.{key}_token_id")]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if file.has_key(f"tokenizer.ggml.{key}_token_id")
    }
    return {
        "tokenizer.json": _tokenizer(file, tokens, cut),
        "tokenizer_config.json": {
            **names,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": file.shape.context_tokens,
            "clean_up_tokenization_spaces": False,
        },
        "chat_template.jinja": template,
    }


def _tokenizer(file: GgufFile, tokens: list[str], cut: str) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in _SPLITS[cut]
    ]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    kinds = file.value("tokenizer.ggml.token_type")
    added = [
        {"id": number, "content": token, **plain, "special": kind == _CONTROL}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in {_CONTROL, _USER_DEFINED}
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if cut.endswith(("qwen", "qwen2")) else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "decoder": {**byte_level, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "ignore_merges": cut == "llama-bpe",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": file.value("tokenizer.ggml.merges"),
        },
    }


def runtime_configuration(file: GgufFile, *, threads: int) -> dict[str, Any]:
    """Return `genai_config.json` as an object, in which the runtime is told to use so many threads."""
    shape = file.shape
    keys = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(file.value(key) for key in keys if file.has_key(key)))
    if not ends:
        raise file.refusal("names no token that ends an answer")
    past, present = (
        {f"{when}_{part}_names": f"{name}.%d.{part}" for part in ("key", "value")}
        for when, name in (("past", "past_key_values"), ("present", "present"))
    )
    return {
        "model": {
            "type": shape.kind,
            "context_length": shape.context_tokens,
            "vocab_size": shape.vocabulary,
            "bos_token_id": file.value("tokenizer.ggml.bos_token_id", ends[0]),
            "eos_token_id": ends if ends[1:] else ends[0],
            "pad_token_id": file.value("tokenizer.ggml.padding_token_id", ends[0]),
            "decoder": {
                "session_options": {
                    "log_id": "onnxruntime-genai",
                    "intra_op_num_threads": threads,
                    "provider_options": [],
                },
                "filename": MODEL_FILE,
                "head_size": shape.head_size,
                "hidden_size": shape.hidden,
                "num_attention_heads": shape.heads,
                "num_hidden_layers": shape.layers,
                "num_key_value_heads": shape.kv_heads,
                "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **past},
                "outputs": {"logits": "logits", **present},
            },
        },
        "search": {"do_sample": False, "max_length": shape.context_tokens, "past_present_share_buffer": True},
    }
