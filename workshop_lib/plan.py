"""The plan of a benchmark: which variants, prompts and rounds, and in which seeded order.

Knows runtimes only to choose variants. Sends nothing.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from workshop_lib import settings
from workshop_lib.credentials import redact
from workshop_lib.errors import ConfigurationError, ModelNotFoundError
from workshop_lib.records import ModelVariant, Prompt, Request, key
from workshop_lib.runtimes.profiles import ALL, AUTO, Runtime
from workshop_lib.settings import BenchmarkSettings

Order = Literal["round-robin", "blocks"]
Skipped = list[tuple[ModelVariant, str]]
"""What was asked for and cannot be measured, each with the reason."""


DESCRIBED = ("rounds", "seed", "max_tokens", "temperature", "stream", "timeout_s", "retries", "retry_backoff_s",
             "unique_prefix")  # fmt: skip
WHERE_SET = ("watts", "price_per_kwh", "extra_body", "tokens_field", "pause_s")
"""What a record file keeps of the settings, always and where it is set, so that older runs compare as equal."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, and `how`. The same plan and seed send the same requests in the same order.

    `skipped` holds what was asked for but cannot be measured here, each with its reason. With `unique_prefix` every
    round begins its prompts with a line of its own, so that no cache of prompt prefixes can serve them; the warm-up
    always has such a line.
    """

    variants: tuple[ModelVariant, ...]
    prompts: tuple[Prompt, ...]
    how: BenchmarkSettings
    order: Order = "round-robin"
    skipped: tuple[tuple[ModelVariant, str], ...] = ()

    def blocks(self) -> Iterator[tuple[tuple[ModelVariant, ...], list[Request]]]:
        """Groups of variants served together, each with its timed requests in seeded order.

        Round-robin: one block; within a round every model and prompt once, shuffled, so that heat and other load hit
        all alike. Blocks: one model and one round at a time, the blocks shuffled, for models that do not fit together.
        """
        shuffle = random.Random(self.how.seed).shuffle  # noqa: S311 - an order, not a secret

        def turn(variants: Sequence[ModelVariant], round_: int) -> list[Request]:
            requests = [self.request(variant, prompt, round_) for variant in variants for prompt in self.prompts]
            shuffle(requests)
            return requests

        rounds = range(1, self.how.rounds + 1)
        if self.order == "round-robin":
            yield self.variants, [request for round_ in rounds for request in turn(self.variants, round_)]
            return
        pairs = [(variant, round_) for variant in self.variants for round_ in rounds]
        shuffle(pairs)
        for variant, round_ in pairs:
            yield (variant,), turn((variant,), round_)

    def request(self, variant: ModelVariant, prompt: Prompt, round_: int) -> Request:
        """The request for one prompt in one round; round 0 is the untimed warm-up."""
        prefix = f"Round {round_}, seed {self.how.seed}.\n\n" if self.how.unique_prefix or round_ == 0 else ""
        request_id = f"{variant.model_id}/{prompt.id}/{round_}"
        how = self.how.max_tokens, self.how.temperature, self.how.stream
        return Request(request_id, variant, prompt.id, f"{prefix}{prompt.text}", round_, *how)

    def describe(self) -> dict[str, Any]:
        """What a record file keeps of the plan: enough to tell whether two runs did the same work."""
        texts = "\0".join(prompt.text for prompt in self.prompts)
        described = {name: getattr(self.how, name) for name in DESCRIBED}
        described |= {name: value for name in WHERE_SET if (value := getattr(self.how, name))}
        if self.how.extra_body:
            described["extra_body"] = json.loads(redact(json.dumps(self.how.extra_body)))
        return {**described, "order": self.order, "prompts_sha256": sha256(texts.encode("utf-8")).hexdigest()}


def make_plan(
    variants: Sequence[ModelVariant],
    prompts: Sequence[Prompt],
    *,
    skipped: Sequence[tuple[ModelVariant, str]] = (),
    order: Order | None = None,
    how: BenchmarkSettings | None = None,
    **options: Any,
) -> Plan:
    """A checked plan; `options` are fields of `BenchmarkSettings` such as `rounds`, in place of `how`.

    Without `order`, the free memory decides it; without `pause_s`, `extra_body` and `tokens_field`, the environment.
    Raises `ConfigurationError` without prompts, and for what a setting refuses.
    """
    if not prompts:
        raise ConfigurationError("The prompt set is empty.", "Give at least one prompt.")
    if how is None:
        given = settings.of_environment(os.environ, "pause_s", "extra_body", "tokens_field")
        how = settings.checked({**given, **options})
    return Plan(tuple(variants), tuple(prompts), how, order or _order(variants), tuple(skipped))


def _order(variants: Sequence[ModelVariant]) -> Order:
    """Serve models together where 1.3 x size + 150 MB of each stays within 60 % of the free memory."""
    import psutil

    needed_mb = sum(150 + 1.3 * (variant.size_mb or 0.0) for variant in variants)
    return "round-robin" if needed_mb <= 0.6 * psutil.virtual_memory().available / 1e6 else "blocks"


def find_models(
    runtime: Runtime, models: str | Sequence[str] = AUTO, devices: str | Sequence[str] = ("cpu", "gpu")
) -> tuple[list[ModelVariant], Skipped]:
    """The variants to work with, and what cannot be used, with reasons.

    `models` are aliases or exact ids, `devices` `cpu` or `gpu`, as sequences or as text with commas; `auto` means the
    default candidates, `all` every variant, of what is ready. Raises `ModelNotFoundError` where none is left,
    `ConfigurationError` for an unknown device.
    """
    chosen = settings.checked({"models": models, "devices": devices})
    variants, skipped = choose_variants(runtime, chosen.models, chosen.devices)
    if not variants:
        why = skipped[0][1] if skipped else f"No model is ready for {' or '.join(chosen.devices)}."
        raise ModelNotFoundError(why, "Name models that the catalog lists, or other devices.")
    return variants, skipped


def to_fetch(runtime: Runtime, models: str | Sequence[str] = AUTO) -> list[ModelVariant]:
    """The default candidates that `download` would bring here, where `models` asks for `auto` or `all`."""
    return runtime.to_fetch() if {AUTO, ALL} & set(settings.checked({"models": models}).models) else []


def choose_variants(
    runtime: Runtime, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")
) -> tuple[list[ModelVariant], Skipped]:
    """As `find_models`, and nothing may be left.

    Skipped are unknown names, of `auto` registered models that cannot be served any more, and absent devices: one entry
    per alias and device. Where only an absent device is asked for, the aliases are those of the CPU.
    """
    absent = {device: why for device, why in runtime.absent_devices().items() if device in devices}
    variants: dict[tuple[str, str], ModelVariant] = {}
    aliases: dict[str, None] = {}
    skipped: Skipped = []
    for name in names:
        try:
            variants |= {key(found): found for found in runtime.find([name], devices)}
        except ModelNotFoundError as error:
            skipped.append((ModelVariant(alias=name, model_id=name, device="unknown"), str(error)))
        if absent:
            with suppress(ModelNotFoundError):
                aliases |= dict.fromkeys(found.alias for found in runtime.find([name], (*devices, "cpu")))
    if {AUTO, ALL} & set(names):
        named = {variant.alias for variant, _ in skipped}
        left_out = [each for each in runtime.left_out() if each[0].device in devices]
        skipped += [each for each in left_out if not {each[0].alias, each[0].model_id} & named]
    missing = [(device, why, alias) for device, why in absent.items() for alias in aliases]
    skipped += [(ModelVariant(alias=alias, model_id=alias, device=device), why) for device, why, alias in missing]
    return list(variants.values()), skipped
