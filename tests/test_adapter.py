"""What an adapter is, without any server: its prompt, its two ways to answer, and how its class is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import scripted_adapter
from tests.adapter_helpers import scripted, weights_in
from workshop_lib.errors import ConfigurationError
from workshop_lib.models.adapter import Chat, Message, load_class, said_by


def test_a_prompt_is_text_that_knows_its_messages() -> None:
    """A single question reads as itself; a conversation names who speaks, and asks the assistant to go on."""
    assert Chat("Hello") == "Hello"
    assert Chat("Hello").messages == (Message("user", "Hello"),)
    talk = (Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Go"))
    assert Chat(talk) == "system: Be brief.\nuser: Hello\nassistant: Hi\nuser: Go\nassistant:"
    assert Chat(Chat(talk)).messages == talk


def test_generate_and_stream_derive_from_each_other(tmp_path: Path) -> None:
    """Whichever is written, both can be called, with plain text as well."""
    whole, pieces = scripted_adapter.Whole(), scripted_adapter.Scripted()
    whole.load(weights_in(tmp_path))
    pieces.load(weights_in(tmp_path))
    assert list(whole.stream("Hello")) == ["You said: Hello"]
    assert pieces.generate("say one |two", max_tokens=5) == "one two"


def test_a_class_is_found_in_a_file_or_a_module() -> None:
    """Both ways to write a reference lead to the class."""
    assert load_class(scripted("Whole")).__name__ == "Whole"
    assert load_class("tests.scripted_adapter:Whole") is scripted_adapter.Whole


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("missing.py:Some", "There is no adapter file missing.py"),
        ("tests.scripted_adapter:Scrpted", "It has Scripted, Uncounted"),
        ("tests.scripted_adapter:Stranger", "has no adapter called 'Stranger'"),
        ("tests.scripted_adapter:Unfinished", "lacks load"),
        ("tests.scripted_adapter:Silent", "lacks generate or stream"),
        ("workshop_lib.errors:Some", "It has no class derived from CustomModelAdapter"),
        ("no_such_package.module:Some", "Install the package that brings 'no_such_package'"),
    ],
)
def test_a_reference_that_leads_to_no_adapter_says_what_is_there(reference: str, words: str) -> None:
    """A slip in file, module or class is one clear error with the way out."""
    with pytest.raises(ConfigurationError, match=words):
        load_class(reference)


def test_a_file_that_fails_is_named_with_its_own_words_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a stranger's file raises, the reader learns what and where; the reader's own folder is `~`."""
    file = tmp_path / "mine.py"
    file.write_text("raise ValueError('first\\nsecond')", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"mine\.py cannot be used \(ValueError: first second\)"):
        load_class(f"{file}:Mine")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert said_by(OSError(f"no {tmp_path / 'model.bin'}\nhere")).replace("\\", "/") == "OSError: no ~/model.bin here"
