"""What a benchmark is asked to do: `BENCH_*` variables and flags → one checked `BenchmarkSettings`.

A flag overrides its variable; an empty variable counts as absent. Every value that cannot be used
is a `ConfigurationError` naming where it was given, the value seen, and what is allowed. Knows
nothing of what is done with the settings.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from workshop_lib.credentials import KEY_VARIABLE, InvalidKeyError, checked_key
from workshop_lib.errors import ConfigurationError
from workshop_lib.records import Prompt, RequestOptions

PROFILES = ("practice", "foundry", "endpoint")
DEVICES = ("cpu", "gpu", "npu")
MOST_USERS = 256
ENDPOINT_VARIABLE = "FOUNDRY_LOCAL_ENDPOINT"
TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
PLAN_OPTIONS = (
    "rounds", "seed", "max_tokens", "temperature", "stream", "timeout_s", "retries", "retry_backoff_s",
    "unique_prefix", "watts", "price_per_kwh", "extra_body", "tokens_field",
)  # fmt: skip
"""The settings that a plan has too, under the same names."""
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """The settings of one benchmark; the defaults are those of the environment contract.

    Attributes:
        models: aliases or exact ids; `auto` stands for everything served.
        profile: where models come from; None = `endpoint` for an address, else `practice`.
        prompt: the one text to send instead of a set of prompts.
        prompts_file, prompt_set: where the set is; None = `data/prompts.json`.
        unique_prefix: begin the prompts of each round with a line of its own, against prompt caches.
        max_tokens: longest answer in tokens.
        timeout_s: seconds without a byte before a request counts as stalled.
        retries: how often a failed request is repeated, as a record of its own.
        retry_backoff_s: seconds before the first repetition, doubled for each further one.
        show_usage: report token counts on standard error.
        output: folder for records and report; None = the caller's choice.
        json_file: a file for the JSON array, besides standard output.
        fail_on_empty: exit with 1 when a model gave an empty answer.
        watts: power to assume where none can be measured; None = what `models.json` declares.
        price_per_kwh: price of a kilowatt-hour in any currency; None = energy without its cost.
        users: numbers of simultaneous users to measure after the benchmark; empty = none.
        extra_body: JSON merged into each request; a null in it removes a parameter.
        tokens_field: `max_tokens` or `max_completion_tokens`; None = found out.
    """

    models: tuple[str, ...] = ("auto",)
    devices: tuple[str, ...] = ("cpu", "gpu")
    profile: str | None = None
    endpoint: str | None = None
    api_key: str | None = field(default=None, repr=False)
    rounds: int = 3
    prompt: str | None = None
    prompts_file: Path | None = None
    prompt_set: str = "course"
    unique_prefix: bool = False
    max_tokens: int = 120
    temperature: float = 0.0
    stream: bool = True
    seed: int = 20
    timeout_s: float = 60.0
    retries: int = 0
    retry_backoff_s: float = 1.0
    show_usage: bool = False
    output: Path | None = None
    json_file: Path | None = None
    fail_on_empty: bool = False
    watts: float | None = None
    price_per_kwh: float | None = None
    users: tuple[int, ...] = ()
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    tokens_field: str | None = None

    def read_prompts(self) -> tuple[Prompt, ...]:
        """Return the prompts to send. Raises `DataFileError` for a file that cannot be used."""
        if self.prompt is not None:
            return (Prompt(id="custom", text=self.prompt),)
        from workshop_lib import catalog

        return catalog.read_prompts(self.prompts_file, self.prompt_set)

    def plan_options(self) -> dict[str, Any]:
        """Return the settings that are options of a plan, by the plan's names."""
        return {name: getattr(self, name) for name in PLAN_OPTIONS}


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> BenchmarkSettings:
    """Combine variables and flags. Raises `ConfigurationError`; `--help` exits."""
    parser = _Parser(
        description="Benchmark models on every device and print one JSON array.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    return from_arguments(parser.parse_args(argv), environ)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting; absent flags are None, so that variables show through."""
    for each in SETTINGS:
        if each.flag is None:
            continue
        text = f"{each.help} [{each.variable}]" if each.variable else each.help
        if each.convert is _truth:
            action = argparse.BooleanOptionalAction
            parser.add_argument(each.flag, dest=each.name, action=action, help=text)
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
        elif each.variable and environ.get(each.variable, "").strip():
            values[each.name] = each.read(each.variable, environ[each.variable])
    if "models" not in values and environ.get("FOUNDRY_LOCAL_ALIAS", "").strip():
        values["models"] = _names(environ["FOUNDRY_LOCAL_ALIAS"])
    settings = BenchmarkSettings(**values)
    settings.read_prompts()
    return settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its field, where it can be given, and how its text becomes a value.

    `convert` raises ValueError for a text that it cannot use; `allowed` is what to give instead.
    """

    name: str
    flag: str | None
    variable: str | None
    convert: Callable[[str], object]
    allowed: str
    help: str
    metavar: str = ""

    def read(self, source: str, text: str) -> object:
        """Return the value of a text given in `source`. Raises `ConfigurationError`."""
        try:
            return self.convert(text.strip())
        except InvalidKeyError as fault:
            raise ConfigurationError(f"{source} {fault}.", "Copy the key again; it is not shown.") from None
        except ValueError:
            pass
        raise ConfigurationError(f"{source} is {text!r}.", f"Give {self.allowed}.")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError
    return names


def _devices(text: str) -> tuple[str, ...]:
    return tuple(_one_of(DEVICES)(name) for name in _names(text.lower()))


def _one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return convert


def _whole(lowest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if int(text) < lowest:
            raise ValueError
        return int(text)

    return convert


def user_counts(text: str) -> tuple[int, ...]:
    """Numbers of simultaneous users, smallest first. Raises `ValueError` for anything else."""
    found = sorted(set(map(_whole(1), _names(text))))
    if found[-1] > MOST_USERS:
        raise ValueError
    return tuple(found)


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if not lowest <= float(text) <= highest:  # not a number is in no range
            raise ValueError
        return float(text)

    return convert


def _retries(text: str) -> int:
    return int(_truth(text)) if text.lower() in _YES + _NO else _whole(0)(text)


def _truth(text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise ValueError
    return text.lower() in _YES


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a text holds. Raises `ValueError` for anything else."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _path(text: str) -> Path:
    return Path(os.path.expanduser(_text(text)))  # noqa: PTH111 - Path's own raises for ~nobody


_SECONDS = _number(math.ulp(0.0), 86400.0)
_AT_LEAST_1 = "a whole number, 1 or more"
_YES_NO = "1 or 0"

SETTINGS = (
    Setting("models", "--models", "BENCH_MODELS", _names, "names separated by commas, or 'auto'",
            "aliases or ids; auto = all served (default)", "NAMES"),
    Setting("devices", "--devices", "BENCH_DEVICES", _devices, "some of cpu, gpu, npu",
            "devices to measure (default: cpu,gpu)", "NAMES"),
    Setting("profile", "--profile", "BENCH_PROFILE", _one_of(PROFILES),
            "practice, foundry or endpoint", "where models come from", "NAME"),
    Setting("endpoint", "--endpoint", ENDPOINT_VARIABLE, _text,
            "an address such as http://127.0.0.1:5273/v1", "server to measure instead", "URL"),
    Setting("api_key", None, KEY_VARIABLE, checked_key, "a key", "key that the endpoint asks for"),
    Setting("rounds", "--rounds", "BENCH_ROUNDS", _whole(1), _AT_LEAST_1,
            "timed rounds per prompt (default: 3)", "N"),
    Setting("prompt", "--prompt", "BENCH_PROMPT", _text, "a question",
            "one prompt instead of a set", "TEXT"),
    Setting("prompts_file", "--prompts-file", "BENCH_PROMPTS_FILE", _path, "the path of a file",
            "another prompts.json, a JSON list, JSON lines or a .txt of prompts", "FILE"),
    Setting("prompt_set", "--prompt-set", "BENCH_PROMPT_SET", _text, "the name of a set",
            "set of the prompts file (default: course)", "NAME"),
    Setting("unique_prefix", "--unique-prefix", "BENCH_UNIQUE_PREFIX", _truth, _YES_NO,
            "begin each round's prompts with a line of its own, against prompt caches"),
    Setting("max_tokens", "--max-tokens", "BENCH_MAX_TOKENS", _whole(1), _AT_LEAST_1,
            "longest answer (default: 120)", "N"),
    Setting("temperature", "--temperature", "BENCH_TEMPERATURE", _number(0.0, 2.0),
            "a number from 0 to 2", "0 = the likeliest token always (default)", "X"),
    Setting("stream", "--stream", "BENCH_STREAM", _truth, _YES_NO,
            "stream, to see the first token (default: yes)"),
    Setting("seed", "--seed", "BENCH_SEED", _whole(0), "a whole number, 0 or more",
            "seed of the order of requests (default: 20)", "N"),
    Setting("timeout_s", "--timeout", "BENCH_TIMEOUT", _SECONDS, "seconds above 0, up to a day",
            "seconds without a byte that count as stalled (default: 60)", "S"),
    Setting("retries", "--retry-on-fail", "RETRY_ON_FAIL", _retries, "a whole number, 0 or more",
            "repeat failed requests, as records of their own (default: 0)", "N"),
    Setting("retry_backoff_s", "--retry-backoff", "RETRY_BACKOFF", _number(0.0, 3600.0),
            "seconds from 0 to 3600", "seconds before a repetition (default: 1)", "S"),
    Setting("show_usage", "--show-usage", "SHOW_USAGE", _truth, _YES_NO,
            "report token counts on standard error"),
    Setting("output", "--output", "BENCH_OUTPUT", _path, "the path of a folder",
            "folder for records and report", "DIR"),
    Setting("json_file", "--json", "BENCH_JSON", _path, "the path of a file",
            "write the JSON array to a file as well", "FILE"),
    Setting("fail_on_empty", "--fail-on-empty", "BENCH_FAIL_ON_EMPTY", _truth, _YES_NO,
            "exit with 1 when a model gave an empty answer"),
    Setting("watts", "--watts", "BENCH_WATTS", _number(math.ulp(0.0), 1e6), "watts above 0",
            "power to assume where none can be measured", "W"),
    Setting("price_per_kwh", "--price-per-kwh", "BENCH_PRICE_PER_KWH", _number(0.0, 1e6),
            "a price of 0 or more", "price of a kilowatt-hour, for the cost of tokens", "X"),
    Setting("users", "--users", "BENCH_USERS", user_counts,
            f"whole numbers from 1 to {MOST_USERS}, separated by commas",
            "numbers of simultaneous users to measure as well, e.g. 1,2,4,8 (default: none)", "N,N"),
    Setting("extra_body", "--extra-body", "BENCH_EXTRA_BODY", json_object, 'a JSON object such as {"top_p": 0.9}',
            "JSON merged into each request; null removes a parameter", "JSON"),
    Setting("tokens_field", "--tokens-field", "BENCH_TOKENS_FIELD", _one_of(TOKENS_FIELDS),
            " or ".join(TOKENS_FIELDS), "name of the limit of an answer (default: found out)", "NAME"),
)  # fmt: skip
"""Every setting; flags, variables and the table in the README follow this one."""


def read_key(environ: Mapping[str, str]) -> str | None:
    """Return the key of the environment as it is sent, None for none. Raises `ConfigurationError`, without the key."""
    given = environ.get(KEY_VARIABLE, "")
    read = next(each for each in SETTINGS if each.name == "api_key").read
    return str(read(KEY_VARIABLE, given)) if given.strip() else None


def request_options(environ: Mapping[str, str]) -> RequestOptions:
    """Return what the environment sets for requests. Raises `ConfigurationError`."""
    given = {each.name: environ.get(each.variable or "", "") for each in SETTINGS}
    names = ("tokens_field", "extra_body")
    readers = {each.name: each for each in SETTINGS}
    values = {
        name: readers[name].read(str(readers[name].variable), given[name]) for name in names if given[name].strip()
    }
    return RequestOptions(**values)  # type: ignore[arg-type]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Make argparse's complaint one line like every other."""
        raise ConfigurationError(f"{message[:1].upper()}{message[1:]}.", "--help lists the flags.")
