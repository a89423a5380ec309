"""A practice model as a GGUF file, in the types of a real one: 4-bit matrices (Q4_1), 8-bit embeddings (Q8_0).

    ../../.venv/bin/python write_gguf.py

Needs no PyTorch: the weights come from the float32 build. Page 06 imports the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import onnx
from gguf import GGMLQuantizationType as Kind
from onnx import numpy_helper

MODELS = Path(__file__).resolve().parents[2] / "data" / "practice_models"
NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "final_norm_layernorm.weight": "output_norm.weight",
    "attn.qkv_proj.MatMul.weight": "attn_{}.weight",
    "attn.qkv_proj.Add.bias": "attn_{}.bias",
    "attn.o_proj.MatMul.weight": "attn_output.weight",
    "mlp.gate_proj.MatMul.weight": "ffn_gate.weight",
    "mlp.up_proj.MatMul.weight": "ffn_up.weight",
    "mlp.down_proj.MatMul.weight": "ffn_down.weight",
    "lm_head.MatMul.weight": "token_embd.weight",
}
"""The builder's names → GGUF's. The practice models' embeddings are their output layer."""


def tensors(folder: Path, sizes: list[int]) -> dict[str, np.ndarray]:
    """The float32 build's weights under GGUF's names, `[outputs, inputs]`; `sizes` are the rows of q, k and v."""
    found: dict[str, np.ndarray] = {}
    for stored in onnx.load(folder / "model.onnx").graph.initializer:
        layer, _, part = stored.name.removeprefix("model.layers.").partition(".")
        name = NAMES.get(part if layer.isdigit() else stored.name)
        if name is None:  # the tables of the positions
            continue
        place = f"blk.{layer}." if layer.isdigit() and name != "output_norm.weight" else ""
        rows = np.ascontiguousarray(numpy_helper.to_array(stored).T)
        parts = np.split(rows, np.cumsum(sizes)[:-1]) if "{}" in name else [rows]
        found |= {place + name.format(letter): each for letter, each in zip("qkv", parts, strict=False)}
    return found


def write(folder: Path, output: Path) -> None:
    """Write one build as a GGUF file."""
    config = json.loads((folder / "genai_config.json").read_text("utf-8"))["model"]
    network = config["decoder"]
    heads, kv_heads, size = network["num_attention_heads"], network["num_key_value_heads"], network["head_size"]
    weights = tensors(folder, [heads * size, kv_heads * size, kv_heads * size])
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {token["id"] for token in tokenizer["added_tokens"]}

    writer = gguf.GGUFWriter(output, "qwen2")
    writer.add_name(folder.name.partition("-fp32")[0])
    writer.add_license("MIT")
    writer.add_block_count(network["num_hidden_layers"])
    writer.add_context_length(config["context_length"])
    writer.add_embedding_length(network["hidden_size"])
    writer.add_feed_forward_length(len(weights["blk.0.ffn_up.weight"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number in special else 1 for number in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template((folder / "chat_template.jinja").read_text("utf-8"))
    for name, values in weights.items():
        kind = Kind.F32 if values.ndim == 1 else Kind.Q8_0 if name.startswith("token_embd") else Kind.Q4_1
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write `practice-small.gguf`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="practice-small", help="which one (default: practice-small)")
    parser.add_argument("--output", type=Path, default=MODELS, help="folder to write to")
    options = parser.parse_args()
    write(MODELS / f"{options.model}-fp32-generic-cpu", options.output / f"{options.model}.gguf")


if __name__ == "__main__":
    main()
