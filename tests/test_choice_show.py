"""How a decision is shown: sentences, tables, the figure of weight sensitivity, and the record on disk."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import mistune
import pytest

from tests.choice_helpers import EVEN, TWO, decided, evidence_of
from tests.report_helpers import HOSTILE
from tests.test_choice_decide import OUTCOMES
from tests.test_pareto import made_run
from workshop_lib import places
from workshop_lib.choice import show
from workshop_lib.choice.decide import Decision, decide
from workshop_lib.choice.show import ChoiceWidget
from workshop_lib.programs import notebooks
from workshop_lib.show import style

REFERENCE = places.DATA / "reference" / "practice"
RUN = made_run()
WHEN = "2026-11-20T12:00+00:00"
QUICK, CAREFUL = "quick · int4 · cpu", "careful · int4 · cpu"
DRAWS = "comes first, in 100 % of the draws of prompts"
VERDICTS = {
    "clear": f"{QUICK} {DRAWS}.",
    "few": f"{QUICK} {DRAWS}, but 5 prompts are too few to rely on that: it takes 6.",
    "unsure": r"b · int4 · cpu comes first, but only in [\d.]+ % of the draws of prompts \(a · int4 · cpu in \d+ %\): "
    "below 99.5 %, which 8 prompts call for, other prompts could change the order.",
    "slight": f"a · int4 · cpu {DRAWS}, but by so little that measuring again could change the order.",
    "tie": f"{CAREFUL} and {QUICK} share the first place: nothing with a weight tells them apart.",
    "none": "Every model is excluded: 1 by latency, 1 by quality.",
    "only": "a · int4 · cpu is the only model left, so nothing was compared.",
    "trained": f"{QUICK} † {DRAWS}, but it was trained on these prompts: others can change the order.",
    "unknown": f"{QUICK} comes first, but there is too little data to say how surely: "
    "It takes at least 3 prompts, and there are 2.",
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
        "No share of quality or latency brings another model to the first place."
    ]
    assert show.sensitivity(decided({"quality": 1})) == []


def test_the_tables_say_what_counts_and_what_is_excluded() -> None:
    """Only criteria with a weight have a column; a figure has its interval; one line per model, kept or excluded."""
    decision = decided(max_size_mb=3)
    assert show.ranking(decision).to_numpy().tolist() == [[1, QUICK, "3", "250", "0.00", "100 %"]]
    assert list(show.ranking(decided(max_size_mb=1))["rank"]) == []
    assert show.limits(decision).to_numpy().tolist() == [
        [CAREFUL, "excluded", "size on disk 4 MB, the limit is 3 MB"],
        [QUICK, "kept", ""],
    ]
    table = show.evidence(evidence_of({"a": {"latency": [0.1, 0.1, 0.3, 0.3], "footprint": 2.0}}))
    cells = [table[name][0] for name in ("latency (ms)", "size on disk (MB)", "peak memory (MB)")]
    assert cells == ["200 (100 to 300)", "2", "not measured"]
    assert show.weights({"quality": 3, "latency": 1}).to_numpy().tolist()[:2] == [
        ["quality", "one grade", "3", "75%"],
        ["latency", "half the latency", "1", "25%"],
    ]
    assert show.limits_set({"max_size_mb": 10, "min_quality": 3}, "MIT, BSD") == [
        "size on disk at most 10 MB",
        "quality at least 3",
        "licence: MIT, BSD",
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_says_which_model_leads_where(theme: style.Theme) -> None:
    """Its alt text names every stretch; the same decision gives the same picture; without models it says so."""
    figure = show.weight_sensitivity(decided(), theme=theme)
    assert style.alt_text(figure) == (
        "Which model comes first as each criterion's share of the weights changes. "
        f"quality (now 50%): {QUICK} from 0% to 66%, {CAREFUL} from 67% to 100%. "
        f"latency (now 50%): {CAREFUL} from 0% to 33%, {QUICK} from 34% to 100%."
    )
    assert style.png(figure) == style.png(show.weight_sensitivity(decided(), theme=theme))
    assert "no model is left" in style.alt_text(show.weight_sensitivity(decided(max_size_mb=1), theme=theme))


def test_the_record_holds_what_a_reader_needs() -> None:
    """Choice, date, run, machine, evidence, limits, weights, what is excluded, and what would change it; no folder."""
    run = replace(RUN, machine={"cpu": "Test CPU", "memory_mb": 8000, "user": "ada"})
    decision = decided({"quality": 4, "latency": 1}, max_size_mb=10)
    text = show.record(decision, run, records=Path("/secret/ada/records.jsonl"), note="Because.", decided_at=WHEN)
    for part in (
        f"# Decision: {CAREFUL}\n\n{CAREFUL} comes first, in 100 % of the draws",
        f"- **Decided:** {WHEN}",
        "file records.jsonl",
        "- **Machine:** Test CPU, 8000 MB of memory",
        "- **Licence:** MIT",
        "> Because.",
        f"| {CAREFUL} | 4 (4 to 4) | 1,000 (1,000 to 1,000) |",
        "## Limits\n\n- size on disk at most 10 MB",
        "## Excluded, and why\n\nnone",
        "| quality | one grade | 4 | 80% |",
        f"- If quality had 0 to 66 % of all weights instead of 80 %, {QUICK} would come first.",
    ):
        assert part in text, part
    assert "ada" not in text and "secret" not in text
    nothing = show.record(decided(max_size_mb=1), RUN, records="r.jsonl")
    assert nothing.startswith("# Decision: none\n\nEvery model is excluded: 2 by max\\_size\\_mb.")
    assert f"- {CAREFUL}: size on disk 4 MB, the limit is 1 MB" in nothing


def test_nothing_untrusted_acts() -> None:
    """Names, licences, remarks and notes are plain text everywhere: no tag and no heading is theirs."""
    decision, note = hostile(), f"{HOSTILE}\n# heading\n> quote -->\n<!-- x"
    text = show.record(decision, RUN, records=f"/x/{HOSTILE.replace('/', '')}", note=note)
    assert not re.search("[\x1b\u202e\ud800]", text)
    page = str(mistune.create_markdown(plugins=["table", "url", "strikethrough"])(text))
    ours = {"h1", "h2", "p", "ul", "li", "strong", "blockquote", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r"<(\w+)", page)) == ours
    assert page.count("<h1>") == 1 and "&lt;script&gt;alert" in page
    widget = ChoiceWidget(decide(decision.evidence, EVEN))
    tables = (show.evidence(decision.evidence), show.limits(decision), show.sentences(decision))
    figure = style.shown(show.weight_sensitivity(widget.decision))
    for shown in (*(each._repr_html_() for each in (*tables, figure)), widget._shown.value, widget._said.value):
        assert "<script" not in shown and "\x1b" not in shown


def test_no_record_is_overwritten(tmp_path: Path) -> None:
    """The first is decision.md; where there is one, edited or not, the next has the time in its name."""
    assert show.write("first", tmp_path).name == "decision.md"
    second = show.write("second", tmp_path)
    assert re.fullmatch(r"decision-\d{8}T\d{6}Z\.md", second.name)
    assert [(tmp_path / "decision.md").read_text("utf-8"), second.read_text("utf-8")] == ["first", "second"]


@pytest.mark.slow
def test_the_page_ends_well_where_no_model_is_left(tmp_path: Path) -> None:
    """With a limit that nothing keeps, every cell still runs, and the record names the broken limit."""
    given = {
        "records": str(REFERENCE / "records.jsonl"),
        "output": str(tmp_path),
        "max_size_mb": 0.01,
        "licences": "MIT",
    }
    notebooks.run_notebook(notebooks.FOLDER / "05_choose_model.ipynb", tmp_path / "page.ipynb", given)
    assert "Every model is excluded: 6 by max" in (tmp_path / "decision.md").read_text("utf-8")
