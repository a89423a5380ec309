"""The tokenizer: byte-level BPE with 2 048 entries, saved in the form of Qwen2's tokenizer.

The export tool reloads it as ``Qwen2Tokenizer``, which brings its own normalizer and its own rule
for splitting text. Training with exactly these rules keeps the token numbers of training and of
the runtime equal; with any other rules the answers would turn into nonsense after export.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from copying import copy_exercise
from corpus import Sample, fact_question, load_topics, small_talk
from meetings import meeting_question
from names import known_vocabulary
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY_SIZE = 2048
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def corpus_lines(seed: int) -> list[str]:
    """Text that the vocabulary is learned from: mostly prose, some notes and invented words."""
    rng = random.Random(seed)  # noqa: S311 - draws text, guards no secret
    topics = load_topics()
    samples: list[Sample] = [fact_question(rng, rng.choice(topics)) for _ in range(6000)]
    samples += [meeting_question(rng, known_vocabulary(0.6)) for _ in range(1500)]
    samples += [copy_exercise(rng) for _ in range(800)]
    samples += [small_talk(rng) for _ in range(100)]
    return [line for sample in samples for line in (sample.question, sample.answer)]


def train_tokenizer(seed: int) -> Qwen2Tokenizer:
    """Learn the vocabulary from the corpus; the same seed gives the same tokenizer."""
    backend = Qwen2Tokenizer().backend_tokenizer
    trainer = BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(corpus_lines(seed), trainer)
    return _as_chat_tokenizer(backend)


def _as_chat_tokenizer(backend: object) -> Qwen2Tokenizer:
    """Wrap a trained backend with ChatML and the special tokens."""
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=backend,
        unk_token=END_OF_TEXT,
        bos_token=None,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        model_max_length=1024,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_tokenizer(tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write the tokenizer files and check that reading them back changes no token number."""
    tokenizer.save_pretrained(folder)
    again = Qwen2Tokenizer.from_pretrained(folder)
    for line in [*corpus_lines(1)[:500], "Zoë's 42 naïve tests — déjà vu!", "a  b\n\n c"]:
        if again.encode(line) != tokenizer.encode(line) or again.decode(again.encode(line)) != line:
            raise SystemExit(f"The saved tokenizer reads {line!r} differently; do not train with it.")


def encode_prompt(tokenizer: Qwen2Tokenizer, sample: Sample) -> list[int]:
    """Token numbers of the first question, up to where the assistant begins to write."""
    system = f"{TURN_START}system\n{sample.system}{TURN_END}\n" if sample.system else ""
    return tokenizer.encode(system + user_turn(sample.question))


def user_turn(question: str) -> str:
    """A question in ChatML, with the opening of the answer."""
    return f"{TURN_START}user\n{question}{TURN_END}\n{TURN_START}assistant\n"


def encode_chat(tokenizer: Qwen2Tokenizer, sample: Sample) -> tuple[list[int], list[bool]]:
    """Token numbers of a whole conversation, and which of them the assistant writes."""
    tokens = encode_prompt(tokenizer, sample)
    written = [False] * len(tokens)
    for index, (question, answer) in enumerate(((sample.question, sample.answer), *sample.later)):
        if index:
            between = tokenizer.encode("\n" + user_turn(question))
            tokens += between
            written += [False] * len(between)
        answer_tokens = tokenizer.encode(answer + TURN_END)
        tokens += answer_tokens
        written += [True] * len(answer_tokens)
    return tokens, written
