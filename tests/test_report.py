"""Reports: nothing invented, nothing executed, everything readable, and every metric in its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.comparison_helpers import cpu_run, reference, scaled
from tests.report_helpers import FAILURE, HOSTILE, row, run_of_models
from workshop_lib import report, timing
from workshop_lib.comparison import compare, results_of
from workshop_lib.errors import ConfigurationError
from workshop_lib.records import Completion, ModelVariant, Prompt, Run, Serving
from workshop_lib.show import tables
from workshop_lib.show.text import machine_line
from workshop_lib.summary import WARNINGS, row_object, summarise

FIGURES = ["latency", "first_token_against_decode", "resources", "devices"]


@pytest.fixture
def run() -> Run:
    return run_of_models(6)


def hostile_run() -> Run:
    """A run in which answer, error, names and machine all carry hostile text."""
    run = run_of_models(3, answer=HOSTILE)
    servings = tuple(replace(each, error=each.error and HOSTILE) for each in run.servings)
    prompts = tuple(replace(prompt, text=HOSTILE) for prompt in run.prompts)
    return replace(run, servings=servings, prompts=prompts, machine={"cpu": HOSTILE}, profile=HOSTILE)


def slowed(run: Run, factors: Mapping[str, float]) -> Run:
    """The run with every time of an alias times its factor."""
    return replace(run, completions=tuple(scaled(each, factors.get(each.alias, 1.0)) for each in run.completions))


def models(*aliases: str, rounds: int = 3) -> Run:
    """Equal int4 builds under these names; each answers two prompts in every round, the last ones 10 % slower."""
    run, (build, *_) = run_of_models(1, failed=0, rounds=rounds), run_of_models(1, failed=0).servings
    ids = [{"alias": name, "model_id": f"{name}:1"} for name in aliases]
    servings = tuple(replace(build, variant=replace(build.variant, **each)) for each in ids)
    answers = tuple(replace(answer, **each) for each in ids for answer in run.completions)
    return replace(run, servings=servings, completions=answers)


A, B, C = (f"{name} · int4 · cpu" for name in "abc")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (slowed(models("a", "b", "c"), {"b": 1.5, "c": 3.0}), (
            f"Latency: {C} is 3.00x slower (95 % CI 2.9",
            f"Time to first token: {C} is 3.00x slower",
            f"Decode rate: {C} is 3.00x slower (95 % CI 3.00-3.00) than {A}; all 2 others differ clearly from it.",
            "\"Clear\" allows for chance hits among 6 comparisons made at once",
        )),
        (slowed(models("a", "b", "c"), {"c": 3.0}), (
            f"Latency: {C} is 3.00x slower", f"Time to first token: {C} is", f"Decode rate: {C} is",
            f"This run cannot tell apart: latency of {B} and of {A}; first token of {B} and of {A}; decode of {B} and",
        )),
        (models("a", "b", "c", "d"), (
            f"This run cannot tell apart: latency of all 3 others and of {A}; first token of all 3 others and of",
            "\"Clear\" allows", "4 of 4 models answered fewer than 20 requests",
        )),
        (models("a", "b", rounds=1), ("Nothing is compared: an interval needs at least 2 rounds.",)),
        (models("a"), (f"{A} is the only model that answered: nothing to compare.", "1 of 1 models answered fewer")),
        (run_of_models(2, failed=2), (
            f"practice-small · int4 · cpu and practice-small · fp32 · cpu failed: {FAILURE}",
        )),
        (replace(models(), servings=()), ("Nothing was measured.",)),
    ],
)  # fmt: skip
def test_highlights_lead_with_what_separates_the_models(run: Run, said: tuple[str, ...]):
    """Clear ratios with their interval come first, then ties in one sentence, then doubts, then what failed."""
    found = report.highlights(run)
    assert len(found) >= len(said)
    assert [line[: len(start)] for line, start in zip(found, said, strict=False)] == list(said)


def graded(run: Run, prompt_set: str = "", trained_on: tuple[str, ...] | None = None) -> Run:
    """The run on six prompts of one set, each answered with what is expected."""
    prompts = tuple(Prompt(f"p{place}", "?", aspects=("word",), set_name=prompt_set) for place in range(6))
    first = [each for each in run.completions if each.round]
    answers = tuple(
        replace(each, prompt_id=prompt.id, round=round_)
        for prompt in prompts
        for key_ in dict.fromkeys((each.model_id, each.device) for each in first)
        for round_, each in enumerate([each for each in first if (each.model_id, each.device) == key_][:3], 1)
    )
    servings = tuple(replace(each, variant=replace(each.variant, trained_on=trained_on)) for each in run.servings)
    return replace(run, prompts=prompts, completions=answers, servings=servings)


@pytest.mark.parametrize(
    ("trained_on", "clear", "doubted"),
    [((), True, False), (("course",), False, True)],
)
def test_a_report_begins_with_the_decision(
    tmp_path: Path, trained_on: tuple[str, ...] | None, clear: bool, doubted: bool
):
    """The fastest of three equally good models, all slower than 1 s, is first; clear unless trained on the prompts."""
    run = graded(slowed(models("a", "b", "c"), {"a": 50.0, "b": 200.0, "c": 400.0}), "course", trained_on)
    files = report.write_report(run, tmp_path)
    written = json.loads(files.json.read_text("utf-8"))
    assert written["decision"] == {
        "model_id": "a:1", "label": A + " †" * doubted, "clear": clear, "sentence": files.decision,
        "prompt_set": "course",
    }  # fmt: skip
    assert written["decision_reason"] is None
    assert files.decision.startswith(f"For the course prompts, {A}")
    assert "read by nobody" in files.decision and ("3 of 3 models were trained" in files.decision) == doubted
    assert files.decision in files.markdown.read_text("utf-8").replace("\\", "").splitlines()[2]
    page = files.html.read_text("utf-8")
    assert page.index(f'<p class="decision">{files.decision}</p>') < page.index('<p class="about">')


def test_where_no_model_comes_first_the_report_says_why(tmp_path: Path):
    """No answer, and no model within the limit of 2 s to the first token: no decision, and the reason."""
    slow = graded(slowed(models("a"), {"a": 1000.0}))
    for run, why in (
        (run_of_models(2, failed=2), "No model answered"),
        (slow, "Every model is excluded: 1 by max_first_token_s."),
    ):
        files = report.write_report(run, tmp_path)
        written = json.loads(files.json.read_text("utf-8"))
        assert written["decision"] is None and written["decision_reason"] == files.decision
        assert why in files.decision and why in files.markdown.read_text("utf-8").replace("\\", "")


def test_json_round_trips_and_keeps_null(run: Run, tmp_path: Path):
    """Rows and samples read back equal those written; a failed row's numbers are null, and no number is NaN."""
    files = report.write_report(run, tmp_path)
    written = json.loads(files.json.read_text("utf-8"))
    assert (written["schema"], written["machine"], written["plan"]) == (1, dict(run.machine), dict(run.plan))
    assert written["threads"] == {each.variant.model_id: None for each in run.servings if each.status == "ok"}
    assert list(written["rows"][0])[:5] == ["alias", "model_id", "device", "status", "error"]
    assert written["rows"][-1]["latency_avg"] is None
    assert results_of(files.json).rows == summarise(run)
    assert len(results_of(files.json).samples) == 5 * 2 * 3
    assert row_object(row(latency_avg=float("nan")))["latency_avg"] is None


@pytest.mark.parametrize(
    ("threads", "profile", "said"),
    [
        ((None, None, None), "practice", "; threads: the runtime's choice"),
        ((None, None, None), "endpoint", "; threads: the server's choice"),
        ((4, 4, 4), "practice", "; threads: 4"),
        ((None, 2, None), "practice", "; threads: 2 (b:2), the runtime's choice (the others)"),
        ((1, 2, 2), "practice", "; threads: 1 (a:2), 2 (the others)"),
    ],
)
def test_the_machine_s_line_says_the_threads(run: Run, threads: tuple[int | None, ...], profile: str, said: str):
    """One phrase where all models are alike, else the odd ones by name; a failed one and older runs say nothing."""
    machine = {"cpu": "Test CPU", "physical_cores": 2, "usable_processors": 4, "label": "desk"}
    served = [Serving(ModelVariant("x", f"{name}:2", "cpu"), threads=n) for name, n in zip("abc", threads, strict=True)]
    failed = Serving(ModelVariant("x", "d:2", "cpu"), status="failed", threads=7)
    run = replace(run, machine=machine, profile=profile, servings=(*served, *served, failed), completions=())
    assert machine_line(run) == f"Test CPU, 2 cores, 4 processors to use{said}"
    assert machine_line(replace(run, servings=(failed,))) == "Test CPU, 2 cores, 4 processors to use"
    assert machine_line(replace(run, machine={"cpu": "Test CPU"})) == "Test CPU"


def test_csv_names_fields_as_the_json_and_leaves_gaps_empty(run: Run):
    """Spreadsheets get the contract's names and units; not measured is an empty cell, never 0."""
    rows = summarise(run)
    lines = list(csv.DictReader(io.StringIO(report.report_csv(rows))))
    assert list(lines[0]) == list(row_object(rows[0])) == report.report_csv([]).strip().split(",")
    assert float(lines[0]["latency_avg"]) == rows[0].latency_avg
    assert lines[-1]["latency_avg"] == ""
    fitted = report.report_csv([replace(rows[0], more={**rows[0].more, "fitted": 9.0}), *rows[1:]])
    assert [each["fitted"] for each in csv.DictReader(io.StringIO(fitted))][::4] == ["9.0", ""]


class Tags(HTMLParser):
    """Collects the tags of a page, every address that it could load, and its images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "img":
            self.images.append(dict(attrs))


def test_hostile_text_stays_text(tmp_path: Path):
    """In the page no script, link or address; in Markdown no tag, link or broken table; in JSON as it came."""
    files = report.write_report(hostile_run(), tmp_path)
    page = files.html.read_text("utf-8")
    seen = Tags(page)
    assert not {"script", "a", "iframe", "link", "object"} & seen.tags
    assert all(address.startswith("data:image/png;base64,") for address in seen.addresses)
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
    text = files.markdown.read_text("utf-8")
    assert "<script" not in text.replace("\\<", "") and "http://" not in text
    assert "](" not in text.replace("\\](", "").replace("\\]\\(", "")
    assert json.loads(files.json.read_text("utf-8"))["rows"][-1]["error"] == HOSTILE


def test_the_page_shows_pictures_answers_and_warnings(run: Run, tmp_path: Path):
    """Three figures said in words; every prompt, answer and warning is there."""
    page = report.write_report(run, tmp_path).html.read_text("utf-8")
    assert f"Machine: {machine_line(run)}." in page.replace("&#39;", "'")
    images = Tags(page).images
    assert len(images) == 3
    assert all(len(image["alt"] or "") > 40 for image in images)
    assert all(prompt.text in page for prompt in run.prompts) and page.count("word word") >= 10
    codes = {code for each in summarise(run) for code in each.warnings}
    assert codes and all(f"<dt>{code}</dt><dd>{WARNINGS[code][:20]}" in page for code in codes)


def test_files_are_whole_utf8_with_unix_line_ends(tmp_path: Path):
    """Four files and three figures, nothing left behind, rewritten in place by a second report."""
    folder = tmp_path / "new" / "folder"
    run = run_of_models(2, failed=0)
    for _ in range(2):
        files = report.write_report(run, folder)
    texts = [files.markdown, files.csv, files.json, files.html]
    assert all(b"\r" not in path.read_bytes() and path.read_text("utf-8").endswith("\n") for path in texts)
    assert [path.stem for path in files.figures] == ["latency", "first_token_against_decode", "resources"]
    assert {path for path in folder.rglob("*") if path.is_file()} == {*texts, *files.figures}
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written.*choose another folder"):
        report.write_report(run, tmp_path / "taken")


def test_devices_are_compared_where_there_is_a_gpu(tmp_path: Path):
    """With a reference: a table, the notes and a figure; without: none of them. A reference is no row of this run."""
    files = report.write_report(cpu_run(), tmp_path / "a", (reference(),))
    without = report.write_report(cpu_run(), tmp_path / "b", ())
    for path in (files.markdown, files.html):
        text = path.read_text("utf-8").replace("\\", "")
        assert "CPU against GPU" in text and "against its own CPU" in text
        assert "reference, another machine: Made-up GPU, 2026" in text
    assert [path.stem for path in files.figures] == FIGURES
    assert [path.stem for path in without.figures] == FIGURES[:-1]
    assert "CPU against GPU" not in without.markdown.read_text("utf-8") + without.html.read_text("utf-8")
    rows = json.loads(files.json.read_text("utf-8"))["rows"]
    assert {each["device"] for each in rows if each["status"] == "ok"} == {"cpu"}


def test_a_new_metric_appears_everywhere(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One row of METRICS: in rows, JSON, CSV, tables, the report, comparisons and figures, and read back again."""

    def first_gap_s(completion: Completion) -> float:
        return completion.chunks[1].at_s - completion.chunks[0].at_s

    gap = timing.Metric("first_gap_s", "First gap", "s", first_gap_s, "lower")
    monkeypatch.setattr(timing, "METRICS", (*timing.METRICS, gap))
    files = report.write_report(run, tmp_path)
    written = json.loads(files.json.read_text("utf-8"))
    assert written["rows"][0]["first_gap_s"] == pytest.approx(0.001)
    assert written["samples"][0]["first_gap_s"] == 0.001
    assert list(csv.DictReader(io.StringIO(files.csv.read_text("utf-8"))))[-1]["first_gap_s"] == ""
    assert tables.speed(summarise(run)).iloc[0]["first gap (ms)"] == 1.0
    assert "first gap (ms)" in files.markdown.read_text("utf-8") and "first gap (ms)" in files.html.read_text("utf-8")
    assert "first gap" in tables.differences(run).columns
    assert "First gap of every request." in files.html.read_text("utf-8")
    assert [path.stem for path in files.figures] == [*FIGURES[:-1], "first_gap_s"]
    assert results_of(files.json).rows[0].more["first_gap_s"] == pytest.approx(0.001)
    changed = compare(run, files.json).lines
    assert {line.metric.title: line.ratio.value for line in changed}["first gap"] == pytest.approx(1.0)
