"""The network: a decoder-only transformer in the shape of Qwen2, in plain PyTorch.

Parameter names and formulas follow Hugging Face's ``Qwen2ForCausalLM``, so a trained state can be
saved as a Qwen2 folder and exported with the standard builder. Nothing here knows about data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT_TOKENS = 1024
ROPE_BASE = 10_000.0
NORM_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a network; ``kv_heads`` are shared by groups of query heads."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int = 2048

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


SHAPES = {
    "small": Shape(hidden=64, feed_forward=160, layers=2, heads=2, kv_heads=1),
    "medium": Shape(hidden=192, feed_forward=384, layers=3, heads=6, kv_heads=3),
    "large": Shape(hidden=256, feed_forward=608, layers=5, heads=8, kv_heads=4),
}


class RmsNorm(nn.Module):
    """Scale each vector to unit root mean square, then by learned weights."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (..., size) to vectors of the same shape."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + NORM_EPSILON)
        return (wide * self.weight).to(x.dtype)


def rotary_tables(head_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary positions, each of shape (length, head_size)."""
    rates = ROPE_BASE ** (-torch.arange(0, head_size, 2).float() / head_size)
    angles = torch.outer(torch.arange(length).float(), rates).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs (first half, second half) of each head by their position."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class Attention(nn.Module):
    """Causal attention with grouped key and value heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_size = shape.kv_heads * shape.head_size
        self.q_proj = nn.Linear(shape.hidden, shape.hidden)
        self.k_proj = nn.Linear(shape.hidden, kv_size)
        self.v_proj = nn.Linear(shape.hidden, kv_size)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """States (batch, length, hidden) to what attention adds to them, of the same shape."""
        batch, length, _ = x.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(batch, length, -1, self.shape.head_size).transpose(1, 2)

        query = rotate(heads(self.q_proj(x)), cosine, sine).to(x.dtype)
        key = rotate(heads(self.k_proj(x)), cosine, sine).to(x.dtype)
        value = heads(self.v_proj(x))
        group = self.shape.heads // self.shape.kv_heads
        key, value = (t.repeat_interleave(group, dim=1) for t in (key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value.to(query.dtype), is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """The gated feed-forward part (SwiGLU)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """States (batch, length, hidden) to what this part adds to them, of the same shape."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention, then feed-forward, each added to what came in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """States (batch, length, hidden) after this layer, of the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The whole network; the embedding is also the output layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RmsNorm(shape.hidden)
        cosine, sine = rotary_tables(shape.head_size, CONTEXT_TOKENS)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02 if "embed" in name else shape.hidden**-0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight", "bias")):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers (batch, length) to hidden states (batch, length, hidden)."""
        x = self.embed_tokens(tokens)
        cosine, sine = self.cosine[: tokens.shape[1]], self.sine[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cosine, sine)
        return self.norm(x)

    def scores(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., hidden) to one score per vocabulary entry."""
        return functional.linear(hidden, self.embed_tokens.weight)


def parameter_count(model: nn.Module) -> int:
    """Number of weights; the shared embedding counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def huggingface_config(shape: Shape, stop: int, pad: int) -> dict[str, Any]:
    """The ``config.json`` that describes the network as Qwen2."""
    return {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "bos_token_id": None,
        "eos_token_id": stop, "pad_token_id": pad, "hidden_act": "silu",
        "hidden_size": shape.hidden, "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "vocab_size": shape.vocabulary,
        "max_position_embeddings": CONTEXT_TOKENS, "rms_norm_eps": NORM_EPSILON,
        "rope_theta": ROPE_BASE, "tie_word_embeddings": True, "attention_dropout": 0.0,
        "initializer_range": 0.02, "use_cache": True, "use_sliding_window": False,
        "torch_dtype": "float32",
    }  # fmt: skip


def save_huggingface(model: Decoder, folder: Path, stop: int, pad: int) -> None:
    """Write config, generation config and float32 weights as a Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = huggingface_config(model.shape, stop, pad)
    generation = {"eos_token_id": stop, "pad_token_id": pad, "do_sample": False}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    weights = {f"model.{name}": tensor.float() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
