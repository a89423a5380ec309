"""The loop that runs a plan: serve, warm up, ask, record; skip what fails and go on. And where its runs are.

run = run_plan(plan, runtime, new_folder())      # records.jsonl grows as it goes
run = read_run(find_records())                        # the newest run, read back
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import comparison, data, machine, places
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, RecordFileError, WorkshopError
from workshop_lib.machine import Meter, PowerSources
from workshop_lib.plan import Plan, find_models, make_plan, to_fetch
from workshop_lib.records import Completion, ModelVariant, Prompt, Request, Run, Serving, key
from workshop_lib.runtimes import profiles
from workshop_lib.show.text import one_line
from workshop_lib.storage import RunWriter, read_run

if TYPE_CHECKING:
    from workshop_lib.runtimes.profiles import Runtime, ServedModel

_log = logging.getLogger(__name__)
RECORDS_FILE, RUN_ID = "records.jsonl", "%Y%m%dT%H%M%SZ"
GIVE_UP_AFTER = 2
"""Consecutive failed requests after which a model is left alone, so that a stalled one cannot hold up the batch."""

_Served = tuple["ServedModel", ChatClient, Meter]
"""A model that answers, the client that asks it, and the meter of the energy it takes."""


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
    from tqdm.auto import tqdm

    path = folder / RECORDS_FILE
    earlier = _earlier_run(path, plan, runtime.profile)
    if earlier is not None:
        plan = replace(plan, order=earlier.plan["order"])
    started = datetime.now(UTC)
    run = earlier or Run(
        run_id=started.strftime(RUN_ID),
        started_at=started.isoformat(timespec="seconds"),
        profile=runtime.profile,
        machine=machine.fingerprint(),
        plan=plan.describe(),
        prompts=plan.prompts,
    )
    recorded = {completion.request_id for completion in run.completions if completion.round > 0}
    total = len(plan.variants) * len(plan.prompts) * plan.how.rounds
    with (
        RunWriter(path, run) as writer,
        power or PowerSources() as sources,
        tqdm(total=total, initial=len(recorded), unit="request", disable=not show_progress, desc="Benchmark") as bar,
    ):
        _Measurement(plan, runtime, writer, recorded, sleep, sources, bar).measure()
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

    `folder` is where `records.jsonl` goes, empty = a new one under `runs/`; `skipped` what `find_models` left out, so
    that the report says why; `options` are `rounds`, `max_tokens`, `temperature`, `seed`, `watts` and other fields of
    `settings.BenchmarkSettings`. Raises `ConfigurationError`, and what `run_plan` raises.
    """
    return run_plan(make_plan(models, prompts, skipped=skipped, **options), runtime, new_folder(str(folder)))


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
    bar: Any
    failures: Counter[ModelVariant] = field(default_factory=Counter)

    def measure(self) -> None:
        for variant, reason in self.plan.skipped:
            self.writer.append(Serving(variant, status="skipped", error=reason))
        for variants, requests in self.plan.blocks():
            self._measure_block(variants, [each for each in requests if each.request_id not in self.recorded])

    def _measure_block(self, variants: Sequence[ModelVariant], requests: Sequence[Request]) -> None:
        wanted = {request.variant for request in requests}
        with ExitStack() as stack:
            served: dict[ModelVariant, _Served] = {}
            for variant in variants:
                if variant in wanted and self._is_worth_asking(variant) and (one := self._serve(variant, stack)):
                    served[variant] = one
            for request in requests:
                if request.variant in served and self._is_worth_asking(request.variant):
                    self._show(request.variant.model_id)
                    if self.plan.how.pause_s:
                        self.sleep(self.plan.how.pause_s)
                    self._ask(request, served[request.variant])
                self.bar.update()
            for variant, one in served.items():
                serving = self._serving(*one)
                if not self._is_worth_asking(variant):
                    serving = replace(serving, status="failed", error=one[0].failure())
                self.writer.append(serving)

    def _is_worth_asking(self, variant: ModelVariant) -> bool:
        return self.failures[variant] < GIVE_UP_AFTER

    def _show(self, text: str) -> None:
        self.bar.set_postfix_str(one_line(text))

    def _serve(self, variant: ModelVariant, stack: ExitStack) -> _Served | None:
        """Load, serve and warm up one variant; a failure is recorded and the batch goes on."""
        self._show(f"loading {variant.model_id}")
        try:
            model = stack.enter_context(self.runtime.serve(variant))
        except WorkshopError as error:
            self.failures[variant] = GIVE_UP_AFTER
            self.writer.append(Serving(variant, status="failed", error=str(error)))
            return None
        client = ChatClient.to(
            model,
            options=self.plan.how.request_options,
            timeout_s=self.plan.how.timeout_s,
            on_wait=lambda wait_s: self._show(f"{variant.model_id} is loading: {wait_s:.3g} s"),
            sleep=self.sleep,
        )
        declared = variant.watts if self.plan.how.watts is None else self.plan.how.watts
        served = model, stack.enter_context(client), self.power.meter_for(variant.device, model.pid, declared)
        self.writer.append(self._serving(*served))
        for prompt in (self.plan.prompts[0], min(self.plan.prompts, key=lambda prompt: len(prompt.text))):
            if self._ask(self.plan.request(variant, prompt, 0), served).fits:  # else the shortest one may
                break
        return served

    def _ask(self, request: Request, served: _Served) -> Completion:
        """Ask, with as many recorded retries as the plan allows; count consecutive failures. Returns the last.

        The meter is read before the request and after its end, outside of all that is timed. Models take turns, so that
        only the energy between those two readings is this model's.
        """
        model, client, meter = served
        for attempt in range(1, self.plan.how.retries + 2):
            if attempt > 1:
                self.sleep(self.plan.how.retry_backoff_s * 2 ** (attempt - 2))
            before = meter.joules()
            completion = client.ask(replace(request, attempt=attempt))
            if (joules := meter.joules_since(before)) is not None:
                completion = replace(completion, energy_j=joules, energy_source=meter.source)
            self.writer.append(completion)
            is_over = completion.ok or not completion.fits
            if is_over or model.failure():
                break
        consecutive = GIVE_UP_AFTER if model.failure() else self.failures[request.variant] + 1
        self.failures[request.variant] = 0 if is_over else consecutive
        return completion

    def _serving(self, model: ServedModel, client: ChatClient, meter: Meter) -> Serving:
        return Serving(
            variant=model.variant,
            load_s=model.load_s,
            resident_mb=model.resident_mb,
            peak_resident_mb=model.peak_resident_mb(),
            registered_providers=tuple(model.registered_providers),
            threads=model.threads,
            gpu_memory_mb=self.power.gpu_memory_mb(model.pid),
            energy_note=meter.covers,
            request_notes=client.request_notes(self.plan.request(model.variant, self.plan.prompts[0], 0)),
        )


def download(runtime: Runtime, variants: Iterable[ModelVariant]) -> list[ModelVariant]:
    """Cache variants, one progress bar each; return them as they are now.

    What cannot be brought is left out with a warning that says why, and with the other builds of its model. Raises
    `WorkshopError` where nothing could be brought.
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
                here.append(variant.model_id)
            except WorkshopError as error:
                failed[variant.alias] = error
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
    with tempfile.TemporaryDirectory() as folder:
        return run_benchmark(runtime, variants, [prompt], folder=folder, rounds=1, max_tokens=max_tokens)


def answered(run: Run) -> list[ModelVariant]:
    """Return the variants that answered a timed request, in the order in which they were served."""
    good = {key(each) for each in run.completions if each.ok and each.round > 0}
    served = {key(serving.variant): serving.variant for serving in run.servings}
    return [variant for which, variant in served.items() if which in good]


# -- the runs that there are


def new_folder(output: str = "") -> Path:
    """Return the folder of a new run: `output`, or one named after the time among the other runs."""
    return Path(output).resolve() if output else places.runs_folder() / datetime.now(UTC).strftime(RUN_ID)


def find_records(records: str = "", prompt_set: str = "") -> Path:
    """Return the records to look at: the file or the run named, else the newest run's, else those of a new small run.

    With `prompt_set`, the newest run is that of this set. Raises `RecordFileError` where neither a file nor a folder
    under `runs/` has that name, `DataFileError` for a set that does not exist.
    """
    if records:
        for path in (Path(records), places.runs_folder() / records / RECORDS_FILE):
            if path.is_file():
                return path.resolve()
        raise RecordFileError(f"There are no records at {records}.", "Correct the path, or leave it empty.")
    for path, run in _runs():
        asked = any(completion.round for completion in run.completions)
        if asked and prompt_set in ("", data.set_of(run.prompts)):
            return path
    folder = new_folder()
    with profiles.open_runtime() as runtime:
        variants, skipped = find_models(runtime)
        prompts = data.read_prompts(prompt_set or data.TASK)[:3]
        run_benchmark(runtime, variants, prompts, folder=folder, skipped=skipped, rounds=2)
    return folder / RECORDS_FILE


def describe_run(path: Path) -> list[str]:
    """Which run the records at `path` are of, and how to take another one of those under `runs/`, in sentences."""
    run, there = read_run(path), sorted(places.runs_folder().glob(f"*/{RECORDS_FILE}"), reverse=True)
    others = [each.parent.name for each in there if each.resolve() != path.resolve()]
    prompts = f"{len(run.prompts)} prompts ({data.set_of(run.prompts) or 'your own'})"
    said = [f"This page uses the run {run.run_id}, profile {run.profile}: {len(answered(run))} models, {prompts}."]
    return said + ([f'Other runs: {", ".join(others[:3])}. To take one: records = "{others[0]}".'] if others else [])


def _runs(folder: Path | None = None) -> Iterator[tuple[Path, Run]]:
    """The runs under `runs/`, or in another folder, that can be read, newest first."""
    for path in sorted((folder or places.runs_folder()).glob(f"*/{RECORDS_FILE}"), reverse=True):
        with suppress(RecordFileError):
            yield path, read_run(path)


def run_of_another_set(prompt_set: str | None) -> tuple[str, Run] | None:
    """Return what answered another shipped set, with its name: the newest run, else shipped results, else None."""
    for kind, folder in (("the run", places.runs_folder()), ("the shipped results", comparison.REFERENCES)):
        for path, run in _runs(folder):
            asked = data.set_of(run.prompts)
            if answered(run) and asked not in (None, prompt_set):
                prompts = tuple(
                    replace(prompt, set_name=asked or "") for prompt in run.prompts
                )  # older records lack it
                return f"{kind} {path.parent.name}", replace(run, prompts=prompts)
    return None


def changes_since_another(path: Path) -> comparison.Changes:
    """Compare the run whose records are at `path` with the newest other run that did the same work.

    Without one under `runs/` it is compared with the shipped reference results; with neither, the remark says so.
    Raises `RecordFileError`, `DataFileError`.
    """
    this = comparison.results_of(path)
    others = (comparison.results_of(run, at.parent.name) for at, run in _runs() if at.resolve() != path.resolve())
    shipped = (replace(each, name=f"the reference of {each.label}") for each in comparison.read_references())
    for other in chain(others, shipped):
        with suppress(ConfigurationError):  # it did other work, or measured other models
            found = comparison.compare(other, this)
            said = f"This run ({this.name}) against {other.name}: a ratio is this run's figure divided by the other's."
            return found._replace(remarks=(said, *found.remarks))
    said = "There is no other run of the same work to compare with: run page 02 once more."
    return comparison.Changes(remarks=(said,))
