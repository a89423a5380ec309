"""GGUF files become folders: what the folder computes, what is refused, and that it is whole or not there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime_genai
import psutil
import pytest
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.foundry_helpers import REPOSITORY
from tests.gguf_helpers import (
    CASES,
    CONTEXT,
    HEAD_SIZE,
    IDS,
    TEMPLATE,
    TOKENS,
    K,
    Reference,
    name_of,
    packed,
    tiny_gguf,
)
from workshop_lib import machine
from workshop_lib.__main__ import main
from workshop_lib.errors import ConfigurationError, DataFileError, DiskSpaceError, WorkshopError
from workshop_lib.models import gguf, gguf_file, registry, smollm2
from workshop_lib.models.folder import read_folder
from workshop_lib.models.gguf import import_gguf
from workshop_lib.models.gguf_file import OFFICIAL_ROUTE, GgufFile
from workshop_lib.models.gguf_graph import GraphWriter

if TYPE_CHECKING:
    from pathlib import Path

LOGITS = np.load(REPOSITORY / "tests" / "gguf_logits.npz")


HEAD_BYTES = 6000
"""Metadata and descriptions of the tensors of a tiny file, which come before its weights."""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tiny file's content."""
    file = tmp_path_factory.mktemp("head") / "tiny.gguf"
    tiny_gguf(file, quantisation=K.Q4_0)
    return file.read_bytes()


def answers(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The runtime's logits after all ids but the last, and after that one too."""
    model = onnxruntime_genai.Model(str(folder))
    options = onnxruntime_genai.GeneratorParams(model)
    options.set_search_options(max_length=CONTEXT)
    generator = onnxruntime_genai.Generator(model, options)
    found = []
    for ids in (IDS[:-1], IDS[-1:]):
        generator.append_tokens(ids)
        found.append(np.array(generator.get_logits()).ravel())
    return found[0], found[1]


@pytest.mark.parametrize("precision", ["exact4", "fp32"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_folder_computes_what_the_file_means(tmp_path: Path, case: dict[str, Any], precision: Any) -> None:
    """Prompt and next token give the logits that numpy works out from the file's own numbers."""
    tensors = tiny_gguf(tmp_path / "tiny.gguf", **case)
    report = import_gguf(tmp_path / "tiny.gguf", tmp_path / "out", precision=precision)
    assert {tensor.name for tensor in report.tensors} == set(tensors)
    assert all(tensor.exact for tensor in report.tensors)
    reference = Reference(tensors, case["kind"])
    for ids, logits in zip((IDS[:-1], IDS), answers(tmp_path / "out"), strict=True):
        np.testing.assert_allclose(logits, reference.logits(ids), atol=2e-4 * np.abs(logits).max())


@pytest.mark.parametrize("case", [case for case in CASES if name_of(case) in LOGITS], ids=name_of)
def test_the_reference_in_numpy_is_what_transformers_computes(tmp_path: Path, case: dict[str, Any]) -> None:
    """`tests/benchmarks/gguf_logits.py` asked transformers; biases of a Llama are left out, as it drops them."""
    tensors = tiny_gguf(tmp_path / "tiny.gguf", **case)
    found = Reference(tensors, case["kind"]).logits(IDS)
    np.testing.assert_allclose(found, LOGITS[name_of(case)], atol=2e-6 * np.abs(found).max())


def test_every_type_whose_codes_are_kept_was_compared_in_both_architectures() -> None:
    """No reader of codes without transformers' word on it."""
    compared = {(case["kind"], case["quantisation"]) for case in CASES if name_of(case) in LOGITS}
    assert compared == {(kind, quantisation) for kind in ("llama", "qwen2") for quantisation in gguf_file.READERS}


def test_scaled_positions_are_honoured(tmp_path: Path) -> None:
    """Linear scaling divides the positions, `rope_freqs.weight` the frequencies."""
    factors = {"rope_freqs.weight": np.linspace(1, 8, HEAD_SIZE // 2, dtype=np.float32)}
    scaling = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    tensors = tiny_gguf(tmp_path / "tiny.gguf", changes=scaling, extra=factors)
    import_gguf(tmp_path / "tiny.gguf", tmp_path / "out", precision="fp32")
    expected = Reference(tensors, "llama", rope_factor=4.0).logits(IDS)
    np.testing.assert_allclose(answers(tmp_path / "out")[1], expected, atol=2e-4 * np.abs(expected).max())
    assert np.abs(expected - Reference(tensors, "llama").logits(IDS)).max() > 0.01


@pytest.mark.parametrize(("precision", "least"), [("int8", 0.999), ("int4", 0.95)])
def test_rounded_builds_come_near(tmp_path: Path, precision: Any, least: float) -> None:
    """Rounding changes the logits little, and the report says what was rounded."""
    tensors = tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q4_1)
    report = import_gguf(tmp_path / "tiny.gguf", tmp_path / "out", precision=precision)
    rounded = {tensor.name for tensor in report.tensors if not tensor.exact}
    assert rounded == {name for name, values in tensors.items() if values.ndim == 2}
    expected = Reference(tensors, "llama").logits(IDS)
    assert np.corrcoef(answers(tmp_path / "out")[1], expected)[0, 1] > least


def values_of(weights: gguf_file.Weights) -> np.ndarray:
    """What codes stand for, `[rows, columns]`."""
    if not isinstance(weights, gguf_file.Codes):
        return weights
    offsets = 0 if weights.offsets is None else weights.offsets[..., None]
    return (weights.codes.astype(np.float32) * weights.scales[..., None] + offsets).reshape(len(weights.codes), -1)


@pytest.mark.parametrize("kind", [K.Q4_0, K.Q4_1, K.Q8_0, K.Q4_K, K.Q6_K])
def test_codes_mean_the_same_bit_for_bit(kind: K) -> None:
    """Codes, scales and offsets give `gguf`'s own dequantisation exactly."""
    random = np.random.default_rng(3)
    raw = packed(random.normal(size=(48, 512)).astype(np.float32), kind, random)
    codes = gguf_file.own_codes(raw, kind)
    assert codes is not None
    assert np.array_equal(values_of(codes), dequantize(raw, kind))


@pytest.mark.parametrize(("kind", "precision", "how"), [
    (K.Q4_0, "int4", "codes kept, in 4 bits"),
    (K.Q4_0, "int8", "codes kept, in 8 bits"),
    (K.Q6_K, "int8", "codes kept, in 8 bits"),
    (K.Q8_0, "int4", "rounded to 4 bits"),
    (K.Q4_1, "int8", "rounded to 8 bits"),
    (K.Q5_0, "exact4", "rounded to 8 bits"),
    (K.F16, "exact4", "kept as float32"),
])  # fmt: skip
def test_codes_that_fit_are_kept(kind: K, precision: Any, how: str) -> None:
    """What a precision can hold it keeps exactly; the rest is rounded to it, and said."""
    random = np.random.default_rng(3)
    raw = packed(random.normal(size=(4, 256)).astype(np.float32), kind, random)
    weights, exact, said = gguf_file.keep(raw, kind, precision)
    assert (said, exact) == (how, "rounded" not in how)
    assert np.array_equal(values_of(weights), dequantize(raw, kind)) is exact


def test_rounding_is_worked_by_hand() -> None:
    """4 bits: the largest weight becomes -8; 8 bits: it becomes ±127. A block of zeros stays zero."""
    values = np.zeros((1, 64), np.float32)
    values[0, :4] = [4.0, 1.0, -2.2, -4.0]
    four, eight = gguf_file.rounded(values, 4), gguf_file.rounded(values, 8)
    assert four.codes[0, 0, :4].tolist() == [-8, -2, 4, 7]
    assert four.scales.tolist() == [[-0.5, 0.0]]
    assert eight.codes[0, 0, :4].tolist() == [127, 32, -70, -127]
    assert not values_of(four)[0, 32:].any()


@pytest.mark.parametrize(("changes", "words"), [
    ({"general.architecture": "gemma"}, "architecture 'gemma'"),
    ({"split.count": 3}, "one of 3 parts"),
    ({"llama.expert_count": 8}, "mixture of experts"),
    ({"llama.attention.sliding_window": 128}, "sliding window"),
    ({"llama.attn_logit_softcapping": 30.0}, "caps its attention scores"),
    ({"llama.final_logit_softcapping": 30.0}, "caps its logits"),
    ({"llama.logit_scale": 0.5}, "sets llama.logit_scale"),
    ({"llama.rope.scaling.type": "yarn"}, "scales its positions by 'yarn'"),
    ({"llama.rope.scaling.type": "longrope"}, "scales its positions by 'longrope'"),
    ({"llama.rope.dimension_count": 32}, "a rotary part of 32 numbers"),
    ({"llama.attention.value_length": 32}, "values of 32 numbers"),
    ({"llama.attention.head_count_kv": [2, 1]}, "its layers differ"),
    ({"llama.block_count": None}, "lacks the key llama.block_count"),
    ({"llama.block_count": 3}, "lacks the tensor blk.2."),
    ({"llama.block_count": 1}, "holds blk.1."),
    ({"tokenizer.ggml.model": "llama"}, "SentencePiece"),
    ({"tokenizer.ggml.pre": "tekken"}, "cuts texts in the way 'tekken'"),
    ({"tokenizer.ggml.pre": None}, "cuts texts in the way 'default'"),
    ({"tokenizer.ggml.add_bos_token": True}, "a token before each text"),
    ({"tokenizer.ggml.tokens": [*TOKENS, "more"], "tokenizer.ggml.token_type": [1] * 260}, "names 260 tokens"),
    ({"tokenizer.ggml.eos_token_id": None}, "no token that ends an answer"),
    ({"tokenizer.chat_template": None}, "no chat template"),
])  # fmt: skip
def test_what_cannot_be_imported_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """The reason and the official route, in one line; nothing is left behind."""
    file = tmp_path / "tiny.gguf"
    kind = changes.pop("general.architecture", "llama")
    tiny_gguf(file, kind, changes=changes)
    with pytest.raises(DataFileError) as caught:
        import_gguf(file, tmp_path / "out")
    assert words in caught.value.what
    assert caught.value.fix == OFFICIAL_ROUTE
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("keep", [0, 3, 4, 20, 400, 3000, 0.5, 0.999])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, keep: float) -> None:
    """A download that broke off anywhere is named as such, and so is a file of another kind."""
    file = tmp_path / "tiny.gguf"
    tiny_gguf(file, quantisation=K.Q4_0)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataFileError, match=r"tiny\.gguf is (no GGUF file|damaged or incomplete)"):
        import_gguf(file, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_or_precision_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Neither is guessed."""
    for name, words in (("none.gguf", r"none\.gguf cannot be read"), ("", "cannot be read|is no GGUF file")):
        with pytest.raises(DataFileError, match=words) as caught:  # a folder is likely a download of Hugging Face
            import_gguf(tmp_path / name, tmp_path / "out")
        assert OFFICIAL_ROUTE in caught.value.fix
    with pytest.raises(ConfigurationError, match="no precision 'int2'"):
        import_gguf(tmp_path / "none.gguf", tmp_path / "out", precision="int2")  # type: ignore[arg-type]


def test_tokens_are_cut_as_the_file_says(tmp_path: Path) -> None:
    """Merges, digits, special tokens and line breaks, from text to ids and back, by the runtime's own tokenizer."""
    tiny_gguf(tmp_path / "tiny.gguf")
    import_gguf(tmp_path / "tiny.gguf", tmp_path / "out", precision="fp32")
    tokenizer = onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(tmp_path / "out")))
    text = "<|im_start|>he said:\n 12 Äpfel<|im_end|>"
    ids = [int(token) for token in tokenizer.encode(text)]
    assert ids[:3] == [257, 256, TOKENS.index("Ġ")]
    assert ids[-1] == 258
    assert TOKENS.index("1") in ids and TOKENS.index("Ċ") in ids
    assert tokenizer.decode([token for token in ids if token < 257]) == "he said:\n 12 Äpfel"
    prompt = tokenizer.apply_chat_template(json.dumps([{"role": "user", "content": "he"}]), add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nhe<|im_end|>\n<|im_start|>assistant\n"
    assert (tmp_path / "out" / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE


def test_the_folder_says_what_it_is(tmp_path: Path) -> None:
    """Licence, source, hash and how many tensors are exact are in the card; the runtime is told to use the cores."""
    tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q4_1)
    report = import_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    found = read_folder(tmp_path / "out")
    assert (found.licence, found.context_tokens) == ("mit", CONTEXT)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert report.sha256 in card and "tiny.gguf" in card
    assert f"{report.exact_tensors} of {len(report.tensors)}" in card
    options = json.loads((tmp_path / "out" / "genai_config.json").read_text())["model"]["decoder"]["session_options"]
    assert options["intra_op_num_threads"] == psutil.cpu_count(logical=False)
    tiny_gguf(tmp_path / "tiny.gguf", changes={"general.license": None})
    import_gguf(tmp_path / "tiny.gguf", tmp_path / "unknown", precision="int4")
    assert read_folder(tmp_path / "unknown").licence is None
    given = import_gguf(tmp_path / "tiny.gguf", tmp_path / "other", precision="int4", licence="my own")
    assert (given.licence, read_folder(tmp_path / "other").licence) == ("my own", "my own")


def test_the_same_import_is_not_repeated_and_another_replaces_it(tmp_path: Path) -> None:
    """A folder that is no import is never touched."""
    tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q4_0)
    first = import_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    written = (tmp_path / "out" / "model.onnx.data").stat()
    assert import_gguf(tmp_path / "tiny.gguf", tmp_path / "out") == first
    assert (tmp_path / "out" / "model.onnx.data").stat() == written
    assert import_gguf(tmp_path / "tiny.gguf", tmp_path / "out", precision="int8").precision == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tiny.gguf"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigurationError, match="was not imported"):
        import_gguf(tmp_path / "tiny.gguf", tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, and neither a folder nor a part of one stays."""
    tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q4_0)

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(GraphWriter, "stored", full)
    with pytest.raises(DiskSpaceError):
        import_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_space_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little disk or memory is said before anything is written."""
    tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q4_0)
    monkeypatch.setattr(machine, "free_disk_mb", lambda _: 50.0)
    with pytest.raises(DiskSpaceError, match="and 50 MB are free"):
        import_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(gguf, "_BASE_MB", 1e12)
    with pytest.raises(WorkshopError, match="of memory"):
        import_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_killed_import_leaves_no_model_and_the_next_one_works(tmp_path: Path) -> None:
    """Whenever the process dies, the folder is not there; what it left is swept away."""
    tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q4_0)
    for moment in ("os.fsync", "json.dumps", "workshop_lib.models.gguf._card"):
        code = (
            "import os, sys, json\nfrom unittest import mock\nfrom workshop_lib.models.gguf import import_gguf\n"
            f"with mock.patch({moment!r}, lambda *_, **__: os._exit(9)):\n    import_gguf(*sys.argv[1:])\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "tiny.gguf"), str(tmp_path / "out")]
        assert subprocess.run(command, cwd=REPOSITORY, check=False, stderr=subprocess.DEVNULL).returncode == 9
        assert not (tmp_path / "out").exists()
        assert (tmp_path / ".out.importing").exists()
    import_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the reason and what to do; nothing is registered."""
    tiny_gguf(tmp_path / "tiny.gguf", "gemma3")
    assert main(["import", str(tmp_path / "tiny.gguf"), "--alias", "tiny"]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert "has the architecture 'gemma3'" in said.err


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_whatever_the_head_of_a_file_holds_is_imported_or_refused(
    tmp_path: Path, head: bytes, changes: list[tuple[float, int]]
) -> None:
    """Any damage to sizes, names and texts ends in a `DataFileError`, at once."""
    damaged = bytearray(head)
    for place, value in changes:
        damaged[4 + int(place * (HEAD_BYTES - 4))] = value
    file = tmp_path / "damaged.gguf"
    file.write_bytes(damaged)
    with suppress(DataFileError):
        opened = GgufFile(file)
        gguf.folder_texts(opened, threads=1)


@pytest.mark.slow
def test_the_command_registers_each_precision_under_one_alias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and one id each; the runtime has loaded them; once more changes nothing; another file is refused."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q4_0)
    arguments = ["import", str(tmp_path / "tiny.gguf"), "--alias", "tiny", "--precision", "exact4,int8"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "Imported and registered: tiny-exact4-cpu:1",
        "Imported and registered: tiny-int8-cpu:1",
    ]
    assert [(model.alias, model.precision, model.licence) for model in registry.read()] == [
        ("tiny", "exact4", "mit"),
        ("tiny", "int8", "mit"),
    ]
    assert main(arguments) == 0
    assert len(registry.read()) == 2
    assert main(["import", str(tmp_path / "none.gguf"), "--alias", "other"]) == 2
    tiny_gguf(tmp_path / "tiny.gguf", quantisation=K.Q8_0)
    assert main(arguments) == 2
    assert "unregister tiny" in capsys.readouterr().err
    assert main(["unregister", "tiny"]) == 0
    assert registry.read() == ()


@pytest.mark.parametrize(("options", "said"), [
    (["--alias", "../../elsewhere"], "lower-case letters"),
    (["--alias", "tiny", "--precision", "exact4,int3"], "--precision is 'exact4,int3'"),
    ([], "There is no --alias"),
])  # fmt: skip
def test_a_command_that_cannot_be_done_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    """Exit code 2 and one line; no folder lies about, least of all outside the model cache."""
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    tiny_gguf(tmp_path / "tiny.gguf")
    assert main(["import", str(tmp_path / "tiny.gguf"), *options]) == 2
    assert said in capsys.readouterr().err.splitlines()[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.gguf"]


def test_the_real_model_has_an_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`import smollm2` fetches it, and names it."""
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(smollm2, "fetch", lambda: tmp_path / "model.gguf")
    monkeypatch.setattr(gguf, "import_as", lambda *given, licence: asked.append(given) or ())
    assert main(["import", "smollm2", "--precision", "int4,fp32"]) == 0
    assert asked == [(tmp_path / "model.gguf", "smollm2-135m", ("int4", "fp32"))]
