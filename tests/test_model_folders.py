"""A folder of one's own: what is looked at, what is refused and why, and that the real runtime serves it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.foundry_helpers import ask, practice
from workshop_lib import catalog, places
from workshop_lib.errors import ConfigurationError, DataFileError, DiskSpaceError, ModelNotFoundError
from workshop_lib.instrument import machine
from workshop_lib.measuring import plan
from workshop_lib.providers import CPU_PROVIDER
from workshop_lib.registration import model_cards, model_folders, onnx_weights, registered_models, tokenizer_files
from workshop_lib.registration.genai_config import read_config
from workshop_lib.registration.model_folders import examine, register_folder
from workshop_lib.registration.onnx_weights import read_weights
from workshop_lib.serving import offers
from workshop_lib.serving.foundry import FoundryRuntime
from workshop_lib.serving.practice_catalog import PracticeCatalog
from workshop_lib.untrusted import one_line

SHIPPED = catalog.DATA_FOLDER / "practice_models"
SMALL = SHIPPED / "practice-small-int4-generic-cpu"
CAN_LINK = os.name == "posix"


def copy_of(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped model that a test may break."""
    return copy_of(SMALL, tmp_path / "my model")


def edit_config(folder: Path, change: Callable[[dict], object]) -> None:
    file = folder / "genai_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    change(config)
    file.write_text(json.dumps(config), encoding="utf-8")


def status(folder: Path) -> dict[str, str]:
    return {check.name: check.status for check in examine(folder).checks}


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()))
def test_what_a_shipped_folder_is_can_be_read_from_its_files(name):
    """Device, provider, precision, context and size come out as the index of the shipped models states them."""
    index = catalog.read_practice_index()
    variant = next(each for model in index.models for each in model.variants if each.folder == name)
    report = examine(SHIPPED / name)
    assert report.failed == ()
    assert (report.device, report.execution_provider) == (variant.device, variant.execution_provider)
    assert (report.precision, report.context_tokens) == (variant.precision, 1024)
    assert report.size_mb == variant.size_mb
    assert set(report.files) == set(variant.files)


def test_what_cannot_be_known_is_said_to_be_unknown():
    """Without a model card or a licence file there is no licence, and that fails nothing."""
    report = examine(SMALL)
    licence = next(check for check in report.checks if check.name == "licence")
    assert (licence.status, report.licence) == ("unknown", None)
    assert "Find its licence before you use it" in licence.to_do
    assert report.failed == ()


Break = Callable[[Path], object]


def gone(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: str | bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def cut_off(name: str, at: int) -> Break:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:at])


def without(*keys: str) -> Break:
    """The configuration without the last of these keys."""

    def change(config: dict) -> None:
        for key in keys[:-1]:
            config = config[key]
        del config[keys[-1]]

    return lambda folder: edit_config(folder, change)


def model(**values: object) -> Break:
    return lambda folder: edit_config(folder, lambda config: config["model"].update(values))


def decoder(**values: object) -> Break:
    return lambda folder: edit_config(folder, lambda config: config["model"]["decoder"].update(values))


def a_folder_in_its_place(folder: Path) -> None:
    (folder / CONFIG).unlink()
    (folder / CONFIG).mkdir()


CONFIG, TOKENIZER, TEMPLATE = "genai_config.json", "tokenizer.json", "chat_template.jinja"
BREAKS: dict[str, tuple[str, Break, str]] = {
    "no configuration": (CONFIG, gone(CONFIG), "is missing"),
    "no JSON": (CONFIG, holding(CONFIG, '{"model": '), "is not JSON at line 1"),
    "binary": (CONFIG, holding(CONFIG, b"\xff\xfe\x00"), "is not UTF-8"),
    "a list": (CONFIG, holding(CONFIG, "[1]"), "is no JSON object"),
    "too deep": (CONFIG, holding(CONFIG, "[" * 100_000), "too deeply"),
    "a long number": (CONFIG, holding(CONFIG, "9" * 5000), "is no JSON that Python reads"),
    "UTF-16": (CONFIG, lambda folder: folder.joinpath(CONFIG).write_text("{}", "utf-16"), "reads UTF-8 only"),
    "generation_config.json": (CONFIG, holding(CONFIG, '{"eos_token_id": 2}'), "configuration of Hugging Face"),
    "config.json": (CONFIG, holding(CONFIG, '{"architectures": ["X"], "model_type": "x"}'), "configuration of Hugging"),
    "huge": (CONFIG, holding(CONFIG, " " * 4_000_001), "4000001 bytes"),
    "a folder": (CONFIG, a_folder_in_its_place, "is no file"),
    "no model": (CONFIG, without("model"), "'model' is missing"),
    "no type": (CONFIG, without("model", "type"), "'model.type' is missing"),
    "no vocabulary": (CONFIG, model(vocab_size=0), "'model.vocab_size' is 0"),
    "context as text": (CONFIG, model(context_length="1024"), "is '1024', no number"),
    "context as truth": (CONFIG, model(context_length=True), "is True, no number"),
    "no file name": (CONFIG, without("model", "decoder", "filename"), "filename' is missing"),
    "no head size": (CONFIG, without("model", "decoder", "head_size"), "head_size' is missing"),
    "a name that is none": (CONFIG, decoder(filename=3), "is 3, no file name"),
    "unknown provider": (CONFIG, decoder(session_options={"provider_options": [{"abacus": {}}]}), "'abacus'"),
    "providers no list": (CONFIG, decoder(session_options={"provider_options": "cuda"}), "is no list of providers"),
    "a way out": ("model files", decoder(filename="../model.onnx"), "'../model.onnx', which may lead out"),
    "an absolute way out": ("model files", decoder(filename="/etc/passwd"), "may lead out"),
    "a Windows way out": ("model files", decoder(filename="C:\\x.onnx"), "may lead out"),
    "no model file": ("model files", gone("model.onnx"), "model.onnx is missing"),
    "an empty model file": ("model files", holding("model.onnx", b""), "cannot be read"),
    "a text as model": ("model files", holding("model.onnx", "not found"), "is no complete ONNX model"),
    "half a model file": ("model files", cut_off("model.onnx", 9000), "bytes too early"),
    "no weights": ("model files", gone("model.onnx.data"), "model.onnx.data is missing"),
    "weights cut off": ("model files", cut_off("model.onnx.data", 269_055), "269055 bytes, and the model needs 269056"),
    "no vocabulary file": ("tokenizer", gone(TOKENIZER), "tokenizer.json is missing"),
    "a vocabulary cut off": ("tokenizer", holding(TOKENIZER, '{"model": {'), "tokenizer.json is no JSON"),
    "a vocabulary of none": ("tokenizer", holding(TOKENIZER, "{}"), "holds no 'model'"),
    "a vocabulary no object": ("tokenizer", holding(TOKENIZER, "3"), "is no JSON object"),
    "no tokenizer class": ("tokenizer", holding("tokenizer_config.json", "{}"), "names no 'tokenizer_class'"),
    "no chat template": ("chat template", gone(TEMPLATE), "Neither chat_template.jinja"),
    "an empty chat template": ("chat template", holding(TEMPLATE, ""), "is empty"),
}
"""Name → the check that must fail, how to break a folder, and what the check must say."""


@pytest.mark.parametrize("name", BREAKS)
def test_each_way_to_be_broken_fails_its_check_and_says_what_to_do(folder, name):
    """One check fails, with the value seen and a next step; registering says the same in one error."""
    check_name, break_it, said = BREAKS[name]
    break_it(folder)
    failed = {check.name: check for check in examine(folder).failed}
    assert list(failed) == [check_name]
    assert said in failed[check_name].seen
    assert failed[check_name].to_do
    with pytest.raises(DataFileError) as error:
        register_folder(folder, alias="mine", cache_dir=folder.parent / "cache")
    assert check_name in error.value.what and said in error.value.what
    assert "\n" not in str(error.value)
    assert registered_models.read(folder.parent / "cache") == ()


NO_FILES = """
import os, pathlib, sys
from workshop_lib.registration.model_folders import examine
folder = pathlib.Path(sys.argv[1])
for name in sys.argv[2:]:
    file, aside = folder / name, folder / "aside"
    if file.exists():
        file.rename(aside)
    for make in (os.mkfifo, lambda file: file.symlink_to("/dev/zero")):
        make(file)
        print(name, *(check.seen for check in examine(folder).failed))
        file.unlink()
    if aside.exists():
        aside.rename(file)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files in folders")
def test_what_is_no_file_is_never_opened(folder):
    """A pipe, or a link to an endless device, neither holds the look up nor fills the memory."""
    needed, told = (CONFIG, "model.onnx", TOKENIZER, "tokenizer_config.json"), ("README.md", "LICENSE")
    found = subprocess.run(  # apart, with a limit of time: a look that opened them would never end
        [sys.executable, "-c", NO_FILES, str(folder), *needed, *told],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": places.search_path()},
    )
    lines = found.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [name for name in (*needed, *told) for _ in range(2)]
    assert all("is no file." in line for line in lines[:8]), "a pipe and a device, each named by the check of its name"
    assert lines[8:] == ["README.md"] * 2 + ["LICENSE"] * 2


def test_every_failed_check_is_named_at_once(folder):
    """Who mends a folder learns of all its faults in one go."""
    for name in ("tokenizer.json", "chat_template.jinja", "model.onnx"):
        (folder / name).unlink()
    with pytest.raises(DataFileError) as error:
        register_folder(folder, alias="mine", cache_dir=folder.parent / "cache")
    assert all(name in error.value.what for name in ("model files:", "tokenizer:", "chat template:"))
    assert {check.name for check in examine(folder).failed} == {"model files", "tokenizer", "chat template"}


@pytest.mark.parametrize("place", ["nothing", "file"])
def test_what_is_no_folder_is_one_failed_check(tmp_path, place):
    """A path that leads nowhere, or to a file, is named."""
    (tmp_path / "file").write_text("x")
    (check,) = examine(tmp_path / place).checks
    assert check.status == "failed" and str(tmp_path / place) in check.seen
    assert status(SMALL)["folder"] == "passed"


def test_a_folder_that_may_not_be_read_is_one_failed_check(monkeypatch):
    """Where the system refuses, its reason is said, and there is no traceback."""

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    (check,) = examine(SMALL).checks
    assert (check.name, check.status) == ("folder", "failed")
    assert "cannot be read (Permission denied)" in check.seen


@pytest.mark.skipif(not CAN_LINK, reason="links need a right of their own on Windows")
def test_a_download_cache_of_links_is_a_folder_like_any_other(tmp_path):
    """Hugging Face keeps links to files elsewhere: they are followed and said; one that leads nowhere has failed."""
    blobs, linked = copy_of(SMALL, tmp_path / "blobs"), tmp_path / "snapshot"
    linked.mkdir()
    for file in blobs.iterdir():
        (linked / file.name).symlink_to(Path("..") / "blobs" / file.name)
    report = examine(linked)
    assert report.failed == () and report.size_mb == examine(SMALL).size_mb
    assert "a link" in next(check.seen for check in report.checks if check.name == "model files")
    (blobs / "model.onnx.data").unlink()
    assert status(linked)["model files"] == "failed"


def test_the_template_may_stand_in_the_tokenizers_configuration(folder):
    """Older models keep it there, and the runtime reads both."""
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "{{ messages }}"}))
    assert status(folder)["chat template"] == "passed"


def provider(name: str, **options: str) -> Callable[[dict], object]:
    return lambda c: c["model"]["decoder"]["session_options"].update(provider_options=[{name: options}])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["model"]["decoder"].pop("session_options"), ("cpu", CPU_PROVIDER)),
        (provider("cuda"), ("gpu", "CUDAExecutionProvider")),
        (provider("WebGPU"), ("gpu", "WebGpuExecutionProvider")),
        (provider("QNN"), ("npu", "QNNExecutionProvider")),
        (provider("OpenVINO"), ("cpu", "OpenVINOExecutionProvider")),
        (provider("OpenVINO", device_type="GPU.0"), ("gpu", "OpenVINOExecutionProvider")),
        (provider("OpenVINO", device_type="NPU"), ("npu", "OpenVINOExecutionProvider")),
    ],
)
def test_the_device_is_what_the_configuration_names(folder, change, expected):
    """No provider means the CPU; OpenVINO says on which of three devices it runs."""
    edit_config(folder, change)
    config = read_config(folder)
    assert (config.device, config.execution_provider) == expected


QNN, CUDA, CPU = {"qnn": {}}, {"cuda": {}}, {"cpu": {}}


def session(*providers: dict) -> dict:
    return {"session_options": {"provider_options": list(providers)}}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"decoder": {"pipeline": [{"a": session()}, {"b": session(QNN)}]}}, "QNNExecutionProvider"),
        ({"decoder": {"pipeline": {"a": session(CPU), "b": session(QNN)}}}, "QNNExecutionProvider"),
        ({"decoder": {**session(CPU), "pipeline": [{"a": {"deeper": [session(QNN)]}}]}}, "QNNExecutionProvider"),
        ({"decoder": {**session(CUDA), "pipeline": [{"a": session(QNN)}]}}, "CUDAExecutionProvider"),
        ({"decoder": session(CPU, CUDA)}, "CUDAExecutionProvider"),
        ({"decoder": session({**CPU, **CUDA})}, "CUDAExecutionProvider"),
        ({"decoder": session(CPU), "vision": session(QNN)}, "QNNExecutionProvider"),
        ({"decoder": session({"OpenVINO": {}}, CPU)}, "OpenVINOExecutionProvider"),
        ({"decoder": {"pipeline": [{"a": session()}]}}, CPU_PROVIDER),
    ],
)
def test_a_provider_counts_wherever_it_is_named(folder, parts, expected):
    """One stage on an NPU makes a model of the NPU: the first provider of any part that is not the CPU's."""
    edit_config(folder, lambda c: c["model"].update({name: {"filename": "a.onnx", **part, "head_size": 8}
                                                     for name, part in parts.items()}))  # fmt: skip
    config = read_config(folder)
    assert config.execution_provider == expected
    assert config.device == {"QNN": "npu", "CUD": "gpu"}.get(expected[:3], "cpu")


def test_an_unknown_provider_of_a_stage_is_named_with_its_place(folder):
    """What the runtime would refuse is refused here, with the key."""
    edit_config(folder, lambda c: c["model"]["decoder"].update(pipeline=[{"a": session({"abacus": {}})}]))
    with pytest.raises(
        DataFileError, match=r"'model\.decoder\.pipeline\.a\.session_options\.provider_options'.*abacus"
    ):
        read_config(folder)


@pytest.mark.parametrize("below", ["cpu", "onnx/int4"])
def test_a_model_that_lies_deeper_is_named(folder, tmp_path, below):
    """A download that holds the model in a folder of its own: the error says which folder to give."""
    (tmp_path / "download" / below).parent.mkdir(parents=True)
    folder.rename(tmp_path / "download" / below)
    (check,) = [each for each in examine(tmp_path / "download").failed if each.name == CONFIG]
    assert (tmp_path / "download" / below).as_posix() in check.to_do


@pytest.mark.parametrize("typed", ["{}/", '"{}"', "'{}/'", "  {} "])
def test_a_folder_may_be_pasted(folder, typed):
    """Quotes, spaces around it and a slash at the end change nothing."""
    assert examine(typed.format(folder)).failed == ()


def test_a_model_of_several_parts_names_all_its_files(folder):
    """Embedding, decoder and the stages of a pipeline are files like the model itself, each named once."""
    edit_config(
        folder,
        lambda c: c["model"].update(
            embedding={"filename": "embedding.onnx"},
            decoder={"pipeline": [{"first": {"filename": "a.onnx"}}, {"last": {"filename": "a.onnx"}}]},
        ),
    )
    assert read_config(folder).model_files == ("a.onnx", "embedding.onnx")


# ONNX, byte by byte: a field is (number << 3 | kind), then a number, or a length and the bytes.


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3]) + varint(content)
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    more, last = number >> 7, number & 0x7F
    return bytes([last | 0x80]) + varint(more) if more else bytes([last])


def weight(kind: int, *dimensions: int, **place: str) -> bytes:
    entries = [field(1, key.encode()) + field(2, value.encode()) for key, value in place.items()]
    sizes = b"".join(field(1, size) for size in dimensions)
    return sizes + field(2, kind) + b"".join(field(13, entry) for entry in entries)


def onnx(*weights: bytes, nodes: tuple[bytes, ...] = ()) -> bytes:
    graph = b"".join(field(1, node) for node in nodes) + b"".join(field(5, each) for each in weights)
    return field(1, 10) + field(7, graph)


def rounded(bits: int) -> bytes:
    return field(4, b"MatMulNBits") + field(5, field(1, b"bits") + field(3, bits))


@pytest.mark.parametrize(
    ("content", "external", "precision"),
    [
        (onnx(weight(1, 2, 3)), {}, "fp32"),
        (onnx(weight(10, 100), weight(1, 99)), {}, "fp16"),
        (onnx(weight(1, 100, location="w.data", offset="64", length="400")), {"w.data": 464}, "fp32"),
        (onnx(weight(1, 1, location="w", length="8"), weight(1, 1, location="w", offset="2")), {"w": 8}, "fp32"),
        (onnx(weight(1, 1000), nodes=(rounded(4), rounded(4), rounded(8))), {}, "int4"),
        (onnx(), {}, None),
    ],
)
def test_weights_are_read_from_the_bytes_of_the_file(tmp_path, content, external, precision):
    """The last byte needed is offset plus length; packed weights say their bits, others count by their number."""
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    weights = read_weights(file)
    assert (dict(weights.external), weights.precision) == (external, precision)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (field(1, 10), "holds no graph"),
        (b"\x3a\x7f", "ends 127 bytes too early"),
        (b"\x3b", "belongs to no field"),
        (b"\xff" * 11, "does not end"),
        (onnx(weight(1, 1, location="w", offset="x")), "is no number"),
        (onnx(weight(1, *[1] * 17)), "17 dimensions"),
        (onnx(field(13, field(1, b"location"))), "has no name"),
        (onnx(nodes=(field(4, b"\xff\xff"),)), "is no text"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, content, said):
    """Every way in which bytes can be wrong is one error with the file's name."""
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(DataFileError, match=rf"model\.onnx is no complete ONNX model.*{said}"):
        read_weights(file)


def test_numbers_may_be_packed_together(tmp_path):
    """Three dimensions in one field are those of three fields: 2 x 3 x 50 values outnumber 299 of another kind."""
    file = tmp_path / "model.onnx"
    packed = field(1, varint(2) + varint(3) + varint(50)) + field(2, 10)
    file.write_bytes(onnx(packed, weight(1, 299), b"\x4d1234" + field(2, 10)))
    assert read_weights(file).precision == "fp16"


def test_a_file_of_nothing_but_fields_is_not_read_for_minutes(tmp_path, monkeypatch):
    """Nonsense of gigabytes ends at a limit that no model reaches."""
    monkeypatch.setattr(onnx_weights, "_MOST_NUMBERS", 1000)
    file = tmp_path / "model.onnx"
    file.write_bytes(field(1, 1) * 1000)
    with pytest.raises(DataFileError, match="more than 1000 fields"):
        read_weights(file)


def test_a_tokenizer_without_end_is_not_read(folder, monkeypatch):
    """What no tokenizer has in bytes is refused before it is read."""
    monkeypatch.setattr(tokenizer_files, "LONGEST_BYTES", 1000)
    assert status(folder)["tokenizer"] == "failed"


@given(cut=st.integers(1, 19_552), changed=st.integers(0, 19_552), to=st.integers(0, 255))
def test_damage_anywhere_never_raises_anything_else(tmp_path_factory, cut, changed, to):
    """Cut anywhere and with any byte changed, a model file is read or refused, quickly."""
    content = bytearray((SMALL / "model.onnx").read_bytes())
    content[changed] = to
    file = tmp_path_factory.mktemp("damaged") / "model.onnx"
    file.write_bytes(content[:cut])
    started = time.monotonic()
    with suppress(DataFileError):
        read_weights(file)
    assert time.monotonic() - started < 20


@given(st.text(max_size=300))
def test_any_model_card_is_read(text):
    """Whatever stands at the top of a README, values are non-empty texts or left out."""
    head = model_cards.read_head(f"---\n{text}\n---\n")
    assert all(values and all(map(str.strip, values)) for values in head.values())
    assert all(value == one_line(value, 200) for values in head.values() for value in values), "fit to be shown"


@pytest.mark.parametrize(
    ("file", "text", "licence"),
    [
        ("README.md", "---\r\nlicense: MIT # as is\r\n---\r\n", "MIT"),
        ("README.md", '---\nlicense: other\nlicense_name: "gemma"\n---\n', "gemma"),
        ("README.md", "license: mit\n", None),
        ("LICENSE", "                Apache License\n          Version 2.0, January 2004", "apache-2.0"),
        ("LICENSE.txt", "MIT License\n\nCopyright", "mit"),
        ("LICENSE", "All rights reserved.", None),
        ("README.md", "---\nlicense: mi\x1b[2Jt\n---\n", "mi\ufffd[2Jt"),
        ("README.md", f"---\nlicense: {'x' * 900_000}\n---\n", f"{'x' * 199}\u2026"),
    ],
)
def test_a_licence_is_stated_or_unknown(folder, file, text, licence):
    """The head of the model card counts, then a licence file that is recognised; nothing is guessed."""
    (folder / file).write_bytes(text.encode())
    assert examine(folder).licence == licence


def test_a_report_can_be_read_by_people():
    """One sentence and one line of a table per check."""
    report = examine(SMALL)
    assert report.sentences()[6] == "device: passed. cpu, CPUExecutionProvider."
    shown = model_folders.table(report)
    assert list(shown.columns) == ["check", "status", "seen", "what to do"]
    assert len(shown) == len(report.checks) == 10


# On the real runtime


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def mine(tmp_path_factory, cache) -> Path:
    """A copy of practice-small int4, registered as `my-small`."""
    place = copy_of(SMALL, tmp_path_factory.mktemp("models") / "my-small")
    (place / "README.md").write_text("---\nlicense: mit\n---\n")
    register_folder(place, alias="my-small", capabilities=("explain",), cache_dir=cache)
    return place


@pytest.fixture(scope="module")
def runtime(cache, mine) -> Iterator:
    with practice(cache) as opened:
        yield opened


def test_the_runtime_serves_a_registered_folder_as_it_serves_the_shipped_ones(runtime):
    """Listed beside them, part of `auto`, copied when it is needed, and the same weights give the same answer."""
    (variant,) = runtime.find(["my-small"])
    assert (variant.model_id, variant.licence, variant.capabilities) == ("my-small-folder-cpu:1", "mit", ("explain",))
    assert (variant.precision, variant.context_tokens, variant.cached) == ("int4", 1024, False)
    assert variant in runtime.find(["auto"]) and len(runtime.find(["auto"])) == 7
    (shipped,) = runtime.find(["practice-small-int4-generic-cpu:1"])
    with runtime.serve(variant) as own, runtime.serve(shipped) as other:
        answer = ask(own.base_url, variant.model_id)
        assert answer.strip()
        assert answer == ask(other.base_url, shipped.model_id)
        assert own.pid != other.pid
    assert next(each.cached for each in runtime.list_models() if each.alias == "my-small")


def test_a_folder_that_changed_is_copied_anew(runtime, cache, mine):
    """The copy counts as not cached until it is what the folder is now; nothing else is copied again."""
    (variant,) = runtime.find(["my-small"])
    runtime.download(variant)
    copy = runtime.models_dir / "registered" / "my-small-folder-cpu-1"
    before = (copy / "model.onnx").stat().st_mtime_ns
    runtime.download(variant)
    assert (copy / "model.onnx").stat().st_mtime_ns == before
    (mine / "chat_template.jinja").write_text((SMALL / "chat_template.jinja").read_text() + "\n")
    assert not next(each.cached for each in runtime.list_models() if each.alias == "my-small")
    runtime.download(runtime.find(["my-small"])[0])
    assert (copy / "chat_template.jinja").read_bytes() == (mine / "chat_template.jinja").read_bytes()


def test_the_public_profile_lists_it_beside_the_public_catalog(cache, mine):
    """Several catalogs are asked; the registered folder is listed, served and part of `auto`, the others as before."""
    shelf = PracticeCatalog()

    class PublicLike(FoundryRuntime):
        """A catalog that can be reached without a network."""

        def _catalog_url(self):
            return shelf.url

    with PublicLike(cache_dir=cache) as public:
        aliases = {variant.alias for variant in public.list_models()}
        assert {"my-small", "practice-small", "practice-large"} <= aliases
        (variant,) = public.find(["auto"])
        with public.serve(variant) as served:
            assert ask(served.base_url, "my-small-folder-cpu:1").strip()
    shelf.close()


def test_without_a_network_the_registered_folders_are_still_there(cache, mine, monkeypatch, caplog):
    """The public catalog's silence is said once more than the listing can say it, and stops nothing."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FoundryRuntime(cache_dir=cache) as public:
        assert [variant.alias for variant in public.find(["auto"])] == ["my-small"]
    assert "The public catalog did not answer" in caplog.text


def test_a_folder_that_has_gone_is_left_out_with_the_reason(runtime, mine, caplog):
    """The others are listed as before; who asks for it by name, or serves it, is told why it is not there."""
    (variant,) = runtime.find(["my-small"])
    moved = mine.rename(mine.with_name("moved"))
    try:
        with pytest.raises(
            ModelNotFoundError, match=r"my-small' cannot be served.*is not there.*workshop.py unregister my-small"
        ):
            runtime.serve(variant)
        assert {each.alias for each in runtime.list_models()} == {"practice-small", "practice-medium", "practice-large"}
        assert len(runtime.find(["auto"])) == 6
        for name in ("my-small", "my-small-folder-cpu:1"):
            with pytest.raises(ModelNotFoundError, match="cannot be served"):
                runtime.find([name])
        (skipped,) = plan.choose_variants(runtime, ["auto"], ["cpu"])[1]
        assert (skipped[0].model_id, skipped[0].cached) == ("my-small-folder-cpu:1", False)
        assert "is not there. Bring the folder back as it was, or" in skipped[1]
        assert [record.levelno for record in caplog.records] == [logging.WARNING], "once, not at every look"
    finally:
        moved.rename(mine)
    assert "my-small" in {each.alias for each in runtime.list_models()}


def test_why_a_folder_is_left_out_tells_nobody_who_its_reader_is(tmp_path, monkeypatch):
    """The reason goes into reports that are handed on: the user's own folder is `~` there."""
    place = copy_of(SMALL, tmp_path / "ada" / "model")
    register_folder(place, alias="mine", cache_dir=tmp_path / "cache")
    shutil.rmtree(place)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "ada"))
    _, (left_out,) = offers.registered(tmp_path / "cache")
    assert "ada" not in left_out.reason
    assert f"{Path('~', 'model')} is not there" in left_out.reason


def test_a_model_for_a_gpu_that_is_not_here_says_so(runtime, cache, tmp_path):
    """Its alias is known, and the answer names the provider that is missing."""
    if "gpu" not in runtime.absent_devices():
        pytest.skip("this machine has a GPU")
    register_folder(SHIPPED / "practice-small-fp16-cuda-gpu", alias="my-gpu", cache_dir=cache)
    runtime.list_models()
    try:
        with pytest.raises(ModelNotFoundError, match="needs CUDAExecutionProvider, which is not registered"):
            runtime.find(["my-gpu"])
    finally:
        registered_models.remove("my-gpu", cache_dir=cache)


def test_unregistering_takes_it_out_of_the_catalog_and_its_copy_out_of_the_cache(tmp_path):
    """With the next look both are gone; the person's own folder stays."""
    place = copy_of(SMALL, tmp_path / "own")
    register_folder(place, alias="passing", cache_dir=tmp_path)
    with practice(tmp_path) as runtime:
        (variant,) = runtime.find(["passing"])
        runtime.download(variant)
        copies = runtime.models_dir / "registered"
        assert [path.name for path in copies.iterdir() if path.is_dir()] == ["passing-folder-cpu-1"]
        registered_models.remove("passing", cache_dir=tmp_path)
        assert "passing" not in {each.alias for each in runtime.list_models()}
        assert [path for path in copies.iterdir() if path.is_dir()] == []
    assert examine(place).failed == ()


def test_too_little_disk_is_found_before_the_copy(tmp_path, monkeypatch):
    """The error names what is needed, and nothing is left behind."""
    register_folder(SMALL, alias="mine", cache_dir=tmp_path)
    with practice(tmp_path) as runtime:
        runtime.list_models()
        (variant,) = runtime.find(["mine"])
        monkeypatch.setattr(machine, "free_disk_mb", lambda path: 1.0)
        with pytest.raises(DiskSpaceError, match=r"mine-folder-cpu:1 needs 50 MB"):
            runtime.download(variant)


def test_a_file_that_changes_while_it_is_copied_is_refused(tmp_path, monkeypatch):
    """What is copied half before and half after a change is no model; the cache stays without it."""
    place = copy_of(SMALL, tmp_path / "own")
    register_folder(place, alias="mine", cache_dir=tmp_path)
    ((offer,), _) = offers.registered(tmp_path)
    os.utime(place / "model.onnx", ns=(1, 1))
    shelf = PracticeCatalog()
    shelf.offers = (offer,)
    with pytest.raises(DataFileError, match=r"model\.onnx changed while it was copied"):
        shelf.install(offer.model_id, tmp_path / "models")
    assert [path for path in (tmp_path / "models" / "registered").iterdir() if path.is_dir()] == []


def test_a_folder_built_anew_for_another_device_must_be_registered_anew(tmp_path):
    """The id holds the device, so that a CPU's figures never stand under a GPU's name."""
    place = copy_of(SMALL, tmp_path / "own")
    register_folder(place, alias="mine", cache_dir=tmp_path)
    edit_config(place, provider("cuda"))
    (found, (left_out,)) = offers.registered(tmp_path)
    assert found == ()
    assert "was built for CPUExecutionProvider, and is now for CUDAExecutionProvider" in left_out.reason


def test_an_alias_names_one_model(tmp_path):
    """What a catalog offers, or what is registered, cannot be registered again."""
    register_folder(SMALL, alias="mine", licence="my own", cache_dir=tmp_path)
    assert registered_models.read(tmp_path)[0].licence == "my own"
    for alias in ("mine", "practice-small", "../x"):
        with pytest.raises(ConfigurationError):
            register_folder(SMALL, alias=alias, cache_dir=tmp_path)


def test_closing_the_public_profile_closes_the_catalog_beside_it():
    """Its thread ends with the runtime, so that nothing listens on the loopback afterwards."""
    with FoundryRuntime() as public:
        assert public._catalog.url.startswith("http://127.0.0.1:")
        thread = public._catalog._thread
    assert thread is not None and not thread.is_alive()
