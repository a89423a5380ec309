"""The loop that runs a plan: serve, warm up, ask, record; skip what fails and go on.

Knows runtimes, the client and the record file. Knows no tables and no charts: it returns a `Run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workshop_lib import machine
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.plan import Plan
from workshop_lib.profiles import Runtime, ServedModel
from workshop_lib.records import ModelVariant, Request, Run, Serving, variant_key
from workshop_lib.storage import RunWriter, read_run

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
) -> Run:
    """Measure the plan; every record is in `folder/records.jsonl` as soon as the progress bar counts it.

    A folder that holds an interrupted run of the same plan is completed: what was recorded is not asked again.

    Raises:
        RecordFileError: another process writes there, or another plan was measured there.
        ConfigurationError: the folder holds a run of a different plan.
    """
    path = folder / RECORDS_FILE
    earlier = _earlier_run(path, plan)
    started = datetime.now(UTC)
    run = earlier or Run(
        run_id=started.strftime("%Y%m%dT%H%M%SZ"),
        started_at=started.isoformat(timespec="seconds"),
        profile=runtime.profile,
        machine=machine.fingerprint(),
        plan=plan.describe(),
        prompts=plan.prompts,
    )
    with RunWriter(path, run) as writer:
        _Measurement(plan, runtime, writer, run, sleep).measure(show_progress=show_progress)
    return read_run(path)


def _earlier_run(path: Path, plan: Plan) -> Run | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    run = read_run(path)
    unlike = sorted(name for name, value in plan.describe().items() if run.plan.get(name) != value)
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
        sleep: Callable[[float], None],
    ) -> None:
        self.plan = plan
        self.runtime = runtime
        self.writer = writer
        self.sleep = sleep
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
            clients: dict[tuple[str, str], ChatClient] = {}
            served: dict[tuple[str, str], ServedModel] = {}
            for variant in variants:
                if variant_key(variant) in wanted:
                    bar.set_postfix_str(f"loading {variant.model_id}")
                    self._serve(variant, stack, served, clients)
            for request in open_requests:
                key = variant_key(request.variant)
                if key in clients and self.failures.get(key, 0) < GIVE_UP_AFTER:
                    bar.set_postfix_str(request.variant.model_id)
                    self._ask(request, served[key], clients[key])
                bar.update()
            for key, model in served.items():
                self._record_end(model, self.failures.get(key, 0))

    def _serve(
        self,
        variant: ModelVariant,
        stack: ExitStack,
        served: dict[tuple[str, str], ServedModel],
        clients: dict[tuple[str, str], ChatClient],
    ) -> None:
        """Load, serve and warm up one variant; a failure is recorded and the batch goes on."""
        key = variant_key(variant)
        try:
            model = stack.enter_context(self.runtime.serve(variant))
        except WorkshopError as error:
            self.failures[key] = GIVE_UP_AFTER
            self.writer.append(Serving(variant, status="failed", error=str(error)))
            return
        client = ChatClient(model.base_url, api_key=model.api_key, timeout_s=self.plan.timeout_s)
        served[key], clients[key] = model, stack.enter_context(client)
        self.writer.append(_serving(model))
        self._ask(self.plan.request(variant, self.plan.prompts[0], 0), model, client)

    def _ask(self, request: Request, model: ServedModel, client: ChatClient) -> None:
        """Ask, with as many recorded retries as the plan allows; count consecutive failures."""
        key = variant_key(request.variant)
        for attempt in range(1, self.plan.retries + 2):
            if attempt > 1:
                self.sleep(self.plan.retry_backoff_s * 2 ** (attempt - 2))
            completion = client.ask(replace(request, attempt=attempt))
            self.writer.append(completion)
            if completion.ok or model.failure():
                break
        self.failures[key] = 0 if completion.ok else self.failures.get(key, 0) + 1
        if not completion.ok and model.failure():
            self.failures[key] = GIVE_UP_AFTER

    def _record_end(self, model: ServedModel, failures: int) -> None:
        """The last word on a serving: its peak memory, and why it ended early if it did."""
        serving = _serving(model)
        if failures >= GIVE_UP_AFTER:
            serving = replace(serving, status="failed", error=model.failure())
        self.writer.append(serving)


def _serving(model: ServedModel) -> Serving:
    return Serving(
        variant=model.variant,
        load_s=model.load_s,
        resident_mb=model.resident_mb,
        peak_resident_mb=model.peak_resident_mb(),
        registered_providers=tuple(model.registered_providers),
    )
