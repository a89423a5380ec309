"""How evidence and a decision are shown: sentences, tables, figures, files, and the sliders that end in a choice."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import mistune
import pytest

from tests.annotation_helpers import write_run
from tests.choice_helpers import EVEN, OUTCOMES, TWO, decide, decided, evidence_of, grade, made_run
from tests.measurement_helpers import completion
from tests.report_helpers import HOSTILE, run_of_models
from workshop_lib import comparison, data
from workshop_lib.choice import show
from workshop_lib.choice.decide import CRITERIA, FLOORS, LIMITS, Decision, gather_evidence
from workshop_lib.choice.show import ChoiceWidget
from workshop_lib.records import ModelVariant, Run, Serving
from workshop_lib.show import style

RUN = made_run()
WHEN = "2026-11-20T12:00+00:00"
QUICK, CAREFUL = "quick · int4 · cpu", "careful · int4 · cpu"
DRAWS = "comes first, in 100 % of the draws of prompts"
VERDICTS = {
    "clear": f"{QUICK} {DRAWS}.",
    "once": "b · int4 · cpu comes first, by figures that were measured once per model: nothing says how surely.",
    "few": f"{QUICK} comes first, but too few prompts \\(5\\) were asked to say how surely: it takes 6.",
    "unsure": r"b · int4 · cpu comes first, but only in [\d.]+ % of random draws of the prompts "
    r"\(a · int4 · cpu in \d+ %\): other prompts could change the order; with 8 prompts, it takes 99.5 % to be clear.",
    "slight": f"a · int4 · cpu {DRAWS}, but by so little that measuring again could change the order.",
    "tie": f"{CAREFUL} and {QUICK} share the first place: nothing with a weight tells them apart.",
    "none": "Every model is excluded: 1 by latency, 1 by quality.",
    "only": "a · int4 · cpu is the only model left, so nothing was compared.",
    "trained": f"{QUICK} † {DRAWS}, but it was trained on these prompts: other prompts can change the order.",
}


def hostile() -> Decision:
    """A model whose every name is an attack, excluded by its licence, beside a harmless one."""
    found = evidence_of({**TWO, "bad": {"quality": 5, "latency": 0.1, "footprint": 1.0}})
    bad = replace(found.rows[2], alias=HOSTILE, model_id=HOSTILE, precision=HOSTILE, licence=HOSTILE)
    return decide(replace(found, rows=(*found.rows[:2], bad), remarks=(HOSTILE,)), EVEN, licences="MIT")


@pytest.mark.parametrize("outcome", show.VERDICTS)
def test_every_outcome_has_its_sentence(outcome: str) -> None:
    """The wording is pinned here; every other test looks at codes."""
    assert re.fullmatch(VERDICTS[outcome], show.verdict(decide(*OUTCOMES[outcome])))


def test_what_would_change_the_choice_is_said_by_hand() -> None:
    """Quality would have to have two thirds of the weights; what tells nothing apart changes nothing at any share."""
    assert show.sensitivity(decided()) == [
        f"If quality had 67 to 100 % of all weights instead of 50 %, {CAREFUL} would come first.",
        f"If latency had 0 to 33 % of all weights instead of 50 %, {CAREFUL} would come first.",
    ]
    alike = {name: {**values, "quality": 3} for name, values in TWO.items()}
    assert show.sensitivity(decided(models=alike)) == [
        "No weight of quality or latency brings another model to the first place."
    ]
    assert show.sensitivity(decided({"quality": 1})) == []


def test_the_tables_say_what_counts_and_what_is_excluded() -> None:
    """Only criteria with a weight have a column; a figure has its interval; one line per model, kept or excluded."""
    decision = decided(max_size_mb=3)
    assert show.ranking(decision).to_numpy().tolist() == [[1, QUICK, "3", "250", "0.00", "100 %"]]
    assert list(show.ranking(decided(max_size_mb=1))["rank"]) == []
    assert show.limits(decision).to_numpy().tolist() == [
        [CAREFUL, "excluded", "size on disk 4 MB, the limit is 3 MB"],
        [QUICK, "kept", "keeps every limit"],
    ]
    assert show.limits(decided()).to_numpy().tolist() == [["All 2 models keep every limit."]]
    table = show.evidence(evidence_of({"a": {"latency": [0.1, 0.1, 0.3, 0.3]}, "b": {"footprint": 2.0}}))
    assert list(table.columns) == ["model", "latency (ms)", "size on disk (MB)", "licence"], "nothing is empty"
    assert table.to_numpy().tolist()[0][1:3] == ["200 (100 to 300)", "not measured"]
    assert show.weights({"quality": 3, "latency": 1}).to_numpy().tolist()[:2] == [
        ["quality", "one grade", "3", "75 %"],
        ["latency", "half the latency", "1", "25 %"],
    ]
    assert show.limits_set({"max_size_mb": 10, "min_quality": 3}, "MIT, BSD", {"latency": 1.0}) == [
        "quality at least 3",
        "size on disk at most 10 MB",
        "licence: MIT, BSD",
        "latency good enough at 1,000 ms",
    ]


def test_speed_stands_beside_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fastest first; every kind of rater that graded; unknown where nothing was graded; the figure says it in words."""
    monkeypatch.setattr("workshop_lib.choice.decide.PREFERRED", ("people",))
    run = made_run()
    found = gather_evidence(run, [*grade(run, "fast", [2] * 5), *grade(run, "slow", [4] * 5)])
    assert show.speed_and_quality(found).to_numpy().tolist() == [
        ["fast · int4 · cpu", "12 (10 to 14)", "2 (2 to 2)", "3 (3 to 3)", "no", "100 % of draws"],
        ["middle · int4 · cpu", "22 (20 to 24)", "not measured", "1 (1 to 1)", "unknown", "unknown"],
        ["slow · int4 · cpu", "42 (40 to 44)", "4 (4 to 4)", "5 (5 to 5)", "no", "100 % of draws"],
    ]
    figure = show.speed_against_quality(found)
    assert "Not graded: 1." in figure.texts[1].get_text() and style.png(figure).startswith(b"\x89PNG")
    kept = "Beaten by none on both: fast · int4 · cpu 12 ms, 2.0; slow · int4 · cpu 42 ms, 4.0."
    assert kept in style.alt_text(figure)
    ungraded = gather_evidence(run_of_models(3, failed=1))
    assert list(show.speed_and_quality(ungraded)["beaten on both"]) == ["unknown"] * 2
    assert "Beaten by none on both: none" in style.alt_text(show.speed_against_quality(ungraded))


def test_the_figure_says_which_model_leads_where() -> None:
    """Its alt text names every stretch; the same decision gives the same picture; without models it says so."""
    figure = show.weight_sensitivity(decided())
    assert style.alt_text(figure) == (
        "Which model comes first as each criterion's share of the weights changes. "
        f"quality (now 50 %): {QUICK} from 0 to 66 %, {CAREFUL} from 67 to 100 %. "
        f"latency (now 50 %): {CAREFUL} from 0 to 33 %, {QUICK} from 34 to 100 %."
    )
    assert style.png(figure) == style.png(show.weight_sensitivity(decided()))
    assert "no model is left" in style.alt_text(show.weight_sensitivity(decided(max_size_mb=1)))


def test_the_record_holds_what_a_reader_needs() -> None:
    """Choice, date, run, machine, evidence, limits, weights, what is excluded, and what would change it; no folder."""
    run = replace(RUN, machine={"cpu": "Test CPU", "memory_mb": 8000, "user": "ada"})
    decision = decided({"quality": 4, "latency": 1}, max_size_mb=10)
    text = show.record(decision, run, note="Because.", decided_at=WHEN)
    for part in (
        f"# Decision: {CAREFUL}\n\n{CAREFUL} comes first, in 100 % of the draws",
        f"- **Decided:** {WHEN}",
        "- **Machine:** Test CPU, 8000 MB of memory",
        "- **Licence:** MIT",
        "> Because.",
        f"| {CAREFUL} | 4 (4 to 4) | 1,000 (1,000 to 1,000) |",
        "## Limits, and what is good enough\n\n- size on disk at most 10 MB",
        "## Excluded, and why\n\nnone",
        "| quality | one grade | 4 | 80 % |",
        f"- If quality had 0 to 66 % of all weights instead of 80 %, {QUICK} would come first.",
    ):
        assert part in text, part
    assert "ada" not in text
    nothing = show.record(decided(max_size_mb=1), RUN)
    assert nothing.startswith("# Decision: none\n\nEvery model is excluded: 2 by max\\_size\\_mb.")
    assert f"- {CAREFUL}: size on disk 4 MB, the limit is 1 MB" in nothing


def test_nothing_untrusted_acts() -> None:
    """Names, licences, remarks and notes are plain text everywhere: no tag and no heading is theirs."""
    decision, note = hostile(), f"{HOSTILE}\n# heading\n> quote -->\n<!-- x"
    text = show.record(decision, RUN, note=note)
    assert not re.search("[\x1b\u202e\ud800]", text)
    page = str(mistune.create_markdown(plugins=["table", "url", "strikethrough"])(text))
    ours = {"h1", "h2", "p", "ul", "li", "strong", "blockquote", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r"<(\w+)", page)) == ours
    assert page.count("<h1>") == 1 and "&lt;script&gt;alert" in page
    widget = ChoiceWidget(decide(decision.evidence, EVEN), RUN, Path())
    known = decision.evidence
    tables = (show.evidence(known), show.speed_and_quality(known), show.limits(decision), show.sentences(decision))
    named = replace(known, rows=tuple(replace(row, precision="int4") for row in known.rows))
    figures = map(style.shown, (show.weight_sensitivity(widget.decision), show.speed_against_quality(named)))
    for shown in (*(each._repr_html_() for each in (*tables, *figures)), widget._shown.value):
        assert "<script" not in shown and "\x1b" not in shown


def test_a_choice_is_two_files_that_overwrite_none(tmp_path: Path) -> None:
    """Markdown for people, JSON for programs with the same choice; the next has the time in its name."""
    decision = decided({"quality": 4, "latency": 1}, max_size_mb=3)
    path = show.write(decision, RUN, tmp_path, note="Because.")
    assert path.name == "decision.md" and "> Because." in path.read_text("utf-8")
    known = json.loads((tmp_path / "decision.json").read_text("utf-8"))
    assert {name: known[name] for name in ("model_id", "label", "clear", "run_id", "limits", "floors", "note")} == {
        "model_id": "quick:1", "label": QUICK, "clear": False, "run_id": "r", "limits": {"max_size_mb": 3.0},
        "floors": {}, "note": "Because.",
    }  # fmt: skip
    assert known["sentence"] == show.verdict(decision) and known["order"][0]["rank"] == 1
    assert known["excluded"] == {CAREFUL: ["size on disk 4 MB, the limit is 3 MB"]}
    path.write_text("edited", encoding="utf-8")
    second = show.write(decided(max_size_mb=1), RUN, tmp_path)
    assert re.fullmatch(r"decision-\d{8}T\d{6}Z\.md", second.name) and path.read_text("utf-8") == "edited"
    assert json.loads(second.with_suffix(".json").read_text("utf-8"))["model_id"] is None


# -- another prompt set

CHOICE = {"weights": {"latency": 1.0}, "limits": {}}
MINE = {"quick": 1.0, "slow": 2.0}


def run_of(set_name: str, seconds: dict[str, float]) -> Run:
    """A run of these models, each as slow on every prompt as given."""
    prompts = data.read_prompts(set_name)
    variants = [ModelVariant(alias, f"{alias}:1", "cpu", "int4") for alias in seconds]
    asked = [
        completion(
            [at_s / 2, at_s], alias=alias, model_id=f"{alias}:1", prompt_id=prompt.id, request_id=f"{alias}{prompt.id}"
        )
        for alias, at_s in seconds.items()
        for prompt in prompts
    ]
    servings = tuple(Serving(variant) for variant in variants)
    when = "2026-01-01T00:00:00+00:00"
    return Run("20260101T000000Z", when, "practice", {"cpu": "x"}, {"rounds": 1}, prompts, servings, tuple(asked))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No run and no shipped result but the test's own."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(comparison, "REFERENCES", tmp_path / "reference")
    return tmp_path


def test_the_winner_of_another_set_stands_beside_it(places: Path) -> None:
    """The newest run of another set; a model that this run has not takes no part, however quick."""
    write_run(
        run_of("course", {"quick": 2.0, "slow": 1.0, "stranger": 0.1}),
        places / "runs" / "20260102T000000Z" / "records.jsonl",
    )
    write_run(run_of("meeting-notes", MINE), places / "runs" / "20260103T000000Z" / "records.jsonl")
    table = show.by_task(run_of("meeting-notes", MINE), **CHOICE)
    assert list(table["prompts"]) == ["meeting-notes", "course"]
    assert list(table["models"]) == [2, 2]
    assert [first.split()[0] for first in table["comes first"]] == ["quick", "slow"]
    assert "20260102T000000Z" in table["measured in"][1]


def test_shipped_results_stand_in_and_keep_their_models_where_none_is_shared(places: Path) -> None:
    """Without another run the shipped results answer; models of other names are all taken."""
    write_run(run_of("course", {"other": 1.0, "third": 3.0}), places / "reference" / "practice" / "records.jsonl")
    table = show.by_task(run_of("meeting-notes", MINE), **CHOICE)
    assert (table["models"][1], table["comes first"][1].split()[0]) == (2, "other")
    assert table["measured in"][1] == "the shipped results practice"


@pytest.mark.parametrize(("set_name", "other"), [("meeting-notes", "course"), ("course", "meeting-notes")])
@pytest.mark.usefixtures("places")
def test_without_another_set_the_table_says_how_to_measure_one(set_name: str, other: str) -> None:
    """One command, for the set that this run has not; prompts of one's own have no set."""
    table = show.by_task(run_of(set_name, MINE), **CHOICE)
    assert table["prompts"][1] == other
    assert table["how sure"][1].endswith(f"run --prompt-set {other}")
    own = run_of(set_name, MINE)
    changed = tuple(replace(prompt, text=f"{prompt.text} Be brief.") for prompt in own.prompts)
    assert show.by_task(replace(own, prompts=changed), **CHOICE)["prompts"][0] == "your own"


# -- sliders


def test_sliders_order_anew_without_measuring() -> None:
    """A moved weight, limit or floor changes sentence, bars and table at once; the controls begin as was decided."""
    widget = ChoiceWidget(decided(max_size_mb=10), RUN, Path())
    assert (set(widget.weights), set(widget.limits), set(widget.floors)) == (set(CRITERIA), set(LIMITS), set(FLOORS))
    assert (widget.weights["quality"].value, widget.limits["max_size_mb"].value) == (1, 10)
    assert widget.decision.ranked[0].row.alias == "quick" and ">0.50<" in widget._shown.value
    widget.floors["latency"].value = 1.0
    assert widget.decision.ranked[0].row.alias == "careful"
    widget.floors["latency"].value = 0.0
    widget.weights["quality"].value = 5.0
    assert "careful · int4 · cpu comes first" in widget._said.value
    widget.limits["max_size_mb"].value = 3.0
    assert [each.row.alias for each in widget.decision.ranked] == ["quick"]
    widget.limits["max_size_mb"].value = 1.0
    assert "size on disk 2 MB, the limit is 1 MB" in widget._shown.value


def test_the_button_writes_down_what_the_sliders_say(tmp_path: Path) -> None:
    """The choice as it stands, with its reason; nothing is written of what is impossible, and no folder is a fault."""
    widget = ChoiceWidget(decided(), RUN, tmp_path, note="Because.")
    widget.weights["quality"].value = 5.0
    widget.button.click()
    assert "decision.md and decision.json" in widget._written.value
    text = (tmp_path / "decision.md").read_text("utf-8")
    assert text.startswith(f"# Decision: {CAREFUL}") and "> Because." in text
    widget.limits["max_memory_mb"].value = -1
    assert widget.button.disabled and widget._written.value == ""
    (tmp_path / "file").touch()
    nowhere = ChoiceWidget(decided(), RUN, tmp_path / "file")
    nowhere.button.click()
    assert "cannot be written" in nowhere._written.value


def test_what_is_impossible_is_said_and_the_last_order_stays() -> None:
    """A negative limit, or no weight at all, leaves a sentence and no traceback; the next possible value heals it."""
    widget = ChoiceWidget(decided(), RUN, Path())
    widget.limits["max_memory_mb"].value = -1
    assert 'role="status"' in widget._said.value and "max_memory_mb is -1" in widget._said.value
    assert widget.decision.ranked[0].row.alias == "quick"
    widget.limits["max_memory_mb"].value = 0
    assert widget.problem == ""
    for slider in widget.weights.values():
        slider.value = 0.0
    assert "All weights are 0" in widget.problem
