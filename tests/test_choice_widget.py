"""The sliders of the choice: they order anew without measuring, and say what is impossible."""

from __future__ import annotations

from tests.choice_helpers import TWO, decided, evidence_of
from workshop_lib.choice.decide import CRITERIA, LIMITS, decide
from workshop_lib.choice.show import ChoiceWidget


def test_sliders_order_anew_without_measuring() -> None:
    """A moved weight changes the order at once; the controls begin at the weights and limits given."""
    widget = ChoiceWidget(decided(max_size_mb=10))
    assert (set(widget.weights), set(widget.limits)) == (set(CRITERIA), set(LIMITS))
    assert (widget.weights["quality"].value, widget.limits["max_size_mb"].value) == (1, 10)
    assert widget.decision.ranked[0].row.alias == "quick"
    widget.weights["quality"].value = 5.0
    assert "careful · int4 · cpu comes first" in widget._said.value
    widget.limits["max_size_mb"].value = 3.0
    assert [each.row.alias for each in widget.decision.ranked] == ["quick"]
    widget.limits["max_size_mb"].value = 1.0
    assert "the limit is 1 MB" in widget._shown.value


def test_what_is_impossible_is_said_and_the_last_order_stays() -> None:
    """A negative limit, or no weight at all, leaves a sentence and no traceback; the next possible value heals it."""
    widget = ChoiceWidget(decided())
    widget.limits["max_memory_mb"].value = -1
    assert 'role="status"' in widget._said.value and "max_memory_mb is -1" in widget._said.value
    assert widget.decision.ranked[0].row.alias == "quick"
    widget.limits["max_memory_mb"].value = 0
    assert widget.problem == ""
    for slider in widget.weights.values():
        slider.value = 0.0
    assert "All weights are 0" in widget.problem


def test_licences_are_kept_and_heavy_weights_fit_and_a_sentence_is_stored() -> None:
    """A limit without a control stays in force; without a kernel the stored output says which model comes first."""
    widget = ChoiceWidget(decide(evidence_of(TWO), {"quality": 40}, licences="MIT"))
    bundle = widget._repr_mimebundle_()
    assert bundle["text/plain"].startswith("careful · int4 · cpu comes first") and "running notebook" in repr(widget)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    widget.weights["latency"].value = 2.0
    assert (widget.weights["quality"].max, widget.decision.licences) == (40, "MIT")
