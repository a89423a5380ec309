"""What a benchmark is asked to do: `BENCH_*` variables and flags → one checked `BenchmarkSettings`.

A flag overrides its variable; an empty variable counts as absent. A value that cannot be used is a
`ConfigurationError` naming where it was given, the value, and what is allowed. Flags follow from the fields.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from workshop_lib import data
from workshop_lib.credentials import KEY_VARIABLE, checked_key
from workshop_lib.errors import ConfigurationError
from workshop_lib.records import Prompt, RequestOptions

T = TypeVar("T")
Profile = Literal["practice", "foundry", "endpoint"]
PROFILES: tuple[str, ...] = get_args(Profile)
ENDPOINT_VARIABLE = "FOUNDRY_LOCAL_ENDPOINT"


def split(text: str) -> tuple[str, ...]:
    """The parts of a list separated by commas, each once; none for an empty text."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _split(given: object) -> object:
    return split(given) if isinstance(given, str) else given


def _lower(given: object) -> object:
    return given.lower() if isinstance(given, str) else given


def _retries(given: object) -> object:
    """Yes stands for one repetition."""
    return {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}.get(str(given).lower(), given)


def _expanded(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111 - Path's own raises for ~nobody


def _json(given: object) -> object:
    wanted = 'Give a JSON object such as {"top_p": 0.9}'
    try:
        found = json.loads(given) if isinstance(given, str) else given
    except ValueError as error:
        raise ValueError(f"{wanted} ({error}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{wanted}.")
    return found


Text = Annotated[str, StringConstraints(min_length=1)]
FilePath = Annotated[Path, Field(), BeforeValidator(_expanded)]
List = Annotated[tuple[T, ...], BeforeValidator(_split)]
Some = Annotated[List[T], Field(min_length=1)]
Numbers = Annotated[List[T], AfterValidator(lambda counts: tuple(sorted(set(counts))))]
AtLeast1 = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


@dataclass(frozen=True)
class Setting:
    """Where a field of `BenchmarkSettings` can be given: its variable, and what `--help` says of its flag."""

    variable: str
    help: str

    @property
    def flag(self) -> str | None:
        """`--rounds` for `BENCH_ROUNDS`; a key has none, as other programs could see it."""
        name = self.variable.removeprefix("BENCH_").removeprefix("FOUNDRY_LOCAL_")
        return None if self.variable == KEY_VARIABLE else f"--{name.lower().replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """The settings of one benchmark; the defaults are those of the environment contract.

    `profile` None = `endpoint` for an address, else `practice`; `watts` None = what `models.json` declares.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    models: Annotated[Some[str], Setting("BENCH_MODELS", "aliases or ids (default: auto, see the manual)")] = ("auto",)
    devices: Annotated[Some[data.Device], BeforeValidator(_lower), Setting("BENCH_DEVICES", "default: cpu,gpu")] = (
        "cpu",
        "gpu",
    )
    profile: Annotated[Profile | None, Setting("BENCH_PROFILE", "where models come from")] = None
    endpoint: Annotated[Text | None, Setting(ENDPOINT_VARIABLE, "server to measure instead")] = None
    api_key: Annotated[str | None, BeforeValidator(checked_key), Setting(KEY_VARIABLE, "key of the endpoint")] = field(
        default=None, repr=False
    )
    rounds: Annotated[AtLeast1, Setting("BENCH_ROUNDS", "timed rounds per prompt (default: 3)")] = 3
    prompt: Annotated[Text | None, Setting("BENCH_PROMPT", "one prompt instead of a set")] = None
    prompts_file: Annotated[
        FilePath | None, Setting("BENCH_PROMPTS_FILE", "another prompts.json, a JSON list, JSON lines or a .txt")
    ] = None
    prompt_set: Annotated[Text, Setting("BENCH_PROMPT_SET", "course (default) or meeting-notes, meetings")] = "course"
    unique_prefix: Annotated[
        bool, Setting("BENCH_UNIQUE_PREFIX", "a line of its own before each round's prompts, against prompt caches")
    ] = False
    max_tokens: Annotated[AtLeast1, Setting("BENCH_MAX_TOKENS", "longest answer (default: 120)")] = 120
    temperature: Annotated[
        float, Field(ge=0, le=2), Setting("BENCH_TEMPERATURE", "default: 0 = likeliest token always")
    ] = 0.0
    stream: Annotated[bool, Setting("BENCH_STREAM", "stream, to see the first token (default: yes)")] = True
    seed: Annotated[int, Field(ge=0), Setting("BENCH_SEED", "of the order of requests (default: 20)")] = 20
    timeout_s: Annotated[
        float, Field(gt=0, le=86400), Setting("BENCH_TIMEOUT", "seconds without a byte = stalled (default: 60)")
    ] = 60.0
    retries: Annotated[
        int,
        Field(ge=0),
        BeforeValidator(_retries),
        Setting("RETRY_ON_FAIL", "repetitions, as records of their own (default: 0)"),
    ] = 0
    retry_backoff_s: Annotated[Seconds, Setting("RETRY_BACKOFF", "seconds before one, then doubled (default: 1)")] = 1.0
    pause_s: Annotated[
        float, Field(ge=0, le=60), Setting("BENCH_PAUSE", "seconds between requests, to keep cool (default: 0)")
    ] = 0.0
    show_usage: Annotated[bool, Setting("SHOW_USAGE", "report token counts on standard error")] = False
    output: Annotated[FilePath | None, Setting("BENCH_OUTPUT", "folder for records and report")] = None
    json_file: Annotated[FilePath | None, Setting("BENCH_JSON", "write the JSON array to a file, too")] = None
    fail_on_empty: Annotated[bool, Setting("BENCH_FAIL_ON_EMPTY", "exit with 1 for an empty answer")] = False
    watts: Annotated[
        float | None, Field(gt=0, le=1e6), Setting("BENCH_WATTS", "power to assume where none can be measured")
    ] = None
    price_per_kwh: Annotated[
        float | None, Field(ge=0, le=1e6), Setting("BENCH_PRICE_PER_KWH", "price of energy, for costs")
    ] = None
    users: Annotated[
        Numbers[Annotated[int, Field(ge=1, le=256)]], Setting("BENCH_USERS", "simultaneous users, e.g. 1,2,4,8")
    ] = ()
    goal_first_token_s: Annotated[Seconds, Setting("BENCH_GOAL_FIRST_TOKEN", "goal, 0 = none (default: 0.3)")] = 0.3
    goal_latency_s: Annotated[Seconds, Setting("BENCH_GOAL_LATENCY", "goal, 0 = none (default: 1)")] = 1.0
    prompt_lengths: Annotated[
        Numbers[Annotated[int, Field(ge=32, le=1_000_000)]],
        Setting("BENCH_PROMPT_LENGTHS", "prompt lengths to measure, in tokens, e.g. 64,256,1024"),
    ] = ()
    extra_body: Annotated[
        dict[str, Any],
        BeforeValidator(_json),
        Setting("BENCH_EXTRA_BODY", "JSON merged into each request; null removes a parameter"),
    ] = field(default_factory=dict)
    tokens_field: Annotated[
        Literal["max_tokens", "max_completion_tokens"] | None,
        Setting("BENCH_TOKENS_FIELD", "name of the limit of an answer (default: found out)"),
    ] = None

    @property
    def request_options(self) -> RequestOptions:
        """What is set explicitly for every request."""
        return RequestOptions(self.tokens_field, self.extra_body)

    @property
    def goals(self) -> dict[str, float]:
        """The service goals by the names of floors, in seconds, without those of 0."""
        given = {"latency": self.goal_latency_s, "first_token": self.goal_first_token_s}
        return {name: goal_s for name, goal_s in given.items() if goal_s}

    def read_prompts(self) -> tuple[Prompt, ...]:
        """Return the prompts to send. Raises `DataFileError` for a file that cannot be used."""
        if self.prompt is not None:
            return (Prompt(id="custom", text=self.prompt),)
        return data.read_prompts(self.prompt_set, self.prompts_file)


_ADAPTER = TypeAdapter(BenchmarkSettings)
_KINDS = get_type_hints(BenchmarkSettings, include_extras=True)
SETTINGS = {name: each for name, kind in _KINDS.items() for each in get_args(kind) if isinstance(each, Setting)}


def checked(values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> BenchmarkSettings:
    """Settings of texts or values by the names of fields; a fault names where it was given, else the field.

    Raises `ConfigurationError`, never with a key in it.

    >>> checked({"models": "practice-small, practice-large", "users": "4,1"}).users
    (1, 4)
    """
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0])
    source = (sources or {}).get(name, name)
    if name == "api_key":
        raise ConfigurationError(f"{source} {data.advice(fault)}", "Copy the key again; it is not shown.")
    raise ConfigurationError(f"{source} is {values[name]!r}.", data.advice(fault))


def of_environment(environ: Mapping[str, str], *names: str) -> dict[str, Any]:
    """The checked values of these fields whose variables are set. Raises `ConfigurationError`."""
    texts = {name: text for name in names if (text := environ.get(SETTINGS[name].variable, "").strip())}
    found = checked(texts, {name: SETTINGS[name].variable for name in names})
    return {name: getattr(found, name) for name in texts}


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas. Raises `ConfigurationError` where there is none."""
    return checked({"models": text}).models


def devices(text: str) -> tuple[str, ...]:
    """Return the devices in a list separated by commas. Raises `ConfigurationError` for others than cpu, gpu, npu."""
    return checked({"devices": text}).devices


def read_key(environ: Mapping[str, str]) -> str | None:
    """Return the key of the environment as it is sent, None for none. Raises `ConfigurationError`, without the key."""
    return of_environment(environ, "api_key").get("api_key")


def request_options(environ: Mapping[str, str]) -> RequestOptions:
    """Return what the environment sets for requests. Raises `ConfigurationError`."""
    return RequestOptions(**of_environment(environ, "tokens_field", "extra_body"))


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> BenchmarkSettings:
    """Combine variables and flags. Raises `ConfigurationError`; `--help` exits."""
    parser = Parser(description="Benchmark models on every device and print one JSON array.", allow_abbrev=False)
    for name, each in SETTINGS.items():
        if each.flag:
            switch: Any = {"metavar": each.flag[2:].upper().replace("-", "_")}
            if bool in get_args(_KINDS[name]):
                switch = {"action": argparse.BooleanOptionalAction}
            parser.add_argument(each.flag, dest=name, help=f"{each.help} [{each.variable}]", **switch)
    flags = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    texts = {name: text for name, each in SETTINGS.items() if (text := environ.get(each.variable, "").strip())}
    if alias := environ.get("FOUNDRY_LOCAL_ALIAS", "").strip():
        texts.setdefault("models", alias)
    if {"prompts_file", "prompt_set"} & flags.keys():
        if "prompt" in flags:
            raise ConfigurationError("--prompt stands beside another flag for prompts.", "Give one of the two.")
        texts.pop("prompt", None)
    sources = {name: str(each.flag if name in flags else each.variable) for name, each in SETTINGS.items()}
    settings = checked({**texts, **flags}, sources)
    settings.read_prompts()
    if "prompt_set" in flags and settings.prompts_file and not data.has_sets(settings.prompts_file):
        raise ConfigurationError(f"--prompt-set: {settings.prompts_file.name} has no sets.", "Give one of the two.")
    return settings


class Parser(argparse.ArgumentParser):
    """A command line whose faults are `ConfigurationError`s."""

    def error(self, message: str) -> NoReturn:
        """Make argparse's complaint one line like every other."""
        raise ConfigurationError(f"{message[:1].upper()}{message[1:]}.", "--help lists the flags.")
