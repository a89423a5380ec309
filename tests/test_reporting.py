"""Reports: nothing invented, nothing executed, everything readable."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from tests.report_helpers import FAILURE, HOSTILE, row, run_of_models
from workshop_lib.archive.results import read_results, row_object
from workshop_lib.errors import ConfigurationError
from workshop_lib.metrics.summaries import WARNINGS, summarise
from workshop_lib.records import Completion, ModelVariant, Prompt, Row, Run
from workshop_lib.showing import reporting, tables
from workshop_lib.untrusted import csv_cell, markdown, one_line, printable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run() -> Run:
    return run_of_models(6)


def hostile_run() -> Run:
    """A run in which answer, error, names and machine all carry hostile text."""
    run = run_of_models(3, answer=HOSTILE)
    servings = tuple(replace(each, error=each.error and HOSTILE) for each in run.servings)
    prompts = tuple(replace(prompt, text=HOSTILE) for prompt in run.prompts)
    return replace(run, servings=servings, prompts=prompts, machine={"cpu": HOSTILE}, profile=HOSTILE)


def test_the_table_is_in_units_for_people():
    """0.0062 s are 6.2 ms; rates stay tokens per second; sizes stay megabytes."""
    line = reporting.table([row(first_token_latency_avg=0.0062, size_mb=1.26)]).iloc[0]
    assert line["first token (ms)"] == 6.2
    assert line["decode (tok/s)"] == 1000.0
    assert line["size (MB)"] == 1.26


def test_what_was_not_measured_says_so_and_is_never_zero():
    """A failed model has words where its numbers would be."""
    line = reporting.table([Row("small", "small:1", "cpu", "failed", error="gone")]).iloc[0]
    measured = [column.heading for column in tables.COLUMNS if column.kind == "number"]
    assert {line[name] for name in measured if name != "requests"} == {"not measured"}


def test_the_table_has_its_columns_even_without_rows():
    """An empty run gives an empty table with headings, not an error."""
    assert list(reporting.table([]).columns) == [column.heading for column in tables.COLUMNS]


def test_speed_and_cost_are_the_two_halves_of_the_table():
    """Together they have every column; both say whom a line is about."""
    speed, cost = tables.speed([row()]), tables.cost([row()])
    assert {*speed.columns, *cost.columns} == {column.heading for column in tables.COLUMNS}
    assert set(speed.columns) & set(cost.columns) == set(tables.WHO)


def test_warnings_are_shown_as_codes():
    """The table carries the codes; the report explains them."""
    assert reporting.table([row(warnings=("outliers", "unstable"))]).iloc[0]["warnings"] == "outliers, unstable"


def test_a_clear_winner_is_named_with_the_runner_up():
    """4 ms against 6 ms is no tie."""
    said = reporting.highlights([row("quick", first_token_latency_avg=0.004), row("slow")])
    assert said[0] == "Fastest first token: quick · int4 · cpu (4.0 ms), ahead of slow · int4 · cpu (6.0 ms)."


def test_averages_within_five_percent_are_a_tie():
    """1000 and 980 tokens per second are too close to call; 900 is not part of the tie."""
    rows = [row("a"), row("b", decode_tokens_per_sec=980.0), row("c", decode_tokens_per_sec=900.0)]
    assert reporting.highlights(rows)[1] == (
        "Fastest decode: too close to call between a · int4 · cpu (1,000 tok/s) and b · int4 · cpu (980 tok/s)."
    )


def test_unstable_rows_need_a_larger_difference():
    """8 % decides between steady rows, but not when one of them varies by more than that."""
    rows = [row("a"), row("b", decode_tokens_per_sec=920.0)]
    assert "ahead of" in reporting.highlights(rows)[1]
    rows[1] = replace(rows[1], warnings=("unstable",))
    assert "too close to call" in reporting.highlights(rows)[1]


@pytest.mark.parametrize("burst", [0, 1, 2])
def test_bursts_leave_no_order_of_decode_speeds(burst: int):
    """Where any compared row had bursts, no decode speed wins or ties; first tokens are not touched."""
    rows = [row("a"), row("b", decode_tokens_per_sec=100.0, first_token_latency_avg=0.009)]
    rows.append(row("c", decode_tokens_per_sec=10.0, first_token_latency_avg=0.012))
    rows[burst] = replace(rows[burst], warnings=("bursts",))
    first, decode, _ = reporting.highlights(rows)
    assert "ahead of" in first
    assert decode == "Decode speeds cannot be ranked here: many tokens arrived at one moment (warning `bursts`)."


def test_bursts_without_a_rate_shake_no_other_row():
    """A row whose decode rate is not claimed is not compared, so it takes nothing from the others."""
    rows = [row("a"), row("b", decode_tokens_per_sec=100.0)]
    rows.append(row("c", decode_tokens_per_sec=None, warnings=("bursts",)))
    assert reporting.highlights(rows)[1].startswith("Fastest decode: a")


def test_a_size_is_exact_whatever_the_noise():
    """Spread of time says nothing about size: 8 % smaller is smaller."""
    rows = [row("a", size_mb=1.84, warnings=("unstable",)), row("b")]
    assert reporting.highlights(rows)[2].startswith("Smallest on disk: a")


def test_one_model_is_not_called_the_fastest():
    """A race needs two."""
    assert "is the only model with a decode speed" in reporting.highlights([row()])[1]


def test_highlights_admit_doubt_and_failure():
    """Few samples, spread, failures and skipped models get a sentence; no winner is invented."""
    rows = [
        row(warnings=("too_few_samples", "unstable"), requests_ok=3, decode_tokens_per_sec=None),
        row("gone", status="failed", error=FAILURE),
        row("later", status="skipped", error="No GPU."),
    ]
    said = "\n".join(reporting.highlights(rows))
    assert "Fastest decode: not measured." in said
    assert "1 of 1 models answered fewer than 20 requests (the least 3)" in said
    assert "1 of 1 models varied by 10 % or more" in said
    assert f"gone · int4 · cpu failed: {FAILURE}" in said
    assert "later · int4 · cpu was skipped: No GPU." in said


def test_highlights_of_nothing_say_so():
    """An empty run has one highlight, and only failures have no winners."""
    assert reporting.highlights([]) == ["Nothing was measured."]
    assert len(reporting.highlights([row(status="failed", error="gone")])) == 1


def test_json_round_trips_and_keeps_null(run: Run, tmp_path: Path):
    """Rows read back equal the rows written, in contract names; a failed row's numbers are null."""
    report = json.loads(reporting.write_report(run, tmp_path).json.read_text("utf-8"))
    rows = summarise(run)
    assert report["schema"] == 1
    assert report["machine"] == dict(run.machine)
    assert report["plan"] == dict(run.plan)
    assert list(report["rows"][0])[:5] == ["alias", "model_id", "device", "status", "error"]
    read = [Row(**{key: tuple(value) if isinstance(value, list) else value for key, value in each.items()})
            for each in report["rows"]]  # fmt: skip
    assert tuple(read) == rows
    assert report["rows"][-1]["latency_avg"] is None


def test_a_report_can_be_compared_with_another(run: Run, tmp_path: Path):
    """The JSON holds one sample per timed answer, so that two reports can be compared."""
    files = reporting.write_report(run, tmp_path)
    assert len(read_results(files.json).samples) == 5 * 2 * 3


def test_json_never_holds_nan():
    """A number that JSON has no word for is null."""
    assert row_object(row(latency_avg=float("nan")))["latency_avg"] is None


def test_csv_names_fields_as_the_json_and_leaves_gaps_empty(run: Run):
    """Spreadsheets get the contract's names and units; not measured is an empty cell, never 0."""
    lines = list(csv.DictReader(io.StringIO(reporting.report_csv(summarise(run)))))
    assert list(lines[0]) == [field.name for field in fields(Row)]
    assert float(lines[0]["latency_avg"]) == pytest.approx(summarise(run)[0].latency_avg)
    assert lines[-1]["latency_avg"] == ""


@pytest.mark.parametrize("start", ["=cmd()", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1", "\uff1dcmd()"])
def test_csv_formulas_are_defused(start: str):
    """A cell that a spreadsheet would run begins with an apostrophe."""
    assert csv_cell(start).startswith("'")
    written = reporting.report_csv([row(error=start, status="failed")])
    (line,) = csv.DictReader(io.StringIO(written))
    assert line["error"].startswith("'")


def test_markdown_tables_cannot_be_broken():
    """Bars, line ends, tags, links and code in a name or an error stay text in their cell."""
    text = reporting.report_markdown(hostile_run(), [row(alias=HOSTILE + "\n| new | row |", error=HOSTILE)])
    table = [line for line in text.splitlines() if line.startswith("|")]
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert len(table) == 3
    assert bars == {len(tables.COLUMNS) + 1}
    assert "<script" not in text.replace("\\<", "")
    assert "](" not in text.replace("\\](", "").replace("\\]\\(", "")
    assert "http://" not in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("6.1", "6.1"),
        ("# head", "\\# head"),
        ("a\n===", "a\n\\==="),
        ("www.evil.example", "&#119;ww.evil.example"),
        ("&lt;", "\\&lt;"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, escaped: str):
    """Whatever starts a list, a heading, a link or an entity is escaped; plain numbers are not."""
    assert markdown(text) == escaped


def test_hidden_characters_are_shown():
    """Terminal codes, reversed direction and half characters become visible; line ends stay."""
    assert printable("a\x1b\u202e\ud800\tb\r\nc") == "a���\tb\nc"
    assert one_line("a\n\n b\x00", 10) == "a b�"


class Tags(HTMLParser):
    """Collects the tags of a page and every address that it could load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "img":
            self.images.append(dict(attrs))


def test_the_page_runs_nothing_and_loads_nothing():
    """Hostile answers, errors and names stay text: no script, no link, no address."""
    run = hostile_run()
    page = reporting.report_html(run, [*summarise(run), row(alias=HOSTILE, error=HOSTILE, status="failed")])
    seen = Tags()
    seen.feed(page)
    assert not {"script", "a", "iframe", "link", "object"} & set(seen.tags)
    assert all(address.startswith("data:image/png;base64,") for address in seen.addresses)
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
    page.encode("utf-8")


def test_every_picture_of_the_page_has_alt_text_and_a_dark_twin(run: Run):
    """Three figures, each said in words, each drawn for light and dark."""
    page = reporting.report_html(run, summarise(run))
    seen = Tags()
    seen.feed(page)
    assert len(seen.images) == 3
    assert all(len(image["alt"] or "") > 40 for image in seen.images)
    assert page.count('media="(prefers-color-scheme: dark)" srcset="data:') == 3


def test_the_page_shows_answers_and_warnings(run: Run):
    """Every prompt is there with its answers, every warning code with its sentence."""
    page = reporting.report_html(run, summarise(run))
    assert all(prompt.text in page for prompt in run.prompts)
    assert page.count("word word") >= 10
    codes = {code for each in summarise(run) for code in each.warnings}
    assert codes
    assert all(f"<dt><code>{code}</code></dt><dd>{WARNINGS[code][:20]}" in page for code in codes)


def test_files_are_whole_utf8_with_unix_line_ends(run: Run, tmp_path: Path):
    """Four files and three figures, nothing left behind, rewritten in place by a second one."""
    for _ in range(2):
        files = reporting.write_report(run, tmp_path / "new" / "folder")
    for path in (files.markdown, files.csv, files.json, files.html):
        content = path.read_bytes()
        assert b"\r" not in content
        assert content.decode("utf-8").endswith("\n")
    assert {path.name for path in files.figures} == {
        "latency.png",
        "first_token_against_decode.png",
        "resources.png",
    }
    written = {path for path in (tmp_path / "new" / "folder").rglob("*") if path.is_file()}
    assert written == {files.markdown, files.csv, files.json, files.html, *files.figures}


def test_hostile_text_can_be_written(tmp_path: Path):
    """Half characters do not stop a report."""
    files = reporting.write_report(hostile_run(), tmp_path)
    assert json.loads(files.json.read_text("utf-8"))["rows"][-1]["error"] == HOSTILE
    assert files.html.stat().st_size > 10_000


def test_a_report_that_cannot_be_written_says_what_to_do(run: Run, tmp_path: Path):
    """A file where the folder should be is one clear error."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written.*choose another folder"):
        reporting.write_report(run, tmp_path / "taken")


def test_a_run_without_answers_still_has_a_report(tmp_path: Path):
    """All models failed for one reason: the report names both in one sentence."""
    files = reporting.write_report(run_of_models(2, failed=2), tmp_path)
    said = files.markdown.read_text("utf-8")
    assert f"practice-small · int4 · cpu and practice-small · fp32 · cpu failed: {FAILURE}" in said


def test_a_table_is_shown_whole_and_escaped():
    """Long text is not cut, tags are text, numbers stand on the right."""
    shown = tables.prompts([Prompt("a", "<b>" + "long " * 100)]).assign(count=3)._repr_html_()
    assert "&lt;b&gt;" + "long " * 100 in shown
    assert 'text-align: right; vertical-align: top; white-space: pre-wrap">3<' in shown
    assert 'text-align: left; vertical-align: top; white-space: pre-wrap">a<' in shown


def test_builds_of_a_model_are_compared_with_an_interval(run: Run):
    """fp32 against int4 of the same model; a failed build is not compared."""
    told = tables.differences(run)
    assert list(told["this"]) == ["fp32 · cpu", "fp32 · cpu"]
    assert list(told["against"]) == ["int4 · cpu", "int4 · cpu"]
    assert set(told["decode"].str.startswith("no clear difference (1.00x")) == {True}


def test_steadiness_counts_prompts_with_one_answer(run: Run):
    """A second text for one prompt leaves one steady prompt of two."""
    assert list(tables.steadiness(run)["same answer every round"]) == [2] * 5
    last = run.completions[-1]
    other = replace(last, chunks=last.chunks[:-1], round=9)
    changed = tables.steadiness(replace(run, completions=(*run.completions, other)))
    assert sorted(changed["same answer every round"]) == [1, 2, 2, 2, 2]


def test_room_counts_only_what_is_missing():
    """3 MB to fetch do not fit into 2 MB; what is cached needs nothing."""
    variants = [
        ModelVariant("a", "a:1", "cpu", size_mb=3.0, cached=False),
        ModelVariant("b", "b:1", "cpu", size_mb=9.0, cached=True),
    ]
    assert tables.room(variants, 100.0).iloc[0]["verdict"] == "enough"
    assert tables.room(variants, 2.0).iloc[0]["verdict"].startswith("too little")
    assert tables.room(variants, 2.0).iloc[0]["needed (MB)"] == 3.0


def test_left_out_models_have_their_reason():
    """What cannot be measured is a line with the reason."""
    told = tables.left_out([(ModelVariant("a", "a:1", "gpu"), "No GPU.")])
    assert list(told.iloc[0]) == ["a", "gpu", "No GPU."]


def test_meanings_count_the_models_they_concern():
    """Only codes that occur are explained."""
    told = tables.meanings([row(warnings=("outliers",)), row(warnings=("outliers", "unstable"))])
    assert dict(zip(told["warning"], told["models"], strict=True)) == {"unstable": 1, "outliers": 2}


def test_models_are_listed_with_what_is_unknown_named():
    """A catalog line says unknown rather than nan; cached is a word."""
    line = tables.models([ModelVariant("a", "a:1", "cpu"), ModelVariant("b", "b:1", "gpu", cached=True)])
    assert line.iloc[0]["size (MB)"] == "unknown"
    assert list(line["cached"]) == ["unknown", "yes"]


def test_answers_are_those_of_the_first_round_and_last_attempt(run: Run):
    """One line per model; a repeated request counts with its last attempt; a failure is said."""
    first = next(each for each in run.completions if each.round == 1)
    again = replace(first, attempt=2, chunks=(), error="stalled")
    told = tables.answers(replace(run, completions=(*run.completions, again)), first.prompt_id)
    assert len(told) == 5
    assert told.iloc[0]["answer"] == "failed: stalled"
    assert told.iloc[1]["answer"].startswith(" word word")


def test_one_request_can_be_looked_at(run: Run):
    """Arrivals are milliseconds after the request; metrics that are unknown say so."""
    completion = next(each for each in run.completions if each.round == 1)
    assert tables.arrivals(completion).iloc[0]["arrived (ms)"] == pytest.approx(4.2)
    failed = Completion("r", "a", "a:1", "cpu", "p", 1, "2026", error="gone")
    assert set(tables.metrics(failed)["value"]) == {"not measured"}


def test_absent_devices_have_their_reason():
    """What is not measured is a line with the reason."""
    told = tables.absent_devices({"gpu": "No provider is registered."})
    assert told.to_dict("records") == [{"device": "gpu", "why it is not measured here": "No provider is registered."}]


def test_columns_of_energy_are_shown_only_where_something_is_known():
    """Without a meter the table is as it was; with one row measured, the others say `not measured`."""
    plain = [column.heading for column in tables.columns_for([row(), row("large")])]
    assert plain == [column.heading for column in tables.COLUMNS]
    measured = row(energy_per_1000_tokens_wh=0.0125, energy_source="measured:rapl")
    shown = tables.results([measured, row("large")])
    assert list(shown["energy (mWh per 1000 tok)"]) == [12.5, "not measured"]
    assert list(shown["energy known from"]) == ["measured:rapl", "not measured"]
    assert "GPU memory (MB)" not in shown.columns
    assert shown.columns[-1] == "warnings"
    assert "energy known from" in tables.cost([measured]).columns
    assert "energy known from" not in tables.speed([measured]).columns


def test_gpu_memory_and_cost_have_columns_of_their_own():
    """Megabytes on graphics cards, and the price of a million tokens in the currency of the price."""
    (line,) = tables.results([row(gpu_memory_mb=1234.56, energy_cost_per_million_tokens=0.08333)]).to_dict("records")
    assert line["GPU memory (MB)"] == 1234.6
    assert line["energy cost (per million tok)"] == 0.0833


def test_the_report_says_why_there_is_no_energy(run: Run):
    """One sentence for all models that share the reason; the fields are null."""
    why = "Energy was not measured: this machine shows no energy counter of its processor."
    noted = replace(run, servings=tuple(replace(serving, energy_note=why) for serving in run.servings))
    rows = summarise(noted)
    assert reporting.report_markdown(noted, rows).count(why) == 1
    assert reporting.report_html(noted, rows).count(why.replace("'", "&#39;")) == 1
    assert all(each["energy_per_1000_tokens_wh"] is None for each in map(row_object, rows))


def test_the_report_shows_energy_and_where_it_is_from(run: Run):
    """Where it was measured, tables of both reports hold the columns, and the JSON the unrounded figure."""
    measured = replace(
        run,
        completions=tuple(replace(each, energy_j=2.1, energy_source="measured:rapl") for each in run.completions),
    )
    rows = summarise(measured)
    for text in (reporting.report_markdown(measured, rows), reporting.report_html(measured, rows)):
        assert "energy (mWh per 1000 tok)" in text
        assert "measured:rapl" in text
    first = json.loads(reporting.report_json(measured, rows))["rows"][0]
    assert first["energy_per_1000_tokens_wh"] == pytest.approx(2.1 / 21 * 1000 / 3600)
