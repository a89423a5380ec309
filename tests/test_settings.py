"""Variables and flags become settings; what cannot be used is refused in one line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib import data, settings
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.settings import BenchmarkSettings, parse


def test_nothing_given_means_the_defaults_of_the_contract() -> None:
    """3 rounds, 120 tokens, temperature 0, streaming, 60 seconds, every model served; empty counts as absent."""
    found = parse([], {"BENCH_ROUNDS": " ", "BENCH_MODELS": ""})
    assert found == BenchmarkSettings()
    assert (found.models, found.rounds, found.max_tokens) == (("auto",), 3, 120)
    assert (found.temperature, found.stream, found.timeout_s) == (0.0, True, 60.0)
    assert (found.retries, found.profile, found.endpoint, found.users) == (0, None, None, ())
    assert len(found.read_prompts()) == 8


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("BENCH_MODELS", "small, large,small", "models", ("small", "large")),
        ("FOUNDRY_LOCAL_ALIAS", "phi-4-mini", "models", ("phi-4-mini",)),
        ("BENCH_DEVICES", "GPU", "devices", ("gpu",)),
        ("BENCH_PROFILE", "endpoint", "profile", "endpoint"),
        ("FOUNDRY_LOCAL_ENDPOINT", "http://host:5273/v1", "endpoint", "http://host:5273/v1"),
        ("API_KEY", " key\r\n", "api_key", "key"),
        ("BENCH_ROUNDS", "5", "rounds", 5),
        ("BENCH_PROMPT", "Why?", "prompt", "Why?"),
        ("BENCH_MAX_TOKENS", "64", "max_tokens", 64),
        ("BENCH_TEMPERATURE", "0.7", "temperature", 0.7),
        ("BENCH_STREAM", "0", "stream", False),
        ("BENCH_TIMEOUT", "2.5", "timeout_s", 2.5),
        ("SHOW_USAGE", "yes", "show_usage", True),
        ("RETRY_ON_FAIL", "3", "retries", 3),
        ("RETRY_ON_FAIL", "true", "retries", 1),
        ("RETRY_ON_FAIL", "no", "retries", 0),
        ("RETRY_BACKOFF", "0.5", "retry_backoff_s", 0.5),
        ("BENCH_PAUSE", "2.5", "pause_s", 2.5),
        ("BENCH_USERS", "8, 1,2,2", "users", (1, 2, 8)),
        ("BENCH_GOAL_FIRST_TOKEN", "0.5", "goal_first_token_s", 0.5),
        ("BENCH_GOAL_LATENCY", "0", "goal_latency_s", 0.0),
        ("BENCH_WATTS", "45.5", "watts", 45.5),
        ("BENCH_PRICE_PER_KWH", "0", "price_per_kwh", 0.0),
        ("BENCH_EXTRA_BODY", '{"top_p": 0.9}', "extra_body", {"top_p": 0.9}),
        ("BENCH_TOKENS_FIELD", "max_completion_tokens", "tokens_field", "max_completion_tokens"),
        ("BENCH_OUTPUT", "~/run", "output", Path.home() / "run"),
    ],
)
def test_a_variable_reaches_its_field(variable: str, text: str, name: str, value: object) -> None:
    """Every variable of the contract, as people type it."""
    assert parse([], {variable: text}) == BenchmarkSettings(**{name: value})


def test_flags_override_variables() -> None:
    """A flag wins over its variable, also when it switches something off or the variable cannot be used."""
    found = parse(
        ["--rounds", "2", "--no-stream", "--json", "out.json", "--users", "2"],
        {"BENCH_ROUNDS": "many", "BENCH_STREAM": "1", "BENCH_USERS": "4"},
    )
    assert (found.rounds, found.stream, found.json_file, found.users) == (2, False, Path("out.json"), (2,))
    both = {"FOUNDRY_LOCAL_ALIAS": "phi-4-mini", "BENCH_MODELS": "a,b"}
    assert parse([], both).models == ("a", "b")


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("BENCH_ROUNDS", ["0", "-1", "three", "2.5"]),
        ("BENCH_MAX_TOKENS", ["0"]),
        ("BENCH_TEMPERATURE", ["nan", "-0.1", "2.1"]),
        ("BENCH_STREAM", ["maybe"]),
        ("BENCH_TIMEOUT", ["0", "inf"]),
        ("BENCH_SEED", ["x"]),
        ("BENCH_MODELS", [","]),
        ("BENCH_DEVICES", ["cpu,tpu"]),
        ("BENCH_PROFILE", ["cloud"]),
        ("BENCH_USERS", ["0", "many", "1.5", "257"]),
        ("RETRY_ON_FAIL", ["-1"]),
        ("RETRY_BACKOFF", ["nan"]),
        ("BENCH_GOAL_LATENCY", ["-1", "nan", "inf"]),
        ("BENCH_PAUSE", ["-1", "61", "nan", "inf"]),
        ("BENCH_WATTS", ["0", "much", "inf"]),
        ("BENCH_PRICE_PER_KWH", ["-1", "nan"]),
        ("BENCH_EXTRA_BODY", ["[1]", "{"]),
        ("BENCH_TOKENS_FIELD", ["tokens"]),
    ],
)
def test_a_value_that_cannot_be_used_is_named(variable: str, values: list[str]) -> None:
    """The error names the variable, the value seen and what is allowed, on one line; exit code 2."""
    for value in values:
        with pytest.raises(ConfigurationError) as caught:
            parse([], {variable: value})
        assert caught.value.exit_code == 2
        assert caught.value.what == f"{variable} is {value!r}."
        assert caught.value.fix.endswith(".")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "--rounds is '0'. Give 1 or more."),
        (["--rounds", "x"], "--rounds is 'x'. Give a whole number."),
        (["--wrong"], "Unrecognized arguments: --wrong. --help lists the flags."),
        (["--round", "2"], "Unrecognized arguments: --round 2. --help lists the flags."),
    ],
)
def test_a_bad_flag_is_one_line(arguments: list[str], said: str) -> None:
    """The reader is told what to change where it was written; flags are not abbreviated."""
    with pytest.raises(ConfigurationError) as caught:
        parse(arguments, {})
    assert str(caught.value) == said


def test_help_lists_every_flag_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """--help exits with 0 and needs nothing but text."""
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(
        each.flag is None or (each.flag in shown and each.variable in shown) for each in settings.SETTINGS.values()
    )


def test_the_key_never_shows() -> None:
    """A printed settings object and a complaint do not give the key away, and no flag takes it."""
    found = parse([], {"API_KEY": "very-secret"})
    assert found.api_key == "very-secret"
    assert "very-secret" not in repr(found)
    assert settings.SETTINGS["api_key"].flag is None
    with pytest.raises(ConfigurationError) as caught:
        parse([], {"API_KEY": "quite sécret"})
    assert "sécret" not in str(caught.value) and "U+0020" in str(caught.value)


def test_flags_for_prompts_contradict_each_other_or_win(tmp_path: Path) -> None:
    """Two flags that cannot both be followed are refused; one flag is followed, whatever the variables say."""
    file = tmp_path / "own.txt"
    file.write_text("One?\nTwo?\n", encoding="utf-8")
    own, chosen = ["--prompts-file", str(file)], ["--prompt-set", "meetings"]
    for both in (["--prompt", "Hi", *own], ["--prompt", "Hi", *chosen]):
        with pytest.raises(ConfigurationError):
            parse(both, {})
    variables = {"BENCH_PROMPT": "Hi", "BENCH_PROMPT_SET": "course"}
    assert parse(chosen, variables).read_prompts() == data.read_prompts("meetings")
    assert [each.text for each in parse(own, variables).read_prompts()] == ["One?", "Two?"]
    assert [(each.id, each.text) for each in parse([], variables).read_prompts()] == [("custom", "Hi")]


def test_a_prompts_file_is_checked_at_once(tmp_path: Path) -> None:
    """A file that cannot be read stops the run before any model is started."""
    with pytest.raises(DataFileError, match="is missing"):
        parse(["--prompts-file", str(tmp_path / "absent.json")], {})
    with pytest.raises(DataFileError, match="has no set 'other'"):
        parse([], {"BENCH_PROMPT_SET": "other"})


def test_every_field_has_one_setting_and_one_row_in_the_manual() -> None:
    """Nothing can be set that is not described, with variable and flag."""
    assert list(settings.SETTINGS) == [each.name for each in fields(BenchmarkSettings)]
    readme = (Path(__file__).resolve().parents[1] / "docs/MANUAL.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    for each in settings.SETTINGS.values():
        (row,) = [line for line in rows if line.startswith(f"| `{each.variable}` |")]
        assert each.flag is None or f"`{each.flag}`" in row


@given(st.text(), st.sampled_from(list(settings.SETTINGS.values())))
def test_any_text_gives_settings_or_a_clear_error(text: str, setting: settings.Setting) -> None:
    """No variable can raise anything but a configuration error."""
    try:
        found = parse([], {setting.variable: text})
    except ConfigurationError:
        return
    assert isinstance(found, BenchmarkSettings)


def test_pages_read_their_parameters_in_the_same_way() -> None:
    """Spaces, case and repetitions do not matter, lists are taken as well; a fault is named like the parameter."""
    found = settings.checked(
        {"models": " a,b , ", "devices": ["cpu", "gpu"], "users": "8, 1,2,2", "prompt_lengths": ""}
    )
    assert (found.models, found.devices, found.users) == (("a", "b"), ("cpu", "gpu"), (1, 2, 8))
    for name, text in (("models", ","), ("devices", "cpu,tpu"), ("users", "257")):
        with pytest.raises(ConfigurationError, match=f"{name} is '{text}'"):
            settings.checked({name: text})
