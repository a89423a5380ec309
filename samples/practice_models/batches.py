"""Batches: which exercises a training step sees, as padded tensors.

The work is cut into blocks of about 200 000 tokens. A block depends on the seed and its number
alone, so a stopped run resumes exactly at the block where it stopped. Samples of similar length
share a batch, which wastes little padding.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from copying import copy_exercise
from corpus import Sample, compare_question, fact_question, load_json, load_topics, small_talk, vary
from meetings import meeting_question
from names import known_vocabulary
from tokenizer import TURN_END, TURN_START, encode_chat
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

BLOCK_TOKENS = 200_000
BATCHES_PER_STEP = 4
LENGTH_UNIT_TOKENS = 16
SYSTEM_SHARE = 0.15
COPY_BLOCKS = 3
"""The first blocks hold random copying only; without them copying is learned late or never."""

RANDOM_SHARE = 0.12
"""Share of random copying that stays to the end, so that the skill is not lost again."""

FIRST_TEXT_TOKEN = 3
IGNORED = -100
Row = tuple[list[int], list[bool]]
Step = list[tuple[Tensor, Tensor]]


def repeat_row(rng: random.Random, tokenizer: Qwen2Tokenizer) -> Row:
    """Random tokens to be repeated: nothing can be guessed, so only copying lowers the loss.

    Half of the rows draw from a few tokens only. Like the letters of a name these come back again
    and again, so the model must look at more than the token before.
    """
    usable = range(FIRST_TEXT_TOKEN, len(tokenizer))
    alphabet = rng.sample(usable, rng.randint(3, 16)) if rng.random() < 0.5 else usable
    text = rng.choices(alphabet, k=rng.randint(2, 24))
    return random_row(tokenizer, "Repeat: ", text, text)


def recall_row(rng: random.Random, tokenizer: Qwen2Tokenizer) -> Row:
    """A table of random keys and values, and a key whose value is wanted."""
    line_end = tokenizer.encode("\n")
    keys = rng.sample(range(FIRST_TEXT_TOKEN, len(tokenizer)), rng.randint(2, 6))
    table = {key: [rng.randrange(FIRST_TEXT_TOKEN, len(tokenizer)) for _ in range(rng.randint(1, 4))] for key in keys}
    wanted = rng.choice(keys)
    rows = [token for key in keys for token in (key, *table[key], *line_end)]
    return random_row(tokenizer, "Look up:\n", [*rows, wanted], [wanted, *table[wanted]])


def random_row(tokenizer: Qwen2Tokenizer, request: str, text: list[int], answer: list[int]) -> Row:
    """A conversation whose question ends with, and whose answer is, given tokens."""
    opening = tokenizer.encode(f"{TURN_START}user\n{request}")
    closing = tokenizer.encode(f"{TURN_END}\n{TURN_START}assistant\n")
    question = [*opening, *text, *closing]
    answer = [*answer, tokenizer.eos_token_id]
    return question + answer, [False] * len(question) + [True] * len(answer)


def draw_row(rng: random.Random, tokenizer: Qwen2Tokenizer, block: int, progress: float) -> Row:
    """One exercise as tokens: first random copying only, later mostly text."""
    if block < COPY_BLOCKS:
        return repeat_row(rng, tokenizer)
    if rng.random() < max(RANDOM_SHARE, 1.0 - 0.3 * (block - COPY_BLOCKS + 1)):
        return rng.choice([repeat_row, repeat_row, recall_row])(rng, tokenizer)
    return encode_chat(tokenizer, draw_sample(rng, progress))


def draw_sample(rng: random.Random, progress: float) -> Sample:
    """One exercise in words; with ``progress`` (0 to 1) copying gives way to facts."""
    copying = 0.25 if progress < 0.3 else 0.10
    meetings = 0.32
    kind = rng.choices(
        ["copy", "meeting", "compare", "talk", "fact"],
        [copying, meetings, 0.08, 0.03, 1 - copying - meetings - 0.11],
    )[0]
    if kind == "copy":
        sample = copy_exercise(rng)
    elif kind == "meeting":
        vocabulary = known_vocabulary(invented=rng.choice([0.0, 0.6, 0.9]))
        sample = meeting_question(rng, vocabulary, follow_ups=rng.choice([0, 1, 2]))
    elif kind == "compare":
        sample = compare_question(rng)
    elif kind == "talk":
        sample = small_talk(rng)
    else:
        sample = fact_question(rng, rng.choice(load_topics()))
    sample = vary(rng, sample)
    if kind != "copy" and rng.random() < SYSTEM_SHARE:
        sample = replace(sample, system=rng.choice(load_json("phrasings")["system"]))
    return sample


def pad_batch(rows: list[Row], pad: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of shape (rows, length); only tokens of answers have a target."""
    longest = max(len(tokens) for tokens, _ in rows) - 1
    length = -(-longest // LENGTH_UNIT_TOKENS) * LENGTH_UNIT_TOKENS
    inputs = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), IGNORED)
    for row, (tokens, written) in enumerate(rows):
        ids = torch.tensor(tokens)
        inputs[row, : len(ids) - 1] = ids[:-1]
        targets[row, : len(ids) - 1] = ids.masked_fill(~torch.tensor(written), IGNORED)[1:]
    return inputs, targets


def block_of_steps(tokenizer: Qwen2Tokenizer, seed: int, block: int, progress: float, step_tokens: int) -> list[Step]:
    """The steps of one block. A step is a few padded batches of different lengths.

    Rows of one batch have similar lengths, which saves padding. A step of one length only would
    teach distances ("copy what stands 20 tokens back") instead of contents.
    """
    rng = random.Random(f"{seed}/{block}")  # noqa: S311 - draws exercises, guards no secret
    rows: list[Row] = []
    drawn_tokens = 0
    while drawn_tokens < BLOCK_TOKENS:
        rows.append(draw_row(rng, tokenizer, block, progress))
        drawn_tokens += len(rows[-1][0])
    if block < COPY_BLOCKS:
        step_tokens //= 2
    rows.sort(key=lambda row: len(row[0]))
    batches: list[tuple[Tensor, Tensor]] = []
    while rows:
        padded = -(-len(rows[-1][0]) // LENGTH_UNIT_TOKENS) * LENGTH_UNIT_TOKENS
        rows_here = max(1, step_tokens // BATCHES_PER_STEP // padded)
        batches.append(pad_batch(rows[-rows_here:], tokenizer.pad_token_id))
        del rows[-rows_here:]
    rng.shuffle(batches)
    return [batches[i : i + BATCHES_PER_STEP] for i in range(0, len(batches), BATCHES_PER_STEP)]
