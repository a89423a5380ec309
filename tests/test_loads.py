"""Several users at once: the sentence, the table, the figure, the file, and the flag that asks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault_server import fault_server
from tests.figure_helpers import draw
from tests.measurement_helpers import VARIANT, completion
from tests.scripts import FULL
from tests.scripts import run as run_script
from workshop_lib.errors import ConfigurationError, ModelServerError
from workshop_lib.measuring import runs
from workshop_lib.measuring.concurrency import Load, describe, load_object
from workshop_lib.measuring.plan import make_plan
from workshop_lib.programs import commands
from workshop_lib.records import Prompt, Run
from workshop_lib.runtimes import profiles
from workshop_lib.settings import PLAN_OPTIONS, BenchmarkSettings, parse
from workshop_lib.show import charts, tables


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with fault_server() as url:
        yield url


def load(users: int, total: float, latency_s: float) -> Load:
    """A level at which everybody's answer of 100 tokens takes `latency_s`, and all get `total` tokens per second."""
    answer = completion([0.1, latency_s], completion_tokens=100)
    return Load(users, (answer,) * users, 100 * users / total)


GROWING = (load(1, 100, 1.0), load(2, 190, 1.05), load(4, 360, 1.1))
FULL_AT_2 = (load(1, 100, 1.0), load(2, 180, 1.1), load(4, 185, 2.2), load(8, 180, 4.4))
UNCOUNTED = (Load(1, (completion([0.1, 1.0], completion_tokens=None),), 1.0),)


def test_the_sentence_says_where_more_users_only_wait():
    """180 to 185 tokens per second is under 10 % more; 8 users get 1.8 times what one gets and wait 4.4 times."""
    assert describe(FULL_AT_2) == (
        "From 2 users on, more only wait: the next step adds under 10 % to what all get together. 8 users together get "
        "1.8 times the tokens per second of 1 user, and an answer takes 4.4 times as long."
    )
    assert describe(GROWING).startswith("Up to here, more users get more done. 4 users together get 3.6 times")


@pytest.mark.parametrize("loads", [(), GROWING[:1], UNCOUNTED, (*GROWING, *UNCOUNTED)])
def test_without_token_counts_at_two_loads_nothing_is_claimed(loads: tuple[Load, ...]):
    """One level, or a rate that is not known, shows no saturation."""
    assert "was not found" in describe(loads)


def test_the_table_has_a_line_per_number_of_users():
    """Milliseconds and tokens per second; what was not measured says so."""
    shown = tables.loads((*FULL_AT_2[:2], *UNCOUNTED))
    assert list(shown.iloc[1]) == [2, "2 of 2", 180, 91, 100.0, 1100.0]
    assert list(shown["all users (tok/s)"]) == [100, 180, "not measured"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_has_a_track_for_all_and_one_for_each(theme):
    """Two tracks with shapes and styles of their own; title a question, alt text the numbers."""
    figure = draw(charts.loads(FULL_AT_2, theme=theme))
    tracks = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4]
    assert {(line.get_marker(), line.get_linestyle()) for line in tracks} == {("o", "-"), ("s", "--")}
    assert list(tracks[0].get_xdata()) == [1, 2, 4, 8]
    assert figure.texts[0].get_text().endswith("?")
    assert figure.texts[1].get_text().startswith("From 2 on")
    assert "all users together 100 with 1, 180 with 2" in charts.alt_text(figure)


@pytest.mark.parametrize("loads", [(), UNCOUNTED])
def test_nothing_measured_is_drawn_as_such(loads: tuple[Load, ...]):
    """An empty sheet that says so in words."""
    assert "nothing was measured" in charts.alt_text(draw(charts.loads(loads)))


def test_a_load_is_kept_with_every_request(tmp_path: Path):
    """One JSON line per number of users: rates, and all that was recorded; null where nothing was measured."""
    runs.save_loads(tmp_path, VARIANT, FULL_AT_2[:2])
    path = runs.save_loads(tmp_path, VARIANT, UNCOUNTED)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(line["users"], line["requests_ok"], len(line["completions"])) for line in lines] == [
        (1, 1, 1),
        (2, 2, 2),
        (1, 1, 1),
    ]
    assert lines[1]["total_tokens_per_s"] == pytest.approx(180)
    assert lines[2]["total_tokens_per_s"] is None
    assert lines[1] == json.loads(json.dumps(load_object(VARIANT, FULL_AT_2[1])))


def test_users_are_read_as_people_type_them():
    """Any order, spaces and repetitions; empty means that nobody is tried."""
    assert runs.users("8, 1,2,2") == (1, 2, 8)
    assert runs.users(" ") == ()
    for text in ("0", "many", "1.5", "257", ","):
        with pytest.raises(ConfigurationError, match="whole numbers from 1 to 256"):
            runs.users(text)


def test_the_flag_and_the_variable():
    """`--users` wins over BENCH_USERS; none is the default; what cannot be used is refused by name."""
    assert parse([], {}).users == ()
    assert parse([], {"BENCH_USERS": "4,1"}).users == (1, 4)
    assert parse(["--users", "2"], {"BENCH_USERS": "4"}).users == (2,)
    with pytest.raises(ConfigurationError, match="BENCH_USERS is '0'"):
        parse([], {"BENCH_USERS": "0"})


def test_settings_give_the_options_of_a_plan():
    """Every option has the plan's name, and changes the plan."""
    chosen = BenchmarkSettings(rounds=7, watts=30.0, stream=False)
    plan = make_plan([VARIANT], [Prompt("p", "Say it.")], order="blocks", **chosen.plan_options())
    assert (plan.rounds, plan.watts, plan.stream) == (7, 30.0, False)
    assert all(getattr(plan, name) == getattr(chosen, name) for name in PLAN_OPTIONS)


def probe(endpoint: str, model: str) -> tuple[profiles.Runtime, Run]:
    """An open runtime and a small run of one model."""
    runtime = profiles.open_runtime("endpoint", endpoint=endpoint)
    variants, _ = runs.choose(runtime, [model], ["cpu"])
    return runtime, runs.probe(runtime, variants, Prompt("p", "Say it."), max_tokens=4)


def test_a_notebook_tries_users_on_the_first_model_that_answered(endpoint: str, tmp_path: Path):
    """Three questions per user, kept in the run's folder; without numbers of users, nothing."""
    runtime, run = probe(endpoint, "fast")
    found = runs.try_users(runtime, run, (1, 2), tmp_path)
    assert [(each.users, len(each.answered)) for each in found] == [(1, 3), (2, 6)]
    assert len((tmp_path / runs.LOADS_FILE).read_text("utf-8").splitlines()) == 2
    assert runs.try_users(runtime, run, (), tmp_path) == ()


def test_no_users_are_tried_where_no_model_answered(endpoint: str, tmp_path: Path):
    """A run in which everything failed has no model to ask."""
    runtime, run = probe(endpoint, "http-500")
    assert runs.try_users(runtime, run, (1, 2), tmp_path) == ()
    assert not (tmp_path / runs.LOADS_FILE).exists()


def test_the_full_script_measures_users_beside_its_array(endpoint: str, tmp_path: Path):
    """Standard output stays one array; the table goes to standard error, the requests to a file."""
    small = {"BENCH_ROUNDS": "1", "BENCH_PROMPT": "Say it.", "BENCH_MAX_TOKENS": "8", "BENCH_MODELS": "fast,http-500"}
    asked = ("--output", str(tmp_path), "--users", "1,2")
    done = run_script(FULL, *asked, FOUNDRY_LOCAL_ENDPOINT=endpoint, **small)
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in json.loads(done.stdout)] == ["ok", "failed"]
    assert "all users" in done.stderr
    assert "8 of 8" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "concurrency.jsonl").read_text("utf-8").splitlines()]
    assert [(line["model_id"], line["users"]) for line in lines] == [("fast", 1), ("fast", 2)]


def test_a_model_that_cannot_be_served_again_does_not_stop_the_others(endpoint: str, tmp_path: Path, capsys):
    """Its reason goes to standard error, what an earlier run left is gone, and the next model is measured."""
    runtime, run = probe(endpoint, "fast")
    serve, refused = runtime.serve, []

    def once_refused(variant):
        if not refused:
            refused.append(variant)
            raise ModelServerError("The process ended.", "Choose a smaller variant.")
        return serve(variant)

    runtime.serve = once_refused
    (tmp_path / runs.LOADS_FILE).write_text("old")
    for expected in (False, True):
        commands._measure_users(runtime, run, BenchmarkSettings(users=(1,), max_tokens=4), tmp_path)
        assert (tmp_path / runs.LOADS_FILE).exists() is expected
    captured = capsys.readouterr()
    assert "several users: failed. The process ended. Choose a smaller variant." in captured.err
    assert captured.out == ""
