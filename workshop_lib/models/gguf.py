"""From a GGUF file to a folder that Foundry Local serves, in seconds and without PyTorch.

    report = import_gguf("SmolLM2-135M-Instruct.Q4_1.gguf", "my-models/smollm2", precision="exact4")
    models = import_as("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2", ("exact4", "int4"))

Precisions: `exact4` keeps the file's own codes and computes with them in float32; `fp32` keeps the weights as float32
numbers; `int8` and `int4` keep the codes that fit, round the rest, and compute faster with rounded activations. The
folder's card and its report say of each tensor which it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

from workshop_lib import files, machine, places
from workshop_lib.data import STRICT, read_as, read_models
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.models import registry
from workshop_lib.models.folder import CONFIG
from workshop_lib.models.gguf_file import GgufFile, Precision, undamaged
from workshop_lib.models.gguf_graph import WEIGHTS_FILE, TensorReport, write_model
from workshop_lib.models.registry import RegisteredModel
from workshop_lib.show.text import markdown, without_home

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
MODEL_FILE, REPORT_FILE, CARD = "model.onnx", "import_report.json", "README.md"
IMPORTER = 1
"""Raised when the same file would give another folder, so that older folders are written anew."""

_BASE_MB = 300.0
_WORK_BYTES = 16
"""Memory for the program, and per weight of the largest matrix."""
_DISK_RESERVE_MB = 100.0

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
_SPECIAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad", "eot": "", "eom": ""}
"""`tokenizer.ggml.…_token_id` → the token's name in the folder's tokenizer, if it has one."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was imported from which file (`source`, with its hash), and how, by which version of this `importer`.

    `licence` is None when unknown, `size_mb` the folder's 10^6 bytes, `tensors` stand in the order of the graph.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    importer: int
    source: str
    sha256: str
    model: str
    architecture: str
    licence: str | None
    precision: Precision
    size_mb: float
    seconds: float
    tensors: tuple[TensorReport, ...]

    @property
    def exact_tensors(self) -> int:
        """How many tensors were kept exactly."""
        return sum(tensor.exact for tensor in self.tensors)


def import_gguf(
    path: Path | str, folder: Path | str, *, precision: Precision = "exact4", licence: str | None = None
) -> ImportReport:
    """Write a folder for ONNX Runtime GenAI from a GGUF file; shows its progress.

    The folder appears when it is complete. One that holds the same import already is left as it is, one that holds
    another import is replaced. The file's architecture is `llama` (Mistral's models too) or `qwen2`, the precision one
    of `PRECISIONS`; a licence of None is the one that the file states.

    Raises:
        DataFileError: the file is damaged, or cannot be imported; says why, and the official route.
        ConfigurationError: there is no such precision, or the folder is there and is no import, or cannot be written.
        WorkshopError: too little free disk space (`DiskSpaceError`) or memory.
    """
    path, folder = (files.typed_path(place).absolute() for place in (path, folder))
    if precision not in PRECISIONS:
        raise ConfigurationError(f"There is no precision '{precision}'.", f"Use one of {', '.join(PRECISIONS)}.")
    started = time.perf_counter()
    file = GgufFile(path)
    digest = files.sha256(path)
    with _staged(folder) as staging:
        before = _read_report(folder)
        if before and (before.importer, before.sha256, before.precision) == (IMPORTER, digest, precision):
            return before
        _check_space(file, precision, folder)
        tensors = _write(file, precision, staging)
        report = ImportReport(
            importer=IMPORTER,
            source=path.name,
            sha256=digest,
            model=file.value("general.name", path.stem),
            architecture=file.shape.kind,
            licence=licence or file.value("general.license", "") or None,
            precision=precision,
            size_mb=sum(each.stat().st_size for each in staging.iterdir()) / 1e6,
            seconds=round(time.perf_counter() - started, 1),
            tensors=tensors,
        )
        (staging / REPORT_FILE).write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
        (staging / CARD).write_text(_card(report), encoding="utf-8", newline="\n")
    return report


def import_as(
    path: Path | str,
    alias: str,
    precisions: Sequence[Precision] = ("exact4",),
    *,
    licence: str | None = None,
    cache_dir: Path | None = None,
) -> tuple[RegisteredModel, ...]:
    """Import a file into the model cache and register each precision under one alias; each is loaded once.

    The id of a precision is `ALIAS-PRECISION-cpu:1`. A repeated import only makes the folders whole.

    Raises:
        WorkshopError: as `import_gguf` and `registry.register` do; what was registered before that stays.
    """
    path, cache = files.typed_path(path).absolute(), cache_dir or places.cache_root()
    with undamaged(path):
        digest = files.sha256(path)
    folders = {precision: (cache / "imported" / f"{alias}-{precision}").absolute() for precision in precisions}
    before = {model.place: model for model in registry.read(cache)}
    for precision, folder in folders.items():
        report = _read_report(folder) if folder in before else None
        if folder not in before or (report and report.sha256 != digest):
            registry.check_alias(alias, tuple(before.values()), build=precision)
    card, registered = read_models().get(alias), []
    for precision, folder in folders.items():
        report = import_gguf(path, folder, precision=precision, licence=licence)
        model = before.get(folder) or registry.register(
            alias, folder, licence=report.licence, precision=precision, build=precision, cache_dir=cache,
            capabilities=card.capabilities if card else (),
        )  # fmt: skip
        registered.append(model)
    return tuple(registered)


def _write(file: GgufFile, precision: Precision, folder: Path) -> tuple[TensorReport, ...]:
    """Write model, tokenizer and configuration."""
    from tqdm.auto import tqdm

    texts = folder_texts(file, threads=machine.cores())
    name = f"{file.path.stem} as {precision}"
    with (
        (folder / WEIGHTS_FILE).open("wb") as weights,
        tqdm(total=sum(file.counts.values()), unit=" weights", unit_scale=True, desc=name) as bar,
    ):
        model, tensors = write_model(file, precision, weights, bar)
        weights.flush()
        os.fsync(weights.fileno())
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    for file_name, content in texts.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1)
        (folder / file_name).write_text(text, encoding="utf-8", newline="\n")
    return tensors


def _check_space(file: GgufFile, precision: Precision, folder: Path) -> None:
    """Raise before the work where disk or memory would not do."""
    import psutil

    machine.check_disk(folder, file.megabytes(precision) + _DISK_RESERVE_MB, f"{file.path.name} as {precision}")
    memory_mb = _BASE_MB + _WORK_BYTES * max(file.counts.values()) / 1e6
    if (free := psutil.virtual_memory().available / 1e6) < memory_mb:
        what = f"Importing {file.path.name} needs {memory_mb:.0f} MB of memory, and {free:.0f} MB are free."
        raise WorkshopError(what, "End other programs, or take a smaller model.")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A new folder beside another, for one program at a time.

    It takes the other's place at the end, if it has a card: the last file that is written. A kill in between leaves the
    old folder, the new one or none; what is left of the new one is deleted.
    """
    staging, old = (folder.with_name(f".{folder.name}.{name}") for name in ("importing", "replaced"))
    places.make_folder(folder.parent)
    try:
        with files.one_writer(folder, wait_s=1.0):
            try:
                shutil.rmtree(staging, ignore_errors=True)  # of an import that was killed
                staging.mkdir()
                yield staging
                if (staging / CARD).is_file():
                    shutil.rmtree(old, ignore_errors=True)
                    if folder.exists():
                        folder.rename(old)
                    staging.rename(folder)
            finally:
                for rest in (staging, old):
                    shutil.rmtree(rest, ignore_errors=True)
    except TimeoutError:
        what = f"Another program is importing into {without_home(str(folder))}."
        raise ConfigurationError(what, "Wait for it, then try again.") from None
    except OSError as error:
        raise files.unwritable(folder, error) from error


def _read_report(folder: Path) -> ImportReport | None:
    """What a folder was imported from; None where there is no folder, or an import of another version."""
    if not folder.exists():
        return None
    if not (folder / REPORT_FILE).is_file():
        what = f"{without_home(str(folder))} is there already, and was not imported."
        raise ConfigurationError(what, "Choose another folder, or move it away.")
    try:
        return read_as(ImportReport, folder / REPORT_FILE)
    except ConfigurationError:
        return None


def _card(report: ImportReport) -> str:
    """The model card: licence, source, hash, and how many tensors are exact."""
    activations = "are rounded to 8 bits" if report.precision in {"int8", "int4"} else "stay in float32"
    head = f"---\nlicense: {json.dumps(report.licence)}\n---\n" if report.licence else ""
    return f"""{head}# {markdown(report.model)}, {report.precision}

Imported from the GGUF file `{report.source}` (SHA-256 `{report.sha256}`), without retraining.

- Architecture: {report.architecture}. Precision: {report.precision}; the activations {activations}.
- Licence of the weights: {markdown(report.licence or "unknown: the file states none")}.
- Tensors kept exactly: {report.exact_tensors} of {len(report.tensors)}; `{REPORT_FILE}` lists them one by one.
"""


def folder_texts(file: GgufFile, *, threads: int) -> dict[str, Any]:
    """What a folder has beside the model, by file name: objects, and a text; the runtime shall use so many threads.

    Raises:
        DataFileError: the tokenizer is of a kind that was not tried with the runtime, no token ends an answer, or there
            is no chat template.
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
    with undamaged(file.path):
        if file.value("tokenizer.ggml.add_bos_token", 0) and "bos_token" not in template:
            raise file.refusal("puts a token before each text that its chat template does not name")
        ids = {key: file.fields.get(f"tokenizer.ggml.{key}_token_id") for key in _SPECIAL}
        names = {f"{name}_token": tokens[ids[key]] for key, name in _SPECIAL.items() if name and ids[key] is not None}
        return {
            "tokenizer.json": _tokenizer(file, tokens, cut),
            "tokenizer_config.json": {
                **names,
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": file.shape.context_tokens,
                "clean_up_tokenization_spaces": False,
            },
            "chat_template.jinja": template,
            CONFIG: _configuration(file, ids, threads),
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


def _configuration(file: GgufFile, ids: Mapping[str, int | None], threads: int) -> dict[str, Any]:
    shape = file.shape
    ends = list(dict.fromkeys(ids[key] for key in ("eos", "eot", "eom") if ids[key] is not None))
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
            "bos_token_id": ends[0] if ids["bos"] is None else ids["bos"],
            "eos_token_id": ends if ends[1:] else ends[0],
            "pad_token_id": ends[0] if ids["padding"] is None else ids["padding"],
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
