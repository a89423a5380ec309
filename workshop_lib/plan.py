"""The plan of a benchmark: which variants, prompts and rounds, and in which seeded order.

Knows runtimes only to choose variants. Sends nothing.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

from workshop_lib import settings
from workshop_lib.client import DEFAULT_TIMEOUT_S
from workshop_lib.credentials import redact
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.records import ModelVariant, Prompt, Request, RequestOptions, variant_key
from workshop_lib.runtimes.profiles import ALL, AUTO, Runtime

Order = Literal["round-robin", "blocks"]
Skipped = list[tuple[ModelVariant, str]]
"""What was asked for and cannot be measured, each with the reason."""

SERVER_OVERHEAD_MB = 150.0
MEMORY_PER_SIZE = 1.3
MEMORY_SHARE = 0.6
"""Models are served together when size x 1.3 + 150 MB each stays within 60 % of the free memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured. The same plan and seed send the same requests in the same order.

    `skipped` holds what was asked for but cannot be measured here, each with its reason. With `unique_prefix` every
    round begins its prompts with a line of its own, so that no cache of prompt prefixes can serve them; against a
    server that may remember an earlier run, choose another seed. The warm-up always has such a line: the first timed
    round then meets no prompt that was asked before. `pause_s` is waited before each timed request. `watts` is the
    power to assume where none can be measured, `price_per_kwh` what a kilowatt-hour costs. `extra_body` and
    `tokens_field` are those of `RequestOptions`.
    """

    variants: tuple[ModelVariant, ...]
    prompts: tuple[Prompt, ...]
    skipped: tuple[tuple[ModelVariant, str], ...] = ()
    rounds: int = 3
    seed: int = 20
    max_tokens: int = 120
    temperature: float = 0.0
    stream: bool = True
    order: Order = "round-robin"
    timeout_s: float = DEFAULT_TIMEOUT_S
    retries: int = 0
    retry_backoff_s: float = 1.0
    pause_s: float = 0.0
    unique_prefix: bool = False
    watts: float | None = None
    price_per_kwh: float | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    tokens_field: str | None = None

    @property
    def request_options(self) -> RequestOptions:
        """What is set explicitly for every request."""
        return RequestOptions(self.tokens_field, self.extra_body)

    def blocks(self) -> Iterator[tuple[tuple[ModelVariant, ...], list[Request]]]:
        """Groups of variants served together, each with its timed requests in seeded order.

        Round-robin: one block; within a round every model and prompt once, shuffled, so that heat and other load hit
        all alike. Blocks: one model and one round at a time, the blocks shuffled, for models that do not fit together.
        """
        shuffle = random.Random(self.seed).shuffle  # noqa: S311 - an order, not a secret
        if self.order == "round-robin":
            ordered: list[Request] = []
            for round_ in range(1, self.rounds + 1):
                turn = [self.request(each, prompt, round_) for each in self.variants for prompt in self.prompts]
                shuffle(turn)
                ordered += turn
            yield self.variants, ordered
            return
        pairs = [(variant, round_) for variant in self.variants for round_ in range(1, self.rounds + 1)]
        shuffle(pairs)
        for variant, round_ in pairs:
            turn = [self.request(variant, prompt, round_) for prompt in self.prompts]
            shuffle(turn)
            yield (variant,), turn

    def request(self, variant: ModelVariant, prompt: Prompt, round_: int) -> Request:
        """The request for one prompt in one round; round 0 is the untimed warm-up."""
        return Request(
            request_id=f"{variant.model_id}/{prompt.id}/{round_}",
            variant=variant,
            prompt_id=prompt.id,
            text=f"{self._prefix(round_)}{prompt.text}",
            round=round_,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            stream=self.stream,
        )

    def _prefix(self, round_: int) -> str:
        return f"Round {round_}, seed {self.seed}.\n\n" if self.unique_prefix or round_ == 0 else ""

    def describe(self) -> dict[str, Any]:
        """What a record file keeps of the plan: enough to tell whether two runs did the same work."""
        texts = "\0".join(prompt.text for prompt in self.prompts)
        described = asdict(replace(self, variants=(), prompts=(), skipped=()))
        optional = ("variants", "prompts", "skipped", "watts", "price_per_kwh", "extra_body", "tokens_field", "pause_s")
        for name in optional:
            if not described[name]:  # what was not set is left out, so that older runs compare as equal
                del described[name]
        if self.extra_body:
            described["extra_body"] = json.loads(redact(json.dumps(dict(self.extra_body))))
        return {**described, "prompts_sha256": sha256(texts.encode("utf-8")).hexdigest()}


def make_plan(variants: Sequence[ModelVariant], prompts: Sequence[Prompt], **options: Any) -> Plan:
    """A checked plan; `options` are the other fields of `Plan`.

    Without `order`, the free memory decides it; without `pause_s`, and without `extra_body` and `tokens_field`, the
    environment. Raises `ConfigurationError` without prompts, for rounds or max_tokens below 1, a temperature outside 0
    to 2, a pause outside 0 to 60 s, and for watts of 0 or less.
    """
    if not prompts:
        raise ConfigurationError("The prompt set is empty.", "Give at least one prompt.")
    for name in ("rounds", "max_tokens"):
        if options.get(name, 1) < 1:
            raise ConfigurationError(f"{name} is {options[name]}.", "Give 1 or more.")
    if not 0 <= options.get("temperature", 0.0) <= 2:
        raise ConfigurationError(f"temperature is {options['temperature']}.", "Give 0 to 2.")
    options.setdefault("pause_s", settings.pause_s(os.environ))
    if not 0 <= options["pause_s"] <= settings.LONGEST_PAUSE_S:
        raise ConfigurationError(f"pause_s is {options['pause_s']}.", f"Give 0 to {settings.LONGEST_PAUSE_S:g} s.")
    watts = options.get("watts")
    if watts is not None and not 0 < watts < math.inf:
        raise ConfigurationError(f"watts is {watts}.", "Give a number above 0, or None if it is not known.")
    options.setdefault("order", _order(variants))
    if "extra_body" not in options and "tokens_field" not in options:
        here = settings.request_options(os.environ)
        options |= {"extra_body": here.extra_body, "tokens_field": here.tokens_field}
    return Plan(variants=tuple(variants), prompts=tuple(prompts), **options)


def _order(variants: Sequence[ModelVariant]) -> Order:
    import psutil

    free_mb = psutil.virtual_memory().available / 1e6
    needed = sum(SERVER_OVERHEAD_MB + MEMORY_PER_SIZE * (variant.size_mb or 0.0) for variant in variants)
    return "round-robin" if needed <= MEMORY_SHARE * free_mb else "blocks"


def find_models(
    runtime: Runtime, models: str | Sequence[str] = AUTO, devices: str | Sequence[str] = ("cpu", "gpu")
) -> tuple[list[ModelVariant], Skipped]:
    """The variants to work with, and what cannot be used, with reasons.

    `models` are aliases or exact ids, `devices` `cpu` or `gpu`, as sequences or as text with commas; `auto` means the
    default candidates, `all` every variant, of what is ready. Raises `ModelNotFoundError` where none is left,
    `ConfigurationError` for an unknown device.
    """
    wanted = settings.names(models) if isinstance(models, str) else models
    on = settings.devices(devices) if isinstance(devices, str) else devices
    variants, skipped = choose_variants(runtime, wanted, on)
    if not variants:
        why = skipped[0][1] if skipped else f"No model is ready for {' or '.join(on)}."
        raise ModelNotFoundError(why, "Name models that the catalog lists, or other devices.")
    return variants, skipped


def to_fetch(runtime: Runtime, models: str | Sequence[str] = AUTO) -> list[ModelVariant]:
    """The default candidates that `download` would bring here, where `models` asks for `auto` or `all`."""
    names = settings.names(models) if isinstance(models, str) else models
    return runtime.to_fetch() if {AUTO, ALL} & set(names) else []


def choose_variants(
    runtime: Runtime, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")
) -> tuple[list[ModelVariant], Skipped]:
    """As `find_models`, and nothing may be left.

    Skipped are unknown names, absent devices, and, of `auto`, registered models that cannot be served any more.
    """
    variants: dict[tuple[str, str], ModelVariant] = {}
    skipped: Skipped = []
    for name in names:
        try:
            variants |= {variant_key(found): found for found in runtime.find([name], devices)}
        except ModelNotFoundError as error:
            skipped.append((ModelVariant(alias=name, model_id=name, device="unknown"), str(error)))
    if {AUTO, ALL} & set(names):
        named = {variant.alias for variant, _ in skipped}
        skipped += [
            (variant, reason)
            for variant, reason in runtime.left_out()
            if variant.device in devices and not {variant.alias, variant.model_id} & named
        ]
    return list(variants.values()), skipped + _on_absent_devices(runtime, names, devices)


def _on_absent_devices(runtime: Runtime, names: Sequence[str], devices: Sequence[str]) -> Skipped:
    """One entry per alias and absent device, so that a report can say what is missing and why.

    The aliases are those of the CPU, too: where only an absent device is asked for, nothing else has any.
    """
    absent = {device: reason for device, reason in runtime.absent_devices().items() if device in devices}
    aliases: dict[str, None] = {}
    for name in names if absent else ():
        with suppress(ModelNotFoundError):
            aliases |= dict.fromkeys(variant.alias for variant in runtime.find([name], (*devices, "cpu")))
    return [
        (ModelVariant(alias=alias, model_id=alias, device=device), reason)
        for device, reason in absent.items()
        for alias in aliases
    ]
