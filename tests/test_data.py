"""The shipped data files are sound, and every fault in a changed one is named."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from workshop_lib import data
from workshop_lib.errors import DataFileError
from workshop_lib.records import Prompt

COURSE = [
    "Explain the principle of retrieval augmented generation in 2 sentences.",
    "List 3 privacy benefits of local inference.",
    "Summarize why model size impacts latency on consumer hardware.",
    "Provide two scenarios where an SLM is preferable to an LLM.",
    "Summarize retrieval augmented generation.",
    "Explain when to choose an SLM over an LLM.",
    "List three benefits of local inference.",
    "Explain retrieval augmented generation in one paragraph.",
]
LISTED_GIB = {  # CPU and CUDA builds, from public listings of 2026; what they call GB are 2^30 bytes
    "qwen2.5-0.5b": (0.80, 0.52),
    "qwen2.5-1.5b": (1.78, 1.25),
    "qwen2.5-7b": (6.16, 4.73),
    "deepseek-r1-7b": (6.43, 5.28),
    "phi-3.5-mini": (2.53, 2.13),
    "phi-4-mini": (4.80, 3.60),
    "mistral-7b-v0.2": (4.07, 3.98),
    "gpt-oss-20b": (12.26, 9.65),
    "qwen3-0.6b": (None, None),
    "qwen3-1.7b": (1.3, None),
    "qwen3-4b": (2.7, None),
    "qwen3-8b": (5.7, None),
}


def write(folder: Path, content: object) -> Path:
    file = folder / "file.json"
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_text(text, encoding="utf-8")
    return file


def a_prompt_file(*prompts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    given_ = list(prompts) or [{"id": "a", "text": "Why?"}]
    return {"schema": 1, "version": "1", "sets": {"course": given_}} | changes


def test_the_course_set_is_the_courses_prompts_word_for_word() -> None:
    """Answers can be compared with those of every other course participant."""
    assert [prompt.text for prompt in data.read_prompts()] == COURSE


def test_every_shipped_prompt_can_be_scored() -> None:
    """Each has aspects and a reference; 12 meeting notes have 60 to 110 words, 8 free transcripts 150 to 1 500."""
    content = data.read_prompt_file()
    for prompts in content.sets.values():
        assert all(prompt.aspects and prompt.reference for prompt in prompts)
    for prompt in content.sets["meeting-notes"]:
        assert 60 <= len(prompt.text.split("Notes:")[1].split()) <= 110, prompt.id
    lengths = [len(prompt.text.split("Transcript:")[1].split()) for prompt in content.sets["meetings"]]
    assert lengths[0] >= 150 and lengths == sorted(lengths) and lengths[-1] <= 1500
    assert [len(content.sets[name]) for name in ("course", "meeting-notes", "meetings")] == [8, 12, 8]


def test_every_capability_asked_for_is_offered_offline() -> None:
    """Routing finds a practice model for every prompt."""
    cards = data.read_models()
    offered = {tag for card in cards.values() if card.profile == "practice" for tag in card.capabilities}
    asked = {p.capability for prompts in data.read_prompt_file().sets.values() for p in prompts}
    assert asked <= offered


def test_practice_sizes_are_those_of_the_shipped_files() -> None:
    """models.json gives the int4 builds' true sizes, to the kilobyte, in both columns."""
    cards = data.read_models()
    for model in data.read_practice_index().models:
        sizes = {v.device: round(v.size_mb, 3) for v in model.variants if v.precision == "int4"}
        card = cards[model.alias]
        assert (card.size_mb, card.size_gpu_mb) == (sizes["cpu"], sizes.get("gpu")), model.alias
        assert card.profile == "practice"


def test_listed_sizes_are_those_of_the_public_listing() -> None:
    """Download sizes of the real catalog are facts with a source, not estimates."""
    cards = data.read_models()
    listed = {alias: card for alias, card in cards.items() if card.listed and card.profile != "practice"}
    mb = {alias: tuple(size and round(size * 2**30 / 1e6) for size in sizes) for alias, sizes in LISTED_GIB.items()}
    assert {a: (c.size_mb, c.size_gpu_mb) for a, c in listed.items()} == mb
    assert all(card.shape["parameters"] and card.source for card in listed.values())


def test_names_of_the_course_that_no_catalog_lists_say_so() -> None:
    """They are not listed, have no invented size, and point to models that exist."""
    cards = data.read_models()
    unlisted = {alias: card for alias, card in cards.items() if not card.listed}
    assert unlisted.pop("smollm2-135m").size_mb is not None, "imported here"
    assert set(unlisted) == {"gemma-2-2b", "mistral-7b"}
    assert unlisted["mistral-7b"].nearest == ("mistral-7b-v0.2",)
    assert all(card.size_mb is None and card.licence is None for card in unlisted.values())
    assert all(cards[name].listed for card in cards.values() for name in card.nearest)


def test_a_list_of_your_own_needs_two_keys(tmp_path: Path) -> None:
    """The format the course promises, `{alias: {capabilities, size_mb}}`, is enough; PowerShell writes it in UTF-16."""
    file = tmp_path / "m.json"
    file.write_text('{"mine": {"capabilities": [], "size_mb": null}}', encoding="utf-16")
    assert data.read_models(file) == {"mine": data.ModelCard(capabilities=(), size_mb=None)}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", '["Warum?", "なぜ。"]'),
        ("objects.json", '[{"text": "Warum?"},\r\n {"prompt": "なぜ。"}]\r\n'),
        ("lines.jsonl", '"Warum?"\r\n\r\n{"text": "なぜ。"}\r\n'),
        ("lines.json", '{"text": "Warum?"}\n{"prompt": "なぜ。"}'),
        ("lines.txt", "# mine\r\n\r\n  Warum?\r\nなぜ。"),
    ],
)
def test_prompts_are_read_as_people_have_them(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    """A list, JSON lines or plain lines, texts or objects, from editors and shells of any system."""
    (tmp_path / name).write_bytes(text.encode(encoding))
    expected = (Prompt(id="prompt-1", text="Warum?"), Prompt(id="prompt-2", text="なぜ。"))
    assert data.read_prompts(path=tmp_path / name) == expected


@pytest.mark.parametrize("given_set", ["course", "meeting-notes"])
def test_only_shipped_prompts_carry_their_sets_name(tmp_path: Path, given_set: str) -> None:
    """The name says where prompts come from: a file of your own cannot claim to be a shipped set."""
    assert {prompt.set_name for prompt in data.read_prompts(given_set)} == {given_set}
    own = tmp_path / "own.json"
    shutil.copy(data.PROMPTS_FILE, own)
    assert {prompt.set_name for prompt in data.read_prompts(given_set, own)} == {""}
    own.write_text(json.dumps([{"text": "Why?", "set_name": given_set}]), encoding="utf-8")
    assert [prompt.set_name for prompt in data.read_prompts(path=own)] == [""]


CARD = {"capabilities": [], "size_mb": 1}
FAULTS = [
    ("models", [], "is []", "an object"),
    ("models", {"m": {**CARD, "size_mb": "big"}}, "'m.size_mb' is 'big'", "valid number"),
    ("models", {"m": {"capabilities": []}}, "'m.size_mb' is missing", "Add it."),
    ("models", {"m": {"capabilities": [], "sise_mb": 1}}, "'m.sise_mb' is an unknown key", "spelling. (1 more"),
    ("models", {"m": {**CARD, "profile": "cloud"}}, "'m.profile' is 'cloud'", "'practice' or 'foundry'"),
    ("models", {"m": {**CARD, "shape": {"heads": 2}}}, "m.shape.heads", "'parameters'"),
    ("models", {"m": {**CARD, "watts": -5.5}}, "'m.watts' is -5.5", "more than 0"),
    ("models", '{"m": {"capabilities": [], "size_mb": NaN}}', "'m.size_mb' is nan", "finite"),
    ("models", '{"m": {"capabilities": [], "size_mb": 1}, "m": {}}', "'m' is there twice", "Correct"),
    ("models", '{"m": {"capabilities": [],}}', "line 1 column 27", "Correct the syntax"),
    ("models", "[" * 100_000, "is not JSON", "Correct"),
    ("prompts", a_prompt_file(schema=2), "'schema' is 2", "should be 1"),
    ("prompts", a_prompt_file({"id": "../a", "text": "x"}), "'sets.course[0]'", "Its id is '../a'"),
    ("prompts", a_prompt_file({"id": "a ", "text": "x"}), "'sets.course[0]'", "Its id is 'a '"),
    ("prompts", a_prompt_file({"id": "a", "text": " "}), "'sets.course[0]' is {", "text is empty"),
    ("prompts", a_prompt_file({"id": "a", "text": "x", "aspect": []}), "aspect' is an unknown", "spelling"),
    ("prompts", a_prompt_file({"id": "a", "text": "x", "aspects": ["b|"]}), "'sets.course[0]'", "aspect 'b|'"),
    ("prompts", a_prompt_file({"id": "a", "text": "x"}, {"id": "a", "text": "y"}), "'sets' is", "'a' is there twice"),
    ("prompts", a_prompt_file(sets={"course": []}), "'sets.course' is []", "at least one"),
    ("prompts", a_prompt_file(sets={"other": [{"id": "a", "text": "x"}]}), "has no set 'course'", "Use other"),
    ("prompts", ["One?", 2], ": 'prompts[1]' is 2", "an object"),
    ("prompts", '"One?"\n\n{"text": ""}', "prompts[1]' is {", "text is empty"),
    ("prompts", '"One?"\n"Two?\n', "is not JSON", "Correct"),
    ("prompts", '["One?" // first\n]', "line 1 column 9", "no comments"),
    ("prompts", " \r\n", "is not JSON", "Correct"),
    ("prompts", [], "prompts' is []", "at least one"),
]
READERS = {
    "models": data.read_models,
    "prompts": partial(data.read_prompts, "course"),
}


@pytest.mark.parametrize(("kind", "content", "what", "fix"), FAULTS)
def test_a_fault_in_a_file_is_named(tmp_path: Path, kind: str, content: object, what: str, fix: str) -> None:
    """The error names the file, the key, the value seen and the fix, on one line."""
    check_fault(READERS[kind], write(tmp_path, content), what, fix)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or not text: each is said."""
    (tmp_path / "latin.json").write_bytes(b'["caf\xe9"]')
    check_fault(data.read_models, tmp_path / "absent.json", "is missing", "Check the path.")
    check_fault(data.read_models, data.MODELS_FILE.with_name("absent.json"), "is missing", "git checkout -- data")
    check_fault(data.read_models, tmp_path, "cannot be read", "a file you may read")
    check_fault(partial(data.read_prompts, "course"), tmp_path / "latin.json", "cannot be read", "UTF-8")


def check_fault(read: Any, file: Path, what: str, fix: str) -> None:
    with pytest.raises(DataFileError) as caught:
        read(file)
    assert caught.value.exit_code == 2
    assert caught.value.what.startswith(str(file))
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert "\n" not in str(caught.value)
