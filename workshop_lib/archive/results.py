"""What a run measured, request by request, in the small form that fits version control and comparing.

Read from a `benchmark_report.json` (its `samples`) or from a `records.jsonl`. Knows both files; compares nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from workshop_lib.archive.storage import read_run
from workshop_lib.errors import DataFileError
from workshop_lib.metrics import timing
from workshop_lib.records import Row, Run


@dataclass(frozen=True, slots=True)
class Sample:
    """One successful timed request: who answered what, and its metrics in seconds and tokens per second.

    `more` holds the compared `METRICS` that have no field here, by name; in JSON they stand beside the others.
    """

    alias: str
    model_id: str
    device: str
    prompt_id: str
    prompt_sha256: str | None
    round: int
    latency_s: float | None
    first_token_s: float | None
    decode_tokens_per_s: float | None
    text: str
    burst: bool = False
    more: Mapping[str, float | None] = field(default_factory=dict, hash=False)

    def value(self, name: str) -> float | None:
        """A metric by its name."""
        found: float | None = self.more[name] if name in self.more else getattr(self, name, None)
        return found


@dataclass(frozen=True, slots=True)
class Results:
    """A run as its samples, with the machine and the plan that say what it may be compared with."""

    name: str
    machine: Mapping[str, Any]
    plan: Mapping[str, Any]
    samples: tuple[Sample, ...]


def results_of(run: Run, name: str = "") -> Results:
    """The results of a run."""
    return Results(name or run.run_id, run.machine, run.plan, samples_of(run))


def samples_of(run: Run) -> tuple[Sample, ...]:
    """One sample per successful timed request, in the order in which they happened."""
    added = [metric for metric in timing.metrics_of("comparison") if metric.name not in Sample.__dataclass_fields__]
    return tuple(
        Sample(
            alias=each.alias,
            model_id=each.model_id,
            device=each.device,
            prompt_id=each.prompt_id,
            prompt_sha256=each.prompt_sha256,
            round=each.round,
            latency_s=timing.latency_s(each),
            first_token_s=timing.first_token_s(each),
            decode_tokens_per_s=timing.decode_tokens_per_s(each),
            text=each.text,
            burst=timing.has_burst(each),
            more={metric.name: metric.measure(each) for metric in added},
        )
        for each in run.completions
        if each.ok and each.round > 0
    )


def row_object(row: Row) -> dict[str, Any]:
    """A row as its JSON object: contract names, seconds, null for what was not measured or is no number."""
    return {name: _finite(value) for name, value in _flat(row).items()}


def _flat(record: Row | Sample) -> dict[str, Any]:
    """A record as a JSON object, with the metrics of `more` beside the others."""
    values = asdict(record)
    more = values.pop("more")
    return {**values, **more}


def with_more(kind: type[Row | Sample], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record from its JSON object; other metrics go to `more`, what no version knows is left out."""
    own = {each.name for each in fields(kind)}
    more = {metric.row_name if kind is Row else metric.name for metric in timing.METRICS} - own
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items() if name in own}
    return {**values, "more": {name: value for name, value in entry.items() if name in more}}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sample_objects(run: Run) -> list[dict[str, Any]]:
    """The samples as JSON objects, times rounded to microseconds and rates to a tenth."""
    return [{name: _rounded(value) for name, value in _flat(sample).items()} for sample in samples_of(run)]


def _rounded(value: object) -> object:
    if not isinstance(value, float):
        return value
    return round(value, 6) if abs(value) < 100 else round(value, 1)


def read_results(path: Path) -> Results:
    """Read a `benchmark_report.json` or a `records.jsonl`.

    Raises:
        DataFileError: no such file, not JSON, or a report without samples.
        RecordFileError: a record file that cannot be used.
    """
    if path.suffix == ".jsonl":
        return results_of(read_run(path), path.parent.name)
    fix = "Give a benchmark_report.json or a records.jsonl that this workshop wrote."
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        samples = tuple(Sample(**with_more(Sample, entry)) for entry in report["samples"])
        return Results(path.parent.name or path.name, report["machine"], report["plan"], samples)
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.", fix) from error
    except (ValueError, LookupError, TypeError) as error:
        raise DataFileError(f"{path} is no benchmark report with samples ({error}).", fix) from error
