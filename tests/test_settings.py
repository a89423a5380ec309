"""Variables and flags become settings; what cannot be used is refused in one line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib import settings
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.settings import BenchmarkSettings, parse


def test_nothing_given_means_the_defaults_of_the_contract() -> None:
    """3 rounds, 120 tokens, temperature 0, streaming, 60 seconds, every model served."""
    found = parse([], {})
    assert found == BenchmarkSettings()
    assert (found.models, found.rounds, found.max_tokens) == (("auto",), 3, 120)
    assert (found.temperature, found.stream, found.timeout_s) == (0.0, True, 60.0)
    assert (found.retries, found.profile, found.endpoint) == (0, None, None)


def test_variables_are_read() -> None:
    """Every variable of the contract reaches its field."""
    found = parse(
        [],
        {
            "BENCH_MODELS": "small, large,small",
            "BENCH_ROUNDS": "5",
            "BENCH_PROMPT": "Why?",
            "BENCH_MAX_TOKENS": "64",
            "BENCH_TEMPERATURE": "0.7",
            "BENCH_STREAM": "0",
            "FOUNDRY_LOCAL_ENDPOINT": "http://host:5273/v1",
            "API_KEY": "key",
            "BENCH_TIMEOUT": "2.5",
            "SHOW_USAGE": "yes",
            "RETRY_ON_FAIL": "2",
            "RETRY_BACKOFF": "0.5",
            "BENCH_DEVICES": "GPU",
            "BENCH_PROFILE": "endpoint",
        },
    )
    assert found == BenchmarkSettings(
        models=("small", "large"),
        rounds=5,
        prompt="Why?",
        max_tokens=64,
        temperature=0.7,
        stream=False,
        endpoint="http://host:5273/v1",
        api_key="key",
        timeout_s=2.5,
        show_usage=True,
        retries=2,
        retry_backoff_s=0.5,
        devices=("gpu",),
        profile="endpoint",
    )


def test_flags_override_variables() -> None:
    """A flag wins over its variable, also when it switches something off."""
    found = parse(
        ["--rounds", "2", "--no-stream", "--json", "out.json", "--output", "run"],
        {"BENCH_ROUNDS": "9", "BENCH_STREAM": "1"},
    )
    assert (found.rounds, found.stream) == (2, False)
    assert (found.json_file, found.output) == (Path("out.json"), Path("run"))


def test_a_bad_variable_does_not_matter_under_a_flag() -> None:
    """Only the value that would be used is looked at."""
    assert parse(["--rounds", "2"], {"BENCH_ROUNDS": "many"}).rounds == 2


def test_an_empty_variable_counts_as_absent() -> None:
    """Shells leave empty variables behind; they mean the default."""
    assert parse([], {"BENCH_ROUNDS": " ", "BENCH_MODELS": ""}) == BenchmarkSettings()


def test_the_alias_variable_names_the_model_unless_models_are_given() -> None:
    """FOUNDRY_LOCAL_ALIAS is the learner's usual model; BENCH_MODELS is more specific."""
    assert parse([], {"FOUNDRY_LOCAL_ALIAS": "phi-4-mini"}).models == ("phi-4-mini",)
    both = {"FOUNDRY_LOCAL_ALIAS": "phi-4-mini", "BENCH_MODELS": "a,b"}
    assert parse([], both).models == ("a", "b")


@pytest.mark.parametrize(("text", "retries"), [("0", 0), ("no", 0), ("1", 1), ("true", 1), ("3", 3)])
def test_retries_are_a_count_or_yes(text: str, retries: int) -> None:
    """RETRY_ON_FAIL takes a number, and yes for one repetition."""
    assert parse([], {"RETRY_ON_FAIL": text}).retries == retries


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BENCH_ROUNDS", "0"),
        ("BENCH_ROUNDS", "-1"),
        ("BENCH_ROUNDS", "3.0"),
        ("BENCH_ROUNDS", "three"),
        ("BENCH_MAX_TOKENS", "0"),
        ("BENCH_TEMPERATURE", "nan"),
        ("BENCH_TEMPERATURE", "-0.1"),
        ("BENCH_TEMPERATURE", "2.1"),
        ("BENCH_STREAM", "maybe"),
        ("BENCH_TIMEOUT", "0"),
        ("BENCH_TIMEOUT", "inf"),
        ("BENCH_SEED", "x"),
        ("BENCH_MODELS", ","),
        ("BENCH_DEVICES", "cpu,tpu"),
        ("BENCH_PROFILE", "cloud"),
        ("RETRY_ON_FAIL", "-1"),
        ("RETRY_BACKOFF", "nan"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(variable: str, value: str) -> None:
    """The error names the variable, the value seen and what is allowed, on one line; exit code 2."""
    with pytest.raises(ConfigurationError) as caught:
        parse([], {variable: value})
    assert caught.value.exit_code == 2
    assert caught.value.what == f"{variable} is {value!r}."
    assert caught.value.fix.startswith("Give ")
    assert "\n" not in str(caught.value)


def test_a_bad_flag_is_named_as_the_flag() -> None:
    """The reader is told what to change where it was written."""
    with pytest.raises(ConfigurationError, match=r"^--rounds is '0'\. Give a whole number"):
        parse(["--rounds", "0"], {})
    with pytest.raises(ConfigurationError, match=r"^--prompt is ''\. Give a question\."):
        parse(["--prompt", ""], {})


@pytest.mark.parametrize("arguments", [["--wrong"], ["--rounds"], ["surplus"], ["--round", "2"]])
def test_flags_that_do_not_exist_are_one_line(arguments: list[str]) -> None:
    """argparse's own complaints become errors like every other; flags are not abbreviated."""
    with pytest.raises(ConfigurationError) as caught:
        parse(arguments, {})
    assert "\n" not in str(caught.value)


def test_help_lists_every_flag_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """--help exits with 0 and needs nothing but text."""
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    for each in settings.SETTINGS:
        assert each.flag is None or each.flag in shown
        assert each.flag is None or str(each.variable) in shown


def test_the_key_never_shows() -> None:
    """A printed or logged settings object does not give the key away, and no flag takes it."""
    found = parse([], {"API_KEY": "very-secret"})
    assert found.api_key == "very-secret"
    assert "very-secret" not in repr(found)
    assert all(each.flag is None for each in settings.SETTINGS if each.name == "api_key")


def test_one_prompt_replaces_the_set() -> None:
    """BENCH_PROMPT is sent alone, under a name of its own."""
    (prompt,) = parse(["--prompt", "Why?"], {}).read_prompts()
    assert (prompt.id, prompt.text) == ("custom", "Why?")


def test_the_courses_prompts_are_the_default() -> None:
    """Without a prompt, the eight of the course are sent."""
    assert len(BenchmarkSettings().read_prompts()) == 8


def test_a_prompts_file_is_checked_at_once(tmp_path: Path) -> None:
    """A file that cannot be read stops the run before any model is started."""
    good = tmp_path / "mine.json"
    good.write_text(json.dumps(["One?", "Two?"]), encoding="utf-8")
    found = parse(["--prompts-file", str(good)], {})
    assert [prompt.text for prompt in found.read_prompts()] == ["One?", "Two?"]
    with pytest.raises(DataFileError, match="is missing"):
        parse(["--prompts-file", str(tmp_path / "absent.json")], {})
    with pytest.raises(DataFileError, match="has no set 'other'"):
        parse([], {"BENCH_PROMPT_SET": "other"})


def test_the_flags_fit_another_parser() -> None:
    """A command with more flags of its own can offer these as well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--more", action="store_true")
    settings.add_arguments(parser)
    options = parser.parse_args(["--more", "--rounds", "4"])
    assert settings.from_arguments(options, {}).rounds == 4


def test_every_field_has_one_setting() -> None:
    """Nothing can be set that is not in the table, and nothing in the table is without effect."""
    fields = list(BenchmarkSettings.__dataclass_fields__)
    assert sorted(each.name for each in settings.SETTINGS) == sorted(fields)


@given(st.text(), st.sampled_from(settings.SETTINGS))
def test_any_text_gives_settings_or_a_clear_error(text: str, setting: settings.Setting) -> None:
    """No variable can raise anything but a configuration error."""
    try:
        found = parse([], {str(setting.variable): text})
    except ConfigurationError:
        return
    assert isinstance(found, BenchmarkSettings)


def test_the_readme_lists_every_variable_and_flag() -> None:
    """The table in the README has one row per setting, with variable and flag."""
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    for each in settings.SETTINGS:
        (row,) = [line for line in rows if line.startswith(f"| `{each.variable}` |")]
        assert each.flag is None or f"`{each.flag}`" in row


@pytest.mark.parametrize(("flag", "variable"), [("--watts", "BENCH_WATTS"), ("--price-per-kwh", "BENCH_PRICE_PER_KWH")])
def test_power_and_price_are_numbers(flag: str, variable: str) -> None:
    """Watts and a price come by flag or variable, the flag wins, and a text is refused by name."""
    name = variable.removeprefix("BENCH_").lower()
    assert getattr(parse([], {}), name) is None
    assert getattr(parse([], {variable: "45.5"}), name) == 45.5
    assert getattr(parse([flag, "30"], {variable: "45.5"}), name) == 30.0
    for text in ("much", "-1", "nan", "inf"):
        with pytest.raises(ConfigurationError, match=f"^{variable} is '{text}'"):
            parse([], {variable: text})


def test_no_power_is_no_number_of_watts() -> None:
    """0 W would make every model free; a price of 0 is one that some have."""
    with pytest.raises(ConfigurationError, match="watts above 0"):
        parse(["--watts", "0"], {})
    assert parse(["--price-per-kwh", "0"], {}).price_per_kwh == 0.0
