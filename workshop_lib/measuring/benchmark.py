"""The loop that runs a plan: serve, warm up, ask, record; skip what fails and go on.

Knows runtimes, the client and the record file. Knows no tables and no charts: it returns a `Run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workshop_lib.archive.storage import RunWriter, read_run
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.instrument import machine
from workshop_lib.instrument.client import ChatClient
from workshop_lib.instrument.power import Meter, NoMeter, PowerSources
from workshop_lib.measuring.plan import Plan
from workshop_lib.records import Completion, ModelVariant, Request, Run, Serving, variant_key
from workshop_lib.runtimes.profiles import Runtime, ServedModel
from workshop_lib.show.text import one_line

RECORDS_FILE = "records.jsonl"
GIVE_UP_AFTER = 2
"""Consecutive failed requests after which a model is left alone, so that a stalled one cannot hold up the batch."""


def run_benchmark(
    plan: Plan,
    runtime: Runtime,
    folder: Path,
    *,
    show_progress: bool = True,
    sleep: Callable[[float], None] = time.sleep,
    power: PowerSources | None = None,
) -> Run:
    """Measure the plan; every record is in `folder/records.jsonl` as soon as the progress bar counts it.

    A folder that holds an interrupted run of the same plan is completed: what was recorded is not asked again.

    Raises:
        RecordFileError: another process writes there, or another plan was measured there.
        ConfigurationError: the folder holds a run of a different plan.
    """
    path = folder / RECORDS_FILE
    earlier = _earlier_run(path, plan, runtime.profile)
    if earlier is not None:
        plan = replace(plan, order=earlier.plan["order"])
    started = datetime.now(UTC)
    run = earlier or Run(
        run_id=started.strftime("%Y%m%dT%H%M%SZ"),
        started_at=started.isoformat(timespec="seconds"),
        profile=runtime.profile,
        machine=machine.fingerprint(),
        plan=plan.describe(),
        prompts=plan.prompts,
    )
    with RunWriter(path, run) as writer, power or PowerSources() as sources:
        _Measurement(plan, runtime, writer, run, sleep=sleep, power=sources).measure(show_progress=show_progress)
    return read_run(path)


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


class _Measurement:
    """The loop over blocks and requests, and which models are still worth asking."""

    def __init__(
        self,
        plan: Plan,
        runtime: Runtime,
        writer: RunWriter,
        run: Run,
        *,
        sleep: Callable[[float], None],
        power: PowerSources,
    ) -> None:
        self.plan = plan
        self.runtime = runtime
        self.writer = writer
        self.sleep = sleep
        self.power = power
        self.recorded = {completion.request_id for completion in run.completions if completion.round > 0}
        self.failures: dict[tuple[str, str], int] = {}

    def measure(self, *, show_progress: bool) -> None:
        from tqdm.auto import tqdm

        for variant, reason in self.plan.skipped:
            self.writer.append(Serving(variant, status="skipped", error=reason))
        total = len(self.plan.variants) * len(self.plan.prompts) * self.plan.rounds
        with tqdm(
            total=total,
            initial=len(self.recorded),
            unit="request",
            disable=not show_progress,
            desc="Benchmark",
        ) as bar:
            for variants, requests in self.plan.blocks():
                self._measure_block(variants, requests, bar)

    def _measure_block(self, variants: Sequence[ModelVariant], requests: Sequence[Request], bar: Any) -> None:
        open_requests = [request for request in requests if request.request_id not in self.recorded]
        wanted = {variant_key(request.variant) for request in open_requests}
        with ExitStack() as stack:
            served: dict[tuple[str, str], _Served] = {}
            for variant in variants:
                if variant_key(variant) in wanted and self.failures.get(variant_key(variant), 0) < GIVE_UP_AFTER:
                    bar.set_postfix_str(one_line(f"loading {variant.model_id}"))
                    self._serve(variant, stack, served, bar)
            for request in open_requests:
                key = variant_key(request.variant)
                if key in served and self.failures.get(key, 0) < GIVE_UP_AFTER:
                    bar.set_postfix_str(one_line(request.variant.model_id))
                    self._ask(request, served[key])
                bar.update()
            for key, one in served.items():
                self._record_end(one, self.failures.get(key, 0))

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
        self._ask(self.plan.request(variant, self.plan.prompts[0], 0), served[key])

    def _ask(self, request: Request, served: _Served) -> None:
        """Ask, with as many recorded retries as the plan allows; count consecutive failures."""
        key = variant_key(request.variant)
        for attempt in range(1, self.plan.retries + 2):
            if attempt > 1:
                self.sleep(self.plan.retry_backoff_s * 2 ** (attempt - 2))
            completion = served.ask(replace(request, attempt=attempt))
            self.writer.append(completion)
            if completion.ok or served.model.failure():
                break
        self.failures[key] = 0 if completion.ok else self.failures.get(key, 0) + 1
        if not completion.ok and served.model.failure():
            self.failures[key] = GIVE_UP_AFTER

    def _record_end(self, served: _Served, failures: int) -> None:
        """The last word on a serving: its peak memory, and why it ended early if it did."""
        serving = self._serving(served)
        if failures >= GIVE_UP_AFTER:
            serving = replace(serving, status="failed", error=served.model.failure())
        self.writer.append(serving)

    def _serving(self, served: _Served) -> Serving:
        model = served.model
        return Serving(
            variant=model.variant,
            load_s=model.load_s,
            resident_mb=model.resident_mb,
            peak_resident_mb=model.peak_resident_mb(),
            registered_providers=tuple(model.registered_providers),
            gpu_memory_mb=self.power.gpu_memory_mb(model.pid),
            energy_note=served.meter.covers,
            request_notes=served.client.request_notes(self.plan.request(model.variant, self.plan.prompts[0], 0)),
        )


@dataclass(frozen=True, slots=True)
class _Served:
    """A model that answers, the client that asks it, and the meter of the energy it takes."""

    model: ServedModel
    client: ChatClient
    meter: Meter | NoMeter

    def ask(self, request: Request) -> Completion:
        """Ask; the meter is read before the request and after its end, outside of all that is timed.

        Models take turns, so that only the energy between those two readings is this model's.
        """
        before = self.meter.mark()
        completion = self.client.ask(request)
        joules = self.meter.joules_since(before)
        return replace(completion, energy_j=joules, energy_source=None if joules is None else self.meter.source)
