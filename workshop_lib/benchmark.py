"""The loop that runs a plan: serve, warm up, ask, record; skip what fails and go on. And where its runs are.

run = run_plan(plan, runtime, new_folder())      # records.jsonl grows as it goes
run = read_run(find_records())                        # the newest run, read back
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import comparison, data, machine, places
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, RecordFileError, WorkshopError
from workshop_lib.machine import Meter, PowerSources
from workshop_lib.plan import Plan, find_models, make_plan, to_fetch
from workshop_lib.records import Completion, ModelVariant, Prompt, Request, Run, Serving, variant_key
from workshop_lib.runtimes import profiles
from workshop_lib.show.text import one_line
from workshop_lib.storage import RunWriter, read_run

if TYPE_CHECKING:
    from workshop_lib.runtimes.profiles import Runtime, ServedModel

_log = logging.getLogger(__name__)
RECORDS_FILE = "records.jsonl"
GIVE_UP_AFTER = 2
"""Consecutive failed requests after which a model is left alone, so that a stalled one cannot hold up the batch."""

SMALL_RUN_PROMPTS, SMALL_RUN_ROUNDS = 3, 2


def run_plan(
    plan: Plan,
    runtime: Runtime,
    folder: Path,
    *,
    show_progress: bool = True,
    sleep: Callable[[float], None] = time.sleep,
    power: PowerSources | None = None,
) -> Run:
    """Measure the plan; every record is in `folder/records.jsonl` as soon as the progress bar counts it.

    A folder that holds an interrupted run of the same plan is completed: what was recorded is not asked again. Raises
    `RecordFileError` where another process writes, `ConfigurationError` where another plan was measured.
    """
    path = folder / RECORDS_FILE
    earlier = _earlier_run(path, plan, runtime.profile)
    if earlier is not None:
        plan = replace(plan, order=earlier.plan["order"])
    started = datetime.now(UTC)
    run = earlier or Run(
        run_id=_run_id(started),
        started_at=started.isoformat(timespec="seconds"),
        profile=runtime.profile,
        machine=machine.fingerprint(),
        plan=plan.describe(),
        prompts=plan.prompts,
    )
    recorded = {completion.request_id for completion in run.completions if completion.round > 0}
    with RunWriter(path, run) as writer, power or PowerSources() as sources:
        _Measurement(plan, runtime, writer, recorded, sleep, sources).measure(show_progress=show_progress)
    return read_run(path)


def run_benchmark(
    runtime: Runtime,
    models: Sequence[ModelVariant],
    prompts: Sequence[Prompt],
    *,
    folder: Path | str = "",
    skipped: Sequence[tuple[ModelVariant, str]] = (),
    **options: Any,
) -> Run:
    """Ask every model every prompt, after an untimed warm-up, and record each request as it ends.

    Args:
        runtime: what `open_runtime` returned.
        models: what `find_models` found.
        prompts: what `read_prompts` read.
        folder: where `records.jsonl` goes; empty = a new folder under `runs/`.
        skipped: what `find_models` left out, so that the report says why.
        options: `rounds`, `max_tokens`, `temperature`, `seed`, `watts` and the other fields of `plan.Plan`.

    Raises `ConfigurationError`, and what `run_plan` raises.
    """
    return run_plan(make_plan(models, prompts, skipped=tuple(skipped), **options), runtime, new_folder(str(folder)))


def _run_id(started: datetime) -> str:
    return started.strftime("%Y%m%dT%H%M%SZ")


def _earlier_run(path: Path, plan: Plan, profile: str) -> Run | None:
    """What was measured before; None when nothing was, not even the first line was written whole.

    The order is the earlier run's: which one suits depends on the free memory of the moment.
    """
    if not path.exists() or b"\n" not in path.read_bytes():
        return None
    run = read_run(path)
    here = {**plan.describe(), "profile": profile, "cpu": machine.cpu_model()}
    there = {**run.plan, "profile": run.profile, "cpu": run.machine.get("cpu")}
    unlike = sorted(name for name, value in here.items() if name != "order" and there.get(name) != value)
    if unlike:
        raise ConfigurationError(
            f"{path.parent.name} holds a run of another plan (different: {', '.join(unlike)}).",
            "Choose another output folder, or repeat the earlier settings to complete that run.",
        )
    return run


@dataclass(slots=True)
class _Measurement:
    """The loop over blocks and requests, and which models are still worth asking."""

    plan: Plan
    runtime: Runtime
    writer: RunWriter
    recorded: set[str]
    sleep: Callable[[float], None]
    power: PowerSources
    failures: dict[tuple[str, str], int] = field(default_factory=dict)

    def measure(self, *, show_progress: bool) -> None:
        from tqdm.auto import tqdm

        for variant, reason in self.plan.skipped:
            self.writer.append(Serving(variant, status="skipped", error=reason))
        total, done = len(self.plan.variants) * len(self.plan.prompts) * self.plan.rounds, len(self.recorded)
        with tqdm(total=total, initial=done, unit="request", disable=not show_progress, desc="Benchmark") as bar:
            for variants, requests in self.plan.blocks():
                self._measure_block(variants, requests, bar)

    def _measure_block(self, variants: Sequence[ModelVariant], requests: Sequence[Request], bar: Any) -> None:
        open_requests = [request for request in requests if request.request_id not in self.recorded]
        wanted = {variant_key(request.variant) for request in open_requests}
        with ExitStack() as stack:
            served: dict[tuple[str, str], _Served] = {}
            for variant in variants:
                key = variant_key(variant)
                if key in wanted and self._is_worth_asking(key):
                    bar.set_postfix_str(one_line(f"loading {variant.model_id}"))
                    self._serve(variant, stack, served, bar)
            for request in open_requests:
                key = variant_key(request.variant)
                if key in served and self._is_worth_asking(key):
                    bar.set_postfix_str(one_line(request.variant.model_id))
                    if self.plan.pause_s:
                        self.sleep(self.plan.pause_s)
                    self._ask(request, served[key])
                bar.update()
            for key, one in served.items():
                serving = self._serving(one)
                if not self._is_worth_asking(key):
                    serving = replace(serving, status="failed", error=one.model.failure())
                self.writer.append(serving)

    def _is_worth_asking(self, key: tuple[str, str]) -> bool:
        return self.failures.get(key, 0) < GIVE_UP_AFTER

    def _serve(self, variant: ModelVariant, stack: ExitStack, served: dict[tuple[str, str], _Served], bar: Any) -> None:
        """Load, serve and warm up one variant; a failure is recorded and the batch goes on."""
        key = variant_key(variant)
        try:
            model = stack.enter_context(self.runtime.serve(variant))
        except WorkshopError as error:
            self.failures[key] = GIVE_UP_AFTER
            self.writer.append(Serving(variant, status="failed", error=str(error)))
            return
        client = ChatClient.to(
            model,
            options=self.plan.request_options,
            timeout_s=self.plan.timeout_s,
            on_wait=lambda wait_s: bar.set_postfix_str(one_line(f"{variant.model_id} is loading: {wait_s:.3g} s")),
            sleep=self.sleep,
        )
        declared = variant.watts if self.plan.watts is None else self.plan.watts
        meter = self.power.meter_for(variant.device, model.pid, declared)
        served[key] = _Served(model, stack.enter_context(client), meter)
        self.writer.append(self._serving(served[key]))
        shortest = min(self.plan.prompts, key=lambda prompt: len(prompt.text))
        if not self._ask(self.plan.request(variant, self.plan.prompts[0], 0), served[key]).fits:
            self._ask(self.plan.request(variant, shortest, 0), served[key])

    def _ask(self, request: Request, served: _Served) -> Completion:
        """Ask, with as many recorded retries as the plan allows; count consecutive failures. Returns the last."""
        key = variant_key(request.variant)
        for attempt in range(1, self.plan.retries + 2):
            if attempt > 1:
                self.sleep(self.plan.retry_backoff_s * 2 ** (attempt - 2))
            completion = served.ask(replace(request, attempt=attempt))
            self.writer.append(completion)
            if completion.ok or not completion.fits or served.model.failure():
                break
        gone = GIVE_UP_AFTER if served.model.failure() else self.failures.get(key, 0) + 1
        self.failures[key] = 0 if completion.ok or not completion.fits else gone
        return completion

    def _serving(self, served: _Served) -> Serving:
        model = served.model
        return Serving(
            variant=model.variant,
            load_s=model.load_s,
            resident_mb=model.resident_mb,
            peak_resident_mb=model.peak_resident_mb(),
            registered_providers=tuple(model.registered_providers),
            threads=model.threads,
            gpu_memory_mb=self.power.gpu_memory_mb(model.pid),
            energy_note=served.meter.covers,
            request_notes=served.client.request_notes(self.plan.request(model.variant, self.plan.prompts[0], 0)),
        )


@dataclass(frozen=True, slots=True)
class _Served:
    """A model that answers, the client that asks it, and the meter of the energy it takes."""

    model: ServedModel
    client: ChatClient
    meter: Meter

    def ask(self, request: Request) -> Completion:
        """Ask; the meter is read before the request and after its end, outside of all that is timed.

        Models take turns, so that only the energy between those two readings is this model's.
        """
        before = self.meter.mark()
        completion = self.client.ask(request)
        joules = self.meter.joules_since(before)
        return replace(completion, energy_j=joules, energy_source=None if joules is None else self.meter.source)


def download(runtime: Runtime, variants: Iterable[ModelVariant]) -> list[ModelVariant]:
    """Cache variants, one progress bar each; return them as they are now.

    What cannot be brought is left out with a warning that says why, and with the other builds of its model.

    Raises:
        WorkshopError: nothing could be brought.
    """
    from tqdm.auto import tqdm

    here: list[str] = []
    failed: dict[str, WorkshopError] = {}
    for variant in variants:
        if variant.alias in failed:
            continue
        with tqdm(total=100, unit="%", desc=variant.model_id) as bar:

            def show(percent: float, bar: tqdm = bar) -> None:
                bar.update(max(0.0, percent - bar.n))

            try:
                runtime.download(variant, on_progress=show)
            except WorkshopError as error:
                failed[variant.alias] = error
            else:
                here.append(variant.model_id)
    if failed and not here:
        raise next(iter(failed.values()))
    for alias, reason in failed.items():
        _log.warning("%s is left out. %s", alias, reason)
    now = {variant.model_id: variant for variant in runtime.list_models()}
    return [now[model_id] for model_id in here if model_id in now]


def fetch_candidates(runtime: Runtime, models: str | Sequence[str]) -> None:
    """Download what `plan.to_fetch` names; where that cannot be, a warning says so, and the next call tries again."""
    try:
        download(runtime, to_fetch(runtime, models))
    except WorkshopError as error:
        _log.warning("%s", error)


def probe(runtime: Runtime, variants: Sequence[ModelVariant], prompt: Prompt, *, max_tokens: int = 120) -> Run:
    """Ask every variant one question once, after a warm-up; a failure becomes a record."""
    small = make_plan(variants, [prompt], rounds=1, max_tokens=max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        return run_plan(small, runtime, Path(folder))


def answered(run: Run) -> list[ModelVariant]:
    """Return the variants that answered a timed request, in the order in which they were served."""
    good = {(each.model_id, each.device) for each in run.completions if each.ok and each.round > 0}
    served = {variant_key(serving.variant): serving.variant for serving in run.servings}
    return [variant for key, variant in served.items() if key in good]


def new_folder(output: str = "") -> Path:
    """Return the folder of a new run: `output`, or one named after the time among the other runs."""
    return Path(output).resolve() if output else places.runs_folder() / _run_id(datetime.now(UTC))


def find_records(records: str = "", prompt_set: str = "") -> Path:
    """Return the records to look at: the file or the run named, else the newest run's, else a new small run's.

    With `prompt_set`, the newest run is that of this set. Raises `RecordFileError` where neither a file nor a folder
    under `runs/` has that name, `DataFileError` for a set that does not exist.
    """
    if not records:
        return newest_records(prompt_set) or measure_a_little(new_folder(), prompt_set or data.TASK)
    found = [path for path in (Path(records), places.runs_folder() / records / RECORDS_FILE) if path.is_file()]
    if not found:
        raise RecordFileError(f"There are no records at {records}.", "Correct the path, or leave it empty.")
    return found[0].resolve()


def describe_run(path: Path) -> list[str]:
    """Which run the records at `path` are of, and how to take another one of those under `runs/`, in sentences."""
    run, there = read_run(path), sorted(places.runs_folder().glob(f"*/{RECORDS_FILE}"), reverse=True)
    others = [each.parent.name for each in there if each.resolve() != path.resolve()]
    prompts = f"{len(run.prompts)} prompts ({data.set_of(run.prompts) or 'your own'})"
    said = [f"This page uses the run {run.run_id}, profile {run.profile}: {len(answered(run))} models, {prompts}."]
    return said + ([f'Other runs: {", ".join(others[:3])}. To take one: records = "{others[0]}".'] if others else [])


def newest_records(prompt_set: str = "") -> Path | None:
    """Return the records of the newest run under `runs/` that asked anything (of this set if named), or None."""
    asked = ((path, run) for path, run in _runs() if any(completion.round for completion in run.completions))
    return next((path for path, run in asked if prompt_set in ("", data.set_of(run.prompts))), None)


def _runs() -> Iterator[tuple[Path, Run]]:
    """The runs under `runs/` that can be read, newest first."""
    for path in sorted(places.runs_folder().glob(f"*/{RECORDS_FILE}"), reverse=True):
        with suppress(RecordFileError):
            yield path, read_run(path)


def run_of_another_set(prompt_set: str | None) -> tuple[str, Run] | None:
    """Return what answered another shipped set, with its name: the newest run, else shipped results, else None."""
    shipped = [(path, read_run(path)) for path in sorted(comparison.REFERENCES.glob(f"*/{RECORDS_FILE}"))]
    for path, run in (*_runs(), *shipped):
        asked = data.set_of(run.prompts)
        if answered(run) and asked not in (None, prompt_set):
            kind = "the shipped results" if path.is_relative_to(comparison.REFERENCES) else "the run"
            prompts = tuple(replace(prompt, set_name=asked or "") for prompt in run.prompts)  # older records lack it
            return f"{kind} {path.parent.name}", replace(run, prompts=prompts)
    return None


def measure_a_little(folder: Path, prompt_set: str = data.TASK) -> Path:
    """Measure every ready model on few prompts and rounds, so that there is something to chart."""
    with profiles.open_runtime() as runtime:
        variants, skipped = find_models(runtime, ["auto"])
        prompts = data.read_prompts(prompt_set)[:SMALL_RUN_PROMPTS]
        small = make_plan(variants, prompts, rounds=SMALL_RUN_ROUNDS, skipped=tuple(skipped))
        run_plan(small, runtime, folder)
    return folder / RECORDS_FILE


def changes_since_another(path: Path) -> comparison.Changes:
    """Compare the run whose records are at `path` with the newest other run that did the same work.

    Without one under `runs/` it is compared with the shipped reference results; with neither, the remark says so.
    Raises `RecordFileError`, `DataFileError`.
    """
    this = comparison.results_of(path)
    for other in _other_results(path):
        with suppress(ConfigurationError):  # it did other work, or measured other models
            found = comparison.compare(other, this)
            said = f"This run, {this.name}, against {other.name}: a ratio is this run's in units of the other's."
            return found._replace(remarks=(said, *found.remarks))
    nothing = "There is no other run of the same work to compare with: run page 02 once more."
    return comparison.Changes(remarks=(nothing,))


def _other_results(path: Path) -> Iterator[comparison.Results]:
    for other, run in _runs():
        if other.resolve() != path.resolve():
            yield comparison.results_of(run, other.parent.name)
    for reference in comparison.read_references():
        yield replace(reference, name=f"the reference of {reference.label}")
