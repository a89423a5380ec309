"""How a decision is shown: sentences, tables, figure, sliders, and the record on disk."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import mistune
import pytest

from tests.choice_helpers import evidence_of
from tests.report_helpers import HOSTILE
from tests.test_pareto import made_run
from workshop_lib.archive import storage
from workshop_lib.decision import choice, choice_charts, choice_record, choice_tables, choice_words, evidence, limits
from workshop_lib.decision.choice import Decision
from workshop_lib.decision.choice_widget import ChoiceWidget
from workshop_lib.decision.evidence import Evidence
from workshop_lib.decision.limits import Limits
from workshop_lib.decision.weights import Weights
from workshop_lib.errors import ConfigurationError
from workshop_lib.programs import notebooks
from workshop_lib.quality.scores import REFERENCE_FILE, read_reference
from workshop_lib.showing import charting

REFERENCE = REFERENCE_FILE.parent
EVEN = Weights({"quality": 1, "latency": 1})
TWO = {
    "careful": {"quality": 4, "latency": 1.0, "footprint": 4.0},
    "quick": {"quality": 3, "latency": 0.25, "footprint": 2.0},
}
RUN = made_run()
WHEN = "2026-11-20T12:00+00:00"


def decided(weights: Weights = EVEN, bounds: Limits | None = None, found: Evidence | None = None) -> Decision:
    return choice.decide(found or evidence_of(TWO), weights, bounds)


def unsure() -> Decision:
    """Two models that are each better on half of the prompts, the second a little more."""
    return decided(
        Weights({"quality": 1}),
        found=evidence_of({"a": {"quality": [5, 5, 1, 1] * 2}, "b": {"quality": [1, 1, 5, 5.5] * 2}}, prompts=8),
    )


def hostile() -> Decision:
    """A model whose every name is an attack, out by its licence, beside a harmless one."""
    found = evidence_of({**TWO, "bad": {"quality": 5, "latency": 0.1, "footprint": 1.0}})
    bad = replace(
        found.rows[2], alias=HOSTILE, model_id=HOSTILE, precision=HOSTILE, licence=HOSTILE, warnings=(HOSTILE,)
    )
    return decided(
        bounds=Limits(licences=("MIT",)), found=replace(found, rows=(*found.rows[:2], bad), remarks=(HOSTILE,))
    )


def cells(table: object) -> str:
    return table._repr_html_()  # type: ignore[attr-defined, no-any-return]


# -- sentences


def test_a_clear_winner_is_called_one() -> None:
    """The share of draws stands beside it."""
    decision = decided(found=evidence_of(TWO, prompts=8))
    assert choice_words.verdict(decision) == "quick · int4 · cpu comes first, in 100 % of the draws of prompts."
    assert decision.is_clear


def test_an_unsure_first_place_names_its_rival() -> None:
    """Below what the number of prompts asks for, the sentence says so, and who else comes first."""
    said = choice_words.verdict(unsure())
    assert re.fullmatch(
        r"b · int4 · cpu comes first, but only in \d\d(\.\d)? % of the draws of prompts \(a · int4 · cpu in \d\d %\): "
        r"below 99\.5 %, which 8 prompts ask for, other prompts could turn the order round\.",
        said,
    )


def test_few_prompts_make_no_first_place_sure() -> None:
    """With five prompts the share of the draws is told, and that it is nothing to rely on; with six it may be."""
    five, six = (choice_words.verdict(decided(found=evidence_of(TWO, prompts=count))) for count in (5, 6))
    assert five == (
        "quick · int4 · cpu comes first, in 100 % of the draws of prompts, but 5 prompts are too few to rely on that: "
        "it takes 6."
    )
    assert six == "quick · int4 · cpu comes first, in 100 % of the draws of prompts."


def test_a_lead_that_repeating_can_make_is_said_to_be_one() -> None:
    """1 % less latency in every draw is no difference, as on the page that compares; 3 % are one."""
    found = evidence_of({"a": {"latency": 1.0}, "b": {"latency": 1.01}, "c": {"latency": 1.03}}, prompts=8)
    said = choice_words.verdict(decided(Weights({"latency": 1}), found=found))
    assert said.endswith("in 100 % of the draws of prompts, but by so little that measuring again could turn the order "
                         "round.")  # fmt: skip
    apart = choice_words.verdict(decided(Weights({"latency": 1}), found=found.without(1)))
    assert apart == "a · int4 · cpu comes first, in 100 % of the draws of prompts."


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (decided(Weights({"quality": 2, "latency": 1})), "share the first place"),
        (
            decided(bounds=Limits(min_quality=3.5)),
            "careful · int4 · cpu is the only model left, so nothing was weighed.",
        ),
        (decided(bounds=Limits(max_size_mb=1)), "Nearest is quick · int4 · cpu: raise max_size_mb from 1 to 2."),
        (decided(found=evidence_of(TWO, prompts=2)), "How sure that is cannot be said: 2 prompts are too few"),
        (
            decided(found=evidence_of({"a": {"quality": 4}, "b": {"latency": 1.0}})),
            "No model can be ordered: each that keeps the limits lacks a figure that weighs.",
        ),
    ],
)
def test_every_outcome_has_its_sentence(decision: Decision, said: str) -> None:
    """A tie, one left, none left, too few prompts, and nothing to order are told apart."""
    assert said in choice_words.verdict(decision)


def test_what_would_change_the_choice_is_said_by_hand() -> None:
    """Quality would have to weigh 2, the latency a half; the size on disk weighs nothing and no weight of it helps."""
    assert choice_words.changes(decided()) == [
        "If quality weighed 2 instead of 1, careful · int4 · cpu would draw level.",
        "If latency weighed 0.5 instead of 1, careful · int4 · cpu would draw level.",
    ]
    alike = {name: {**values, "quality": 3} for name, values in TWO.items()}
    assert choice_words.changes(decided(found=evidence_of(alike))) == [
        "If latency weighed nothing instead of 1, careful · int4 · cpu would draw level.",
        "No weight of quality up to 20 brings another model to the first place.",
    ]


def test_no_far_fetched_weight_is_named() -> None:
    """A weight beyond ten times all others is no opinion; the criterion is said to change nothing up to there."""
    found = evidence_of({"a": {"quality": 5, "memory": 101.0}, "b": {"quality": 1, "memory": 100.0}})
    said = choice_words.changes(decided(Weights({"quality": 4, "memory": 1}), found=found))
    assert said[-1] == "No weight of peak memory up to 50 brings another model to the first place."


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0 %"), (0.001, "under 1 %"), (0.5, "50 %"), (0.999, "over 99 %"), (1, "100 %")]
)
def test_shares_are_never_rounded_to_certainty(share: float, said: str) -> None:
    """Seldom is not never, and nearly always is not always."""
    assert choice_words.percent(share) == said


# -- tables and figure


def test_the_ranking_shows_what_weighs() -> None:
    """Only criteria that count have a column; the first is no step behind."""
    table = choice_tables.ranking(decided())
    assert list(table.columns)[:6] == ["rank", "model", "precision", "device", "quality (1-5)", "latency (ms)"]
    assert list(table["steps behind"]) == ["0.00", "0.50"]
    assert list(choice_tables.ranking(decided(bounds=Limits(max_size_mb=1)))["rank"]) == []


def test_the_limits_table_says_who_is_out_and_why() -> None:
    """One line per model, in or out."""
    table = choice_tables.limits(decided(bounds=Limits(max_size_mb=3)))
    assert table.to_numpy().tolist() == [
        ["careful", "int4", "cpu", "out", "size on disk 4 MB, the limit is 3 MB"],
        ["quick", "int4", "cpu", "in", ""],
    ]


def test_figures_come_with_their_intervals() -> None:
    """A figure that was measured once stands alone, one that was not measured says so."""
    table = choice_tables.evidence(evidence_of({"a": {"latency": [0.1, 0.1, 0.3, 0.3], "footprint": 2.0}}))
    assert table["latency (ms)"][0] == "200 (100 to 300)"
    assert table["size on disk (MB)"][0] == "2"
    assert table["peak memory (MB)"][0] == "not measured"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_says_who_leads_where(theme: charting.Theme) -> None:
    """Its alt text names every stretch; the same decision gives the same picture."""
    figure = choice_charts.who_leads(decided(), theme=theme)
    assert charting.alt_text(figure) == (
        "Who comes first as each criterion's share of the weights changes. "
        "quality (now 50%): quick · int4 · cpu from 0% to 67%, careful · int4 · cpu from 67% to 100%. "
        "latency (now 50%): careful · int4 · cpu from 0% to 33%, quick · int4 · cpu from 33% to 100%."
    )
    assert charting.png(figure) == charting.png(choice_charts.who_leads(decided(), theme=theme))


def test_an_empty_figure_says_that_nobody_is_left() -> None:
    """A figure without models is drawn and described."""
    figure = choice_charts.who_leads(decided(bounds=Limits(max_size_mb=1)))
    assert charting.alt_text(figure) == "Who comes first as the weights change: no model is left."
    assert len(charting.png(figure)) > 1000


def test_no_two_winners_look_alike() -> None:
    """Neighbours differ in colour and in hatch, and no pair of both comes twice."""
    looks = [choice_charts._look(position, "light") for position in range(49)]
    assert len(set(looks)) == 49
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in pairwise(looks))


# -- record


def test_the_record_holds_what_a_reader_needs() -> None:
    """Choice, date, run, machine, evidence, limits, weights, who is out, and what would change it; no folder."""
    run = replace(RUN, machine={"cpu": "Test CPU", "memory_mb": 8000, "user": "ada"})
    decision = decided(Weights({"quality": 4, "latency": 1}), Limits(max_size_mb=10))
    text = choice_record.record(decision, run, records=Path("/secret/ada/records.jsonl"), decided_at=WHEN).text
    assert text.startswith(
        "# Decision: careful · int4 · cpu\n\ncareful · int4 · cpu comes first, in 100 % of the draws"
    )
    for part in (
        f"- **Decided:** {WHEN}",
        "file records.jsonl",
        "- **Machine:** Test CPU, 8000 MB of memory",
        "- **Licence:** MIT",
        "| careful | int4 | cpu | 4 (4 to 4) | 1,000 (1,000 to 1,000) |",
        "- size on disk at most 10 MB",
        "- none",
        "- quality 4 (80%), a step is one grade",
        "- If quality weighed 2 instead of 4, quick · int4 · cpu would draw level.",
    ):
        assert part in text, part
    assert "ada" not in text and "secret" not in text


def test_the_record_of_no_choice_says_what_to_allow() -> None:
    """Nobody is left: the heading says none, everyone is out with the reason, no ranking is shown."""
    text = choice_record.record(decided(bounds=Limits(max_size_mb=1)), RUN, records="r.jsonl", decided_at=WHEN).text
    assert text.startswith(
        "# Decision: none\n\nNo model keeps all limits. Nearest is quick · int4 · cpu: raise max\\_size\\_mb"
    )
    assert "- careful · int4 · cpu: size on disk 4 MB, the limit is 1 MB" in text
    assert "## Order" not in text


def test_nothing_untrusted_acts_in_the_record() -> None:
    """Rendered as Markdown, names, licences, remarks and notes are plain text: no tag, link or heading is theirs."""
    note = f"{HOSTILE}\n# heading\n> quote -->\n<!-- x"
    records = f"/x/{HOSTILE.replace('/', '')}"
    text = choice_record.record(hostile(), RUN, records=records, note=note, decided_at=WHEN).text
    assert not re.search("[\x1b\u202e\ud800]", text)
    page = mistune.create_markdown(plugins=["table", "url", "strikethrough"])(text)
    seen = set(re.findall(r"<(\w+)", str(page)))
    ours = {"h1", "h2", "p", "ul", "li", "strong", "code", "blockquote", "table", "thead", "tbody", "tr", "th", "td"}
    assert seen == ours
    assert all(re.fullmatch(r"\w+", code) for code in re.findall("<code>(.*?)</code>", str(page)))
    assert str(page).count("<h1>") == str(page).count("as written, sha256") == 1
    assert "&lt;script&gt;alert" in str(page)
    candidates = str(page).split("<h2>Candidates</h2>")[1].split("</table>")[0]
    assert (candidates.count("<tr>"), candidates.count("<td")) == (4, 3 * 11)


def test_nothing_untrusted_acts_on_the_screen() -> None:
    """Tables and sliders escape HTML, and show hidden characters."""
    decision = hostile()
    tables = (
        choice_tables.evidence(decision.evidence),
        choice_tables.limits(decision),
        choice_tables.sentences(decision),
    )
    widget = ChoiceWidget(decision.evidence, EVEN)
    for shown in (*map(cells, tables), widget._shown.value, widget._said.value):
        assert "<script" not in shown and "\x1b" not in shown
    figure = choice_charts.who_leads(choice.decide(decision.evidence, EVEN))
    assert "\x1b" not in charting.alt_text(figure)
    assert "<script" not in charting.shown(figure)._repr_html_()


def test_a_record_is_replaced_only_while_nobody_has_edited_it(tmp_path: Path) -> None:
    """An untouched one is replaced, an edited one is kept and the new one gets a number; line ends are no edit."""
    first = choice_record.record(decided(), RUN, records="r.jsonl", decided_at=WHEN)
    second = choice_record.record(
        decided(Weights({"quality": 9, "latency": 1})), RUN, records="r.jsonl", decided_at=WHEN
    )
    path = choice_record.write(first, tmp_path)
    assert path.name == "decision.md" and path.read_text("utf-8") == first.text
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert choice_record.write(second, tmp_path) == path
    edited = path.read_text("utf-8").replace("careful", "careful (we tried it)", 1)
    path.write_text(edited, encoding="utf-8")
    assert choice_record.write(first, tmp_path).name == "decision-2.md"
    assert choice_record.write(second, tmp_path).name == "decision-2.md"
    assert path.read_text("utf-8") == edited
    assert sorted(each.name for each in tmp_path.iterdir()) == ["decision-2.md", "decision.md"]


@pytest.mark.parametrize(
    "content", [b"", b"# Mine\n", b"\xff\xfe", b"<!-- as written, sha256 of the text above: 00 -->"]
)
def test_what_is_no_record_is_never_overwritten(tmp_path: Path, content: bytes) -> None:
    """A file of somebody's own by that name stays."""
    (tmp_path / "decision.md").write_bytes(content)
    written = choice_record.write(choice_record.record(decided(), RUN, records="r"), tmp_path)
    assert written.name == "decision-2.md"
    assert (tmp_path / "decision.md").read_bytes() == content


def test_a_folder_full_of_edited_records_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are not counted for ever."""
    monkeypatch.setattr(choice_record, "MOST_RECORDS", 2)
    for name in ("decision.md", "decision-2.md"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigurationError, match="holds 2 edited records"):
        choice_record.write(choice_record.record(decided(), RUN, records="r"), tmp_path)


def test_the_date_is_now_unless_given() -> None:
    """ISO 8601 with its time zone."""
    text = choice_record.record(decided(), RUN, records="r").text
    stated = re.search(r"\*\*Decided:\*\* (\S+)", text)
    assert stated is not None
    assert datetime.fromisoformat(stated.group(1)).tzinfo is not None


def test_a_notebook_renders_the_record_and_a_terminal_prints_it() -> None:
    """Both have the same words."""
    made = choice_record.record(decided(), RUN, records="r", note="Because.")
    assert made._repr_markdown_() == repr(made) == made.text
    assert "> Because." in made.text


# -- sliders


def test_sliders_order_anew_without_measuring() -> None:
    """A moved weight changes the order at once; the controls begin at the weights and limits given."""
    widget = ChoiceWidget(evidence_of(TWO), EVEN, Limits(max_size_mb=10))
    assert (widget.weights["quality"].value, widget.bounds["max_size_mb"].value) == (1, 10)
    assert widget.decision.ranked[0].row.alias == "quick"
    widget.weights["quality"].value = 5.0
    assert widget.decision.ranked[0].row.alias == "careful"
    assert "careful · int4 · cpu comes first" in widget._said.value
    widget.bounds["max_size_mb"].value = 3.0
    assert [each.row.alias for each in widget.decision.ranked] == ["quick"]
    widget.bounds["max_size_mb"].value = 1.0
    assert "the limit is 1 MB" in widget._shown.value


def test_what_cannot_be_is_said_and_the_last_order_stays() -> None:
    """A negative limit, or no weight at all, leaves a sentence and no traceback; the next possible value heals it."""
    widget = ChoiceWidget(evidence_of(TWO), EVEN)
    widget.bounds["max_memory_mb"].value = -1
    assert "max_memory_mb is -1" in widget.problem
    assert 'role="status"' in widget._said.value and "Not possible: max_memory_mb" in widget._said.value
    assert widget.decision.ranked[0].row.alias == "quick"
    widget.bounds["max_memory_mb"].value = 0
    assert widget.problem == ""
    for slider in widget.weights.values():
        slider.value = 0.0
    assert "All weights are 0" in widget.problem
    widget.bounds["min_quality"].value = 9
    widget.weights["quality"].value = 1
    assert "Grades go from 1 to 5" in widget.problem


def test_licences_are_kept_and_heavy_weights_fit() -> None:
    """A limit that has no control stays in force; a weight above the usual range has room."""
    widget = ChoiceWidget(evidence_of(TWO), Weights({"quality": 40}), Limits(licences=("Apache-2.0",)))
    assert widget.weights["quality"].max == 40
    widget.weights["latency"].value = 2.0
    assert not widget.decision.ranked
    assert len(widget.decision.out) == 2


def test_without_a_kernel_a_sentence_is_left() -> None:
    """The stored output says who comes first and how to get the sliders."""
    widget = ChoiceWidget(evidence_of(TWO), EVEN)
    bundle = widget._repr_mimebundle_()
    assert bundle["text/plain"] == repr(widget)
    assert repr(widget).startswith("quick · int4 · cpu comes first") and "running notebook" in repr(widget)
    assert "application/vnd.jupyter.widget-view+json" in bundle


# -- together


def test_the_shipped_results_can_be_decided() -> None:
    """On the reference run each practice model is in or out, and a word stands for every figure."""
    run = storage.read_run(REFERENCE / "records.jsonl")
    found = evidence.gather(run, read_reference().as_scores())
    decision = choice.decide(found, Weights({"quality": 4, "latency": 2, "memory": 1, "footprint": 1}))
    assert len(decision.ranked) == len(found.rows) >= 6
    assert found.measure == "reference"
    assert sum(each.best_share or 0 for each in decision.ranked) == pytest.approx(1)


@pytest.mark.slow
def test_the_page_ends_well_where_no_model_is_left(tmp_path: Path) -> None:
    """With a limit that nothing keeps, every cell still runs, and the record says what to allow."""
    given = {
        "records": str(REFERENCE / "records.jsonl"),
        "output": str(tmp_path),
        "max_size_mb": 0.01,
        "licences": "MIT",
    }
    notebooks.run_notebook(notebooks.FOLDER / "05_choose_model.ipynb", tmp_path / "page.ipynb", given)
    text = (tmp_path / "decision.md").read_text("utf-8")
    assert "No model keeps all limits. Nearest is practice-small" in text


def test_limits_of_the_page_are_those_of_the_sliders() -> None:
    """Whoever adds a bound gets a control for it."""
    from workshop_lib.decision import choice_widget

    assert set(choice_widget.BOUND_LABELS) == set(limits.BOUNDS)
