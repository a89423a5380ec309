"""What a benchmark is asked to do: `BENCH_*` variables and flags → one checked `BenchmarkSettings`.

A flag overrides its variable; an empty variable counts as absent. A value that cannot be used is a
`ConfigurationError` naming where it was given, the value, and what is allowed. Flags and the table in the manual
follow from the fields.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, Json, StringConstraints, TypeAdapter, ValidationError

from workshop_lib import data
from workshop_lib.credentials import KEY_VARIABLE, checked_key
from workshop_lib.errors import ConfigurationError
from workshop_lib.records import Prompt, RequestOptions

T = TypeVar("T")
Profile = Literal["practice", "foundry", "endpoint"]
TokensField = Literal["max_tokens", "max_completion_tokens"]
PROFILES: tuple[str, ...] = get_args(Profile)
MOST_USERS, FEWEST_TOKENS, LONGEST_PAUSE_S = 256, 32, 60.0
ENDPOINT_VARIABLE = "FOUNDRY_LOCAL_ENDPOINT"
PLAN_OPTIONS = (
    "rounds", "seed", "max_tokens", "temperature", "stream", "timeout_s", "retries", "retry_backoff_s",
    "pause_s", "unique_prefix", "watts", "price_per_kwh", "extra_body", "tokens_field",
)  # fmt: skip
"""The settings that a plan has too, under the same names."""


def split(text: str) -> tuple[str, ...]:
    """The parts of a list separated by commas, each once; none for an empty text."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _split(text: str) -> tuple[str, ...]:
    if not (names := split(text)):
        raise ValueError("Give one or more, separated by commas.")
    return names


def _retries(text: str) -> str:
    """Yes stands for one repetition."""
    return {"true": "1", "yes": "1", "on": "1", "false": "0", "no": "0", "off": "0"}.get(text.lower(), text)


def _expanded(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111 - Path's own raises for ~nobody


Text = Annotated[str, StringConstraints(min_length=1)]
FilePath = Annotated[Path, Field(), BeforeValidator(_expanded)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Devices = Annotated[tuple[data.Device, ...], BeforeValidator(lambda text: _split(text.lower()))]
Numbers = Annotated[T, BeforeValidator(_split), AfterValidator(lambda counts: tuple(sorted(set(counts))))]
Users = Numbers[tuple[Annotated[int, Field(ge=1, le=MOST_USERS)], ...]]
Lengths = Numbers[tuple[Annotated[int, Field(ge=FEWEST_TOKENS, le=1_000_000)], ...]]
AtLeast1 = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Retries = Annotated[int, Field(ge=0), BeforeValidator(_retries)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Timeout = Annotated[float, Field(gt=0, le=86400)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Pause = Annotated[float, Field(ge=0, le=LONGEST_PAUSE_S)]
Watts = Annotated[float, Field(gt=0, le=1e6)]
Price = Annotated[float, Field(ge=0, le=1e6)]
Key = Annotated[str, BeforeValidator(checked_key)]


@dataclass(frozen=True)
class Setting:
    """Where a field of `BenchmarkSettings` can be given, and how its text becomes a value.

    `name` and `kind` are the field's.
    """

    variable: str
    help: str
    metavar: str = ""
    name: str = ""
    kind: Any = None

    @property
    def flag(self) -> str | None:
        """`--rounds` for `BENCH_ROUNDS`; a key has none, as other programs could see it."""
        name = self.variable.removeprefix("BENCH_").removeprefix("FOUNDRY_LOCAL_")
        return None if self.variable == KEY_VARIABLE else f"--{name.lower().replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        """True where a flag needs no value."""
        return get_args(self.kind)[0] is bool

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.kind)

    def read(self, source: str, text: str) -> Any:
        """Return the value of a text given in `source`. Raises `ConfigurationError`, never with a key in it."""
        try:
            return self._adapter.validate_python(text.strip())
        except ValidationError as error:
            said = data.advice(error.errors(include_url=False)[0])
        if self.variable == KEY_VARIABLE:
            raise ConfigurationError(f"{source} {said}", "Copy the key again; it is not shown.") from None
        raise ConfigurationError(f"{source} is {text!r}.", said)


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """The settings of one benchmark; the defaults are those of the environment contract.

    `profile` None = `endpoint` for an address, else `practice`; `watts` None = what `models.json` declares.
    """

    models: Annotated[
        Names, Setting("BENCH_MODELS", "aliases or ids (default: auto = candidates, of an endpoint all)", "NAMES")
    ] = ("auto",)
    devices: Annotated[Devices, Setting("BENCH_DEVICES", "default: cpu,gpu", "NAMES")] = ("cpu", "gpu")
    profile: Annotated[Profile | None, Setting("BENCH_PROFILE", "where models come from", "NAME")] = None
    endpoint: Annotated[Text | None, Setting(ENDPOINT_VARIABLE, "server to measure instead", "URL")] = None
    api_key: Annotated[Key | None, Setting(KEY_VARIABLE, "key of the endpoint")] = field(default=None, repr=False)
    rounds: Annotated[AtLeast1, Setting("BENCH_ROUNDS", "timed rounds per prompt (default: 3)", "N")] = 3
    prompt: Annotated[Text | None, Setting("BENCH_PROMPT", "one prompt instead of a set", "TEXT")] = None
    prompts_file: Annotated[
        FilePath | None,
        Setting("BENCH_PROMPTS_FILE", "another prompts.json, a JSON list, JSON lines or a .txt", "FILE"),
    ] = None
    prompt_set: Annotated[Text, Setting("BENCH_PROMPT_SET", "course (default) or meeting-notes, meetings", "NAME")] = (
        "course"
    )
    unique_prefix: Annotated[
        bool, Setting("BENCH_UNIQUE_PREFIX", "a line of its own before each round's prompts, against prompt caches")
    ] = False
    max_tokens: Annotated[AtLeast1, Setting("BENCH_MAX_TOKENS", "longest answer (default: 120)", "N")] = 120
    temperature: Annotated[Temperature, Setting("BENCH_TEMPERATURE", "default: 0 = likeliest token always", "X")] = 0.0
    stream: Annotated[bool, Setting("BENCH_STREAM", "stream, to see the first token (default: yes)")] = True
    seed: Annotated[Seed, Setting("BENCH_SEED", "of the order of requests (default: 20)", "N")] = 20
    timeout_s: Annotated[Timeout, Setting("BENCH_TIMEOUT", "seconds without a byte = stalled (default: 60)", "S")] = (
        60.0
    )
    retries: Annotated[Retries, Setting("RETRY_ON_FAIL", "repetitions, as records of their own (default: 0)", "N")] = 0
    retry_backoff_s: Annotated[
        Seconds, Setting("RETRY_BACKOFF", "seconds before one, then doubled (default: 1)", "S")
    ] = 1.0
    pause_s: Annotated[Pause, Setting("BENCH_PAUSE", "seconds between requests, to keep cool (default: 0)", "S")] = 0.0
    show_usage: Annotated[bool, Setting("SHOW_USAGE", "report token counts on standard error")] = False
    output: Annotated[FilePath | None, Setting("BENCH_OUTPUT", "folder for records and report", "DIR")] = None
    json_file: Annotated[FilePath | None, Setting("BENCH_JSON", "write the JSON array to a file, too", "FILE")] = None
    fail_on_empty: Annotated[bool, Setting("BENCH_FAIL_ON_EMPTY", "exit with 1 for an empty answer")] = False
    watts: Annotated[Watts | None, Setting("BENCH_WATTS", "power to assume where none can be measured", "W")] = None
    price_per_kwh: Annotated[Price | None, Setting("BENCH_PRICE_PER_KWH", "price of energy, for costs", "X")] = None
    users: Annotated[Users, Setting("BENCH_USERS", "simultaneous users to measure, e.g. 1,2,4,8", "N,N")] = ()
    goal_first_token_s: Annotated[Seconds, Setting("BENCH_GOAL_FIRST_TOKEN", "goal, 0 = none (default: 0.3)", "S")] = (
        0.3
    )
    goal_latency_s: Annotated[Seconds, Setting("BENCH_GOAL_LATENCY", "goal, 0 = none (default: 1)", "S")] = 1.0
    prompt_lengths: Annotated[
        Lengths, Setting("BENCH_PROMPT_LENGTHS", "prompt lengths to measure, in tokens, e.g. 64,256,1024", "N,N")
    ] = ()
    extra_body: Annotated[
        Json[dict[str, Any]], Setting("BENCH_EXTRA_BODY", "merged into each request; null removes a parameter", "JSON")
    ] = field(default_factory=dict)
    tokens_field: Annotated[
        TokensField | None, Setting("BENCH_TOKENS_FIELD", "name of the limit of an answer (default: found out)", "NAME")
    ] = None

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

    def plan_options(self) -> dict[str, Any]:
        """Return the settings that are options of a plan, by the plan's names."""
        return {name: getattr(self, name) for name in PLAN_OPTIONS}


SETTINGS = tuple(
    replace(each, name=name, kind=kind)
    for name, kind in get_type_hints(BenchmarkSettings, include_extras=True).items()
    for each in get_args(kind)
    if isinstance(each, Setting)
)
_BY_NAME = {each.name: each for each in SETTINGS}


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas.

    >>> names("practice-small, practice-large")
    ('practice-small', 'practice-large')

    Raises:
        ConfigurationError: there is none.
    """
    return tuple(_BY_NAME["models"].read("models", text))


def devices(text: str) -> tuple[str, ...]:
    """Return the devices in a list separated by commas. Raises `ConfigurationError` for others than cpu, gpu, npu."""
    return tuple(_BY_NAME["devices"].read("devices", text))


def users(text: str) -> tuple[int, ...]:
    """Return numbers of simultaneous users, smallest first; none for an empty text. Raises `ConfigurationError`."""
    return _numbers("users", text)


def prompt_lengths(text: str) -> tuple[int, ...]:
    """Return prompt lengths in tokens, shortest first; none for an empty text. Raises `ConfigurationError`."""
    return _numbers("prompt_lengths", text)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    return tuple(_BY_NAME[name].read(name, text)) if text.strip() else ()


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> BenchmarkSettings:
    """Combine variables and flags. Raises `ConfigurationError`; `--help` exits."""
    parser = _Parser(description="Benchmark models on every device and print one JSON array.", allow_abbrev=False)
    add_arguments(parser)
    return from_arguments(parser.parse_args(argv), environ)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting; absent flags are None, so that variables show through."""
    for each in SETTINGS:
        text = f"{each.help} [{each.variable}]"
        if not each.flag:
            continue
        if each.is_switch:
            parser.add_argument(each.flag, dest=each.name, action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument(each.flag, dest=each.name, metavar=each.metavar, help=text)


def from_arguments(options: argparse.Namespace, environ: Mapping[str, str]) -> BenchmarkSettings:
    """Combine parsed flags with variables. Raises `ConfigurationError`."""
    values: dict[str, Any] = {}
    for each in SETTINGS:
        given = getattr(options, each.name, None)
        if isinstance(given, bool):
            values[each.name] = given
        elif given is not None:
            values[each.name] = each.read(str(each.flag), given)
        elif environ.get(each.variable, "").strip():
            values[each.name] = each.read(each.variable, environ[each.variable])
    if "models" not in values and environ.get("FOUNDRY_LOCAL_ALIAS", "").strip():
        values["models"] = names(environ["FOUNDRY_LOCAL_ALIAS"])
    _choose_prompts(options, values)
    settings = BenchmarkSettings(**values)
    settings.read_prompts()
    return settings


def _choose_prompts(options: argparse.Namespace, values: dict[str, Any]) -> None:
    """Flags for prompts override `BENCH_PROMPT`. Raises `ConfigurationError` for two that cannot both be followed."""
    given = [name for name in ("prompt", "prompts_file", "prompt_set") if getattr(options, name, None) is not None]
    if "prompt" in given[:-1]:
        raise ConfigurationError(f"{_BY_NAME[given[1]].flag} stands beside --prompt.", "Give one of the two.")
    if given and "prompt" not in given:
        values.pop("prompt", None)
    if "prompt_set" in given and (file := values.get("prompts_file")) and not data.has_sets(file):
        raise ConfigurationError(f"--prompt-set is given, but {file.name} has no sets.", "Give one of the two.")


def read_key(environ: Mapping[str, str]) -> str | None:
    """Return the key of the environment as it is sent, None for none. Raises `ConfigurationError`, without the key."""
    given = environ.get(KEY_VARIABLE, "")
    return str(_BY_NAME["api_key"].read(KEY_VARIABLE, given)) if given.strip() else None


def pause_s(environ: Mapping[str, str]) -> float:
    """Return the seconds between requests that the environment asks for. Raises `ConfigurationError`."""
    return float(_from_environment(environ, "pause_s").get("pause_s", 0.0))


def request_options(environ: Mapping[str, str]) -> RequestOptions:
    """Return what the environment sets for requests. Raises `ConfigurationError`."""
    return RequestOptions(**_from_environment(environ, "tokens_field", "extra_body"))


def _from_environment(environ: Mapping[str, str], *wanted: str) -> dict[str, Any]:
    """The settings of these names whose variables are set, by name."""
    given = [each for each in (_BY_NAME[name] for name in wanted) if environ.get(each.variable, "").strip()]
    return {each.name: each.read(each.variable, environ[each.variable]) for each in given}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Make argparse's complaint one line like every other."""
        raise ConfigurationError(f"{message[:1].upper()}{message[1:]}.", "--help lists the flags.")
