"""Train one practice model from scratch: ``python train.py --size small --seed 7``.

The run is a fixed number of blocks, not of minutes, so the same seed repeats it. After every few
blocks a checkpoint is written; the same command goes on from there. The result is a Hugging Face
folder (float32) with its tokenizer, ready for ``export.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from batches import IGNORED, Step, block_of_steps
from model import SHAPES, Decoder, parameter_count, save_huggingface
from rounding import int4_weights
from tokenizer import save_tokenizer, train_tokenizer
from torch import Tensor
from torch.nn import functional

CHECKPOINT_BLOCKS = 2
WARM_UP_BLOCKS = 0.3
DECAY_SHARE = 0.9
INT4_RATE = 0.2


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long (blocks), in which portions (tokens), and how fast a size learns.

    ``int4_blocks`` more blocks follow with weights rounded as in the int4 build.
    """

    blocks: int
    int4_blocks: int
    step_tokens: int
    matrix_rate: float
    other_rate: float


RECIPES = {
    "small": Recipe(40, 6, step_tokens=4096, matrix_rate=0.02, other_rate=0.006),
    "medium": Recipe(40, 4, step_tokens=4096, matrix_rate=0.02, other_rate=0.005),
    "large": Recipe(34, 0, step_tokens=4096, matrix_rate=0.02, other_rate=0.004),
}


def rate_factor(progress: float, recipe: Recipe) -> float:
    """The learning rate as a share of its peak: a short rise, a peak, then linearly to zero.

    ``progress`` is 1 where rounding begins; from there the rate falls to zero once more.

    >>> rate_factor(1.0, RECIPES["large"])
    0.0
    """
    if recipe.int4_blocks and progress > 1:
        return INT4_RATE * max(0.0, 1 - (progress - 1) * recipe.blocks / recipe.int4_blocks)
    rising = progress * recipe.blocks / WARM_UP_BLOCKS
    return max(0.0, min(1.0, rising, (1 - progress) / DECAY_SHARE))


def make_optimizers(model: Decoder, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embedding, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def answer_loss(model: Decoder, inputs: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy (nats) over the answer tokens of a batch."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(inputs)
        wanted = targets != IGNORED
        scores = model.scores(hidden[wanted])
    return functional.cross_entropy(scores.float(), targets[wanted], reduction="sum")


def add_gradients(model: Decoder, step: Step) -> float:
    """Add the gradients of one step to the weights; returns its loss in nats per answer token."""
    answer_tokens = sum(int((targets != IGNORED).sum()) for _, targets in step)
    total = 0.0
    for inputs, targets in step:
        loss = answer_loss(model, inputs, targets) / answer_tokens
        loss.backward()
        total += float(loss.detach())
    return total


def update(model: Decoder, optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Change the weights along their gradients, at ``factor`` of the peak rates."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group.get("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def train(size: str, seed: int, folder: Path, recipe: Recipe) -> None:
    """Train (or go on training) one size and write the finished model to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed=7)
    save_tokenizer(tokenizer, folder)
    model = Decoder(SHAPES[size])
    optimizers = make_optimizers(model, recipe)
    checkpoint, first_block, minutes = folder / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first_block, minutes = state["block"], state["minutes"]
    print(f"{size}: {parameter_count(model):,} parameters, block {first_block} of {recipe.blocks}")
    model.forward = torch.compile(model.forward, dynamic=True)
    all_blocks = recipe.blocks + recipe.int4_blocks
    for block in range(first_block, all_blocks):
        started = time.monotonic()
        steps = block_of_steps(tokenizer, seed, block, block / recipe.blocks, recipe.step_tokens)
        losses = []
        for index, step in enumerate(steps):
            progress = (block + (index + 1) / len(steps)) / recipe.blocks
            with int4_weights(model) if block >= recipe.blocks else nullcontext():
                losses.append(add_gradients(model, step))
            update(model, optimizers, rate_factor(progress, recipe))
        minutes += (time.monotonic() - started) / 60
        mean_loss = sum(losses) / len(losses)
        print(
            f"block {block + 1}/{all_blocks}  loss {mean_loss:.4f}  {minutes:.1f} min",
            flush=True,
        )
        if (block + 1) % CHECKPOINT_BLOCKS == 0 or block + 1 == all_blocks:
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "block": block + 1,
                "minutes": minutes,
            }
            torch.save(state, folder / "checkpoint.new")
            (folder / "checkpoint.new").replace(checkpoint)
        if block + 1 in {recipe.blocks, all_blocks}:
            target = folder if block + 1 == recipe.blocks else folder / "int4"
            save_tokenizer(tokenizer, target)
            save_huggingface(model, target, stop=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    record = {"size": size, "seed": seed, "minutes": round(minutes, 1), **asdict(recipe)}
    record |= {"parameters": parameter_count(model), "shape": asdict(SHAPES[size])}
    record |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", choices=list(SHAPES), required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("trained"), help="folder for results")
    parser.add_argument("--blocks", type=int, help="blocks of 200 000 tokens (default: the recipe)")
    options = parser.parse_args()
    recipe = RECIPES[options.size]
    if options.blocks:
        recipe = Recipe(**{**asdict(recipe), "blocks": options.blocks})
    train(options.size, options.seed, options.output / options.size, recipe)


if __name__ == "__main__":
    main()
