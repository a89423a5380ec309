"""Judging answers: blind, in a fixed order, resumable at any point, revealed only at the end. No browser."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.annotation_helpers import answer, forty, run_with, variant
from tests.measurement_helpers import run_of
from workshop_lib import data, places
from workshop_lib.errors import ConfigurationError, DataFileError, RecordFileError
from workshop_lib.people import annotation, annotation_view, annotation_widget
from workshop_lib.people.annotation import JudgingError, Session
from workshop_lib.records import Prompt, Serving
from workshop_lib.showing import annotation_tables
from workshop_lib.verdicts import reveal, rubric, score_files
from workshop_lib.verdicts.scores import Score

HOSTILE = '<script>alert("x")</script> \x1b[31mred \u202eright\ud800'
SMALL = {"one": {"x": "first", "y": "second"}, "two": {"x": "third", "y": "third"}}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(forty(), tmp_path, rater="ada")


def order(session: Session) -> list[tuple[str, ...]]:
    return [item.key("") for item in session.items]


def text(session: Session) -> str:
    assert session.item
    return session.item.shown[0].answer.text


def test_the_same_text_of_several_models_is_judged_once(tmp_path: Path):
    """Three texts from four answers; the shared one knows both models."""
    session = Session(run_with(SMALL), tmp_path)
    assert sorted(text.answer.text for item in session.items for text in item.shown) == ["first", "second", "third"]


def test_nothing_to_judge_is_no_item(tmp_path: Path):
    """Failures, warm-ups and empty answers are not shown."""
    run = run_of(
        [
            answer("p", "tiny", "warm", round=0),
            answer("p", "tiny", " \n"),
            answer("p", "other", "late", error="broke", error_kind="reset"),
        ]
    )
    session = Session(run, tmp_path)
    assert (session.total, session.item, session.finished) == (0, None, False)
    assert annotation_view.view(session)["stage"] == "empty"


def test_the_order_is_fixed_by_seed_and_rater(tmp_path: Path):
    """The same way again for the same rater, another for another rater or seed, all answers in each."""
    run = forty()
    ada, again, bob = (Session(run, tmp_path, rater=name) for name in ("ada", "Ada", "bob"))
    other = Session(run, tmp_path, rater="ada", seed=21)
    assert order(ada) == order(again)
    assert order(ada) != order(bob) and order(ada) != order(other)
    assert sorted(order(ada)) == sorted(order(bob)) == sorted(order(other))


def test_answers_to_one_prompt_come_together(session: Session):
    """A question is read once and not forty times."""
    prompts = [item.prompt.id for item in session.items]
    changes = sum(before != after for before, after in itertools.pairwise(prompts))
    assert changes == len(set(prompts)) - 1


def test_a_run_with_more_answers_keeps_the_order_of_the_others(tmp_path: Path):
    """New answers come in between; nobody's place in the rest changes."""
    few = Session(run_with(SMALL), tmp_path)
    more = Session(run_with({**SMALL, "three": {"x": "fourth"}}), tmp_path)
    old = set(order(few))
    assert [key for key in order(more) if key in old] == order(few)


def test_grading_goes_on_and_counts(session: Session):
    """Progress says how many have a grade; the position is the next without one."""
    session.grade(4)
    session.skip()
    session.grade(1)
    assert (session.position, session.judged, session.skipped, session.total) == (3, 2, 1, 40)


def test_a_verdict_is_on_disk_with_hash_and_version(session: Session):
    """The file knows prompt, hash of the text, grade and version, and neither text nor model."""
    item = session.item
    session.grade(5, "clear")
    (entry,) = [json.loads(line) for line in session.file.path.read_text("utf-8").splitlines()[1:]]
    assert entry["answer_sha256"] == item.shown[0].answer.sha256
    assert (entry["prompt_id"], entry["grade"], entry["comment"]) == (item.prompt.id, 5, "clear")
    assert entry["rubric_version"] == session.version
    assert not re.search(r"Sentence|alder|birch|cedar|dogwood|elm", session.file.path.read_text("utf-8"))


def test_a_new_session_goes_on_where_the_last_one_stopped(session: Session):
    """Grades, comments and the place are read from the file."""
    session.grade(3, "so so")
    session.skip()
    again = Session(session.run, session.folder, rater="ada")
    assert (again.position, again.judged, again.skipped) == (2, 1, 1)
    again.previous()
    again.previous()
    assert again.verdict(again.item).comment == "so so"


def test_undo_takes_back_the_last_verdict_and_returns_to_it(session: Session):
    """Undo goes back step by step, also after a new start, and is a line of its own."""
    first = text(session)
    session.grade(3)
    session.grade(4)
    session = Session(session.run, session.folder, rater="ada")
    session.undo()
    session.undo()
    assert (text(session), session.judged) == (first, 0)
    with pytest.raises(JudgingError, match="nothing to take back"):
        session.undo()
    assert len(session.file.path.read_bytes().splitlines()) == 5


def test_a_second_grade_replaces_the_first_and_undo_brings_it_back(session: Session):
    """Going back and grading again changes one answer's grade, not the count."""
    session.grade(3)
    session.previous()
    session.grade(5)
    item = session.items[0]
    assert (session.verdict(item).grade, session.judged, session.position) == (5, 1, 1)
    session.undo()
    assert session.verdict(item).grade == 3


def test_a_comment_stays_with_its_verdict(session: Session):
    """A comment alone is no verdict; a grade keeps it; a new comment keeps the grade."""
    session.comment("unclear")
    assert (session.position, session.judged, session.skipped) == (0, 0, 1)
    session.grade(2)
    session.previous()
    session.comment(" \x1b[1mclear\u202e now ")
    verdict = session.verdict(session.items[0])
    assert (verdict.grade, verdict.comment) == (2, "�[1mclear� now")


def test_a_comment_is_kept_to_a_length():
    """A pasted book is cut at 2,000 characters."""
    assert len(annotation.clean_comment("x" * 5000)) == annotation.LONGEST_COMMENT


def test_moving_stays_between_the_first_item_and_the_end(session: Session):
    """Before the first there is nothing; after the last comes the end, where nothing can be graded."""
    session.previous()
    assert session.position == 0
    for _ in range(50):
        session.next()
    assert (session.position, session.item) == (40, None)
    with pytest.raises(JudgingError, match="end is reached"):
        session.grade(3)


def test_skipped_answers_can_be_visited_at_the_end(session: Session):
    """The end leads back to what was passed over; a grade then fills the gap."""
    for number in range(40):
        session.skip() if number == 7 else session.grade(3)
    assert (session.position, session.finished) == (40, True)
    session.to_skipped()
    assert session.position == 7
    session.grade(1)
    assert (session.judged, session.skipped, session.position) == (40, 0, 40)
    session.to_skipped()
    assert session.position == 40


@pytest.mark.parametrize("grade", [0, 6, -1, "3", None])
def test_other_grades_are_refused(session: Session, grade: object):
    """Nothing outside 1 to 5 reaches the file."""
    with pytest.raises(JudgingError, match="no verdict here"):
        session.grade(grade)  # type: ignore[arg-type]
    assert not session.file.path.exists()


def test_a_verdict_that_cannot_be_saved_is_not_shown(session: Session, monkeypatch):
    """With a full disk the session stays where it was and counts nothing."""

    def full(*_: object) -> None:
        raise RecordFileError("Disk full.", "Free space.")

    monkeypatch.setattr(session.file, "add", full)
    with pytest.raises(RecordFileError):
        session.grade(3)
    assert (session.position, session.judged) == (0, 0)


def test_raters_are_apart(session: Session):
    """Each has a file and a place of their own; an impossible name changes nothing."""
    session.grade(5)
    session.switch("Bob")
    assert (session.rater, session.judged) == ("bob", 0)
    session.grade(1)
    with pytest.raises(ConfigurationError, match="cannot be a rater's name"):
        session.switch("../x")
    assert session.rater == "bob"
    session.switch("ada")
    assert (session.judged, session.position) == (1, 1)
    grades = {each.rater: each.grade for each in score_files.read_all(session.folder) if isinstance(each, Score)}
    assert grades == {"ada": 5, "bob": 1}


def test_two_windows_of_one_rater_see_each_other(session: Session):
    """A verdict from elsewhere counts as soon as this window writes; undo takes back the latest of both."""
    other = Session(session.run, session.folder, rater="ada")
    other.grade(2)
    session.next()
    session.grade(4)
    assert session.judged == 2
    other.undo()
    assert other.position == 1


def test_another_rubric_or_prompt_starts_anew(session: Session):
    """A verdict given under other words does not count under these."""
    session.grade(5)
    changed = [Prompt(each.id, each.text, aspects=("other",)) for each in session.run.prompts]
    texts = {p.id: {} for p in changed}
    for each in session.run.completions:
        texts[each.prompt_id][each.alias] = each.text
    assert Session(run_with(texts, changed), session.folder, rater="ada").judged == 0


def test_pairs_connect_all_answers_and_are_the_same_for_everybody(tmp_path: Path):
    """Five answers make a circle of five pairs; raters differ in order and in which side is A."""
    run = forty()
    ada, bob = (Session(run, tmp_path, rater=name, mode="pairwise") for name in ("ada", "bob"))
    assert ada.total == 40
    pairs = [{frozenset(key[2:]) for key in order(each)} for each in (ada, bob)]
    assert pairs[0] == pairs[1]
    assert set(order(ada)) != set(order(bob))
    times = [sum(each in pair for pair in pairs[0]) for pair in pairs[0] for each in pair]
    assert set(times) == {2}


def test_sides_do_not_depend_on_the_seed(tmp_path: Path):
    """A rater who comes back with another seed finds the verdicts on pairs that are asked again."""
    run = run_with(SMALL)
    one = Session(run, tmp_path, mode="pairwise")
    one.choose("b", "shorter")
    two = Session(run, tmp_path, mode="pairwise", seed=99)
    assert (two.total, two.judged) == (1, 1)


def test_both_sides_are_first_about_equally_often(tmp_path: Path):
    """Neither model profits from always being A: of 400 draws, 150 to 250 begin with the first (p > 0.999 999)."""
    run = run_with({f"q{n}": {"x": f"a{n}", "y": f"b{n}"} for n in range(400)})
    session = Session(run, tmp_path, mode="pairwise")
    assert 150 < sum(item.shown[0].answer.text.startswith("a") for item in session.items) < 250


def test_preferences_are_stored_as_they_were_shown(tmp_path: Path):
    """The first hash is that of A."""
    session = Session(run_with(SMALL), tmp_path, mode="pairwise")
    shown = [each.answer.sha256 for each in session.item.shown]
    session.choose("both_bad")
    (verdict,) = session.verdicts
    assert ([verdict.a_sha256, verdict.b_sha256], verdict.choice) == (shown, "both_bad")
    with pytest.raises(JudgingError):
        session.grade(3)
    with pytest.raises(ConfigurationError, match="There is no mode 'both'"):
        Session(run_with(SMALL), tmp_path, mode="both")


def test_a_comment_on_a_pair_keeps_the_choice(tmp_path: Path):
    """Words can be added to a preference, and a pair can be passed over."""
    session = Session(run_with({**SMALL, "three": {"x": "4", "y": "5"}}), tmp_path, mode="pairwise")
    session.choose("a")
    session.previous()
    session.comment("close")
    assert (session.verdict(session.items[0]).choice, session.verdict(session.items[0]).comment) == ("a", "close")
    session.next()
    session.skip()
    assert session.finished
    session.reveal()
    assert annotation_view.view(session)["revealed"]["headings"] == ["Model", "Won", "Tied", "Lost", "Both bad"]


def test_models_are_hidden_until_everything_is_judged(tmp_path: Path):
    """Before the end, no view and no table holds a model's name; a reveal too early says what is left."""
    session = Session(run_with(SMALL), tmp_path)
    seen = ""
    while not session.finished:
        seen += json.dumps(annotation_view.view(session)) + annotation_tables.models(session).to_csv()
        session.grade(4)
    seen += json.dumps(annotation_view.view(session))
    assert not re.search(r"int4|cpu|\bx:1\b", seen)
    assert "3 of 3 are still to be judged" in seen
    session.reveal()
    assert "x · int4 · cpu" in json.dumps(annotation_view.view(session), ensure_ascii=False)


def test_after_the_reveal_no_verdict_is_taken(tmp_path: Path):
    """Who knows the models is no longer blind."""
    session = Session(run_with(SMALL), tmp_path)
    for _ in range(3):
        session.grade(4)
    session.reveal()
    before = session.file.path.read_bytes()
    session.previous()
    for act in (session.undo, lambda: session.grade(1), session.skip, lambda: session.comment("x")):
        with pytest.raises(JudgingError, match="judging is over"):
            act()
    assert session.file.path.read_bytes() == before


def test_means_are_per_model_and_shared_answers_count_for_both(tmp_path: Path):
    """Worked by hand: x has 2 and 5, y has 4 and the shared 5; a missing grade is in no mean."""
    session = Session(run_with(SMALL), tmp_path)
    grades = {"first": 2, "second": 4, "third": 5}
    while session.item:
        session.grade(grades[text(session)])
    lines = [(each.model, each.mean, each.n) for each in reveal.mean_grades(session.run, session.verdicts)]
    assert lines == [("y · int4 · cpu", 4.5, 2), ("x · int4 · cpu", 3.5, 2)]
    none = [Score("ada", "one", session.items[0].shown[0].answer.sha256, None, "1", "now")]
    assert {each.mean for each in reveal.mean_grades(session.run, none)} == {None}


def test_choices_are_counted_per_model(tmp_path: Path):
    """A win for one side is a loss for the other; ties and bad pairs count for both; nothing is nothing."""
    run = run_with({str(n): {"x": f"a{n}", "y": f"b{n}"} for n in range(5)})
    session = Session(run, tmp_path, mode="pairwise")
    for choice in ("x", "x", "tie", "both_bad"):
        sides = [each.authors[0].alias for each in session.item.shown]
        session.choose("ab"[sides.index(choice)] if choice == "x" else choice)
    session.skip()
    counted = [(c.model[0], c.won, c.tied, c.lost, c.both_bad, c.n) for c in reveal.choices(run, session.verdicts)]
    assert counted == [("x", 2, 1, 0, 1, 4), ("y", 0, 1, 2, 1, 4)]


# -- the view and its commands


def test_views_hold_visible_text_only(tmp_path: Path):
    """Control, direction and half characters of a model are shown as such; the rest stays text."""
    view = annotation_view.view(Session(run_with({"one": {"x": HOSTILE}}), tmp_path))
    assert view["answers"] == ['<script>alert("x")</script> �[31mred �right�']
    json.dumps(view).encode("utf-8", "strict")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"command": "grade", "value": "4"}, "Saved: grade 4"),
        ({"command": "skip"}, "Saved: skipped"),
        ({"command": "comment", "value": "hm"}, "Saved: comment"),
        ({"command": "next"}, ""),
        ({"command": "previous"}, ""),
        ({"command": "skipped"}, ""),
        ({"command": "rater", "value": "bob"}, "Judging as bob"),
    ],
)
def test_commands_do_what_they_say(session: Session, message: dict[str, str], said: str):
    """Each command of the page is one call of the session."""
    assert annotation_view.obey(session, message) == said


@pytest.mark.parametrize(
    "message",
    [{}, {"command": "drop"}, {"command": "grade"}, {"command": "grade", "value": "x"}, {"command": "undo"},
     {"command": "choose", "value": "a"}, {"command": "reveal"}, {"command": ["grade"]}],
)  # fmt: skip
def test_commands_that_make_no_sense_are_refused(session: Session, message: dict[str, object]):
    """Whatever a page sends, the answer is a sentence and nothing is saved."""
    with pytest.raises(JudgingError):
        annotation_view.obey(session, message)
    assert not session.file.path.exists()


def test_a_draft_is_saved_with_the_grade(session: Session):
    """A comment that was typed but not entered is not lost by grading."""
    annotation_view.obey(session, {"command": "grade", "value": "2", "comment": "typed"})
    assert session.verdict(session.items[0]).comment == "typed"


def test_a_command_of_an_older_turn_is_not_obeyed(session: Session):
    """A key pressed twice before the page was redrawn must not grade an answer that nobody saw."""
    widget = annotation_widget.AnnotationWidget(session)
    press = {"turn": 0, "command": "grade", "value": "5"}
    widget._receive(widget, press, [])
    assert (widget.view["judged"], widget.view["said"], widget.view["turn"]) == (1, "Saved: grade 5", 1)
    widget._receive(widget, press, [])
    assert (widget.view["judged"], widget.view["said"], widget.view["turn"]) == (1, "", 2)


def test_the_widget_says_what_could_not_be_done(session: Session):
    """A problem is a sentence on the page, never a traceback in the log."""
    widget = annotation_widget.AnnotationWidget(session)
    widget._receive(widget, {"turn": 0, "command": "rater", "value": "a/b"}, [])
    assert "cannot be a rater's name" in widget.view["problem"]
    assert widget.view["rater"] == "ada"


def test_without_a_widget_there_are_words(session: Session):
    """Where no widget can be shown, the state and the next step stand as text."""
    widget = annotation_widget.AnnotationWidget(session)
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"].startswith("0 of 40 answers judged as ada. ")
    assert "CSV" in data["text/plain"]


def test_the_page_inserts_text_as_text_only():
    """The script has no way to turn text into markup."""
    script = (annotation_widget.STATIC / "annotation.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|DOMParser", script)


# -- tables, rubric, folder


def test_tables_say_what_is_there_and_what_is_not(session: Session):
    """Aspects found and missing; raters and counts; nothing annotated is said."""
    found = annotation_tables.aspects(session.run, "topic-1")
    assert list(found["mentions"]) == ["all"] * 5 and list(found["words found"]) == ["sentence"] * 5
    assert annotation_tables.progress(session)["rater"][0] == annotation_tables.NOTHING
    session.grade(3)
    session.skip()
    assert annotation_tables.progress(session).to_numpy().tolist() == [["ada", 1, 1]]
    assert list(annotation_tables.rubric(session)["grade"]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("mode", ["rubric", "pairwise"])
def test_reveal_tables_come_after_the_last_verdict(tmp_path: Path, mode: str):
    """Tables name the models once everything is judged or skipped, and say so before."""
    session = Session(run_with(SMALL), tmp_path, mode=mode)
    assert "models stay hidden" in annotation_tables.revealed(session).to_csv()
    while session.item:
        session.skip()
    assert "x · int4 · cpu" in annotation_tables.models(session).to_csv()
    assert set(annotation_tables.revealed(session)["verdict"]) == {"skipped"}


def test_verdicts_lie_beside_the_output_or_where_all_runs_find_them(tmp_path: Path):
    """The same answer in the next run keeps its grade, because raters' files belong to no run."""
    assert annotation.folder() == places.runs_folder() / "annotations"
    assert annotation.folder(str(tmp_path)) == tmp_path.resolve() / "annotations"


def test_the_version_names_rubric_and_prompts():
    """Shipped prompts, any of them, have the version of their file; others a hash of what they say."""
    shipped = data.read_prompts()
    assert rubric.version_for(shipped) == rubric.version_for(shipped[:2])
    assert rubric.version_for(shipped) == f"1+{data.read_prompt_file().version}"
    changed = (Prompt("p", "a"), Prompt("p", "b"))
    versions = {rubric.version_for([each]) for each in changed}
    assert len(versions) == 2 and all(re.fullmatch(r"1\+[0-9a-f]{12}", each) for each in versions)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema"),
        ({"grades": []}, "not 1 to 5"),
        ({"grades": [{"grade": n, "name": "x", "meaning": "two\nlines"} for n in (1, 2, 3, 4, 5)]}, "Write one line"),
    ],
)
def test_a_faulty_rubric_is_refused(tmp_path: Path, change: dict[str, object], said: str):
    """Five grades, one line each."""
    content = json.loads(rubric.RUBRIC_FILE.read_text("utf-8"))
    path = tmp_path / "rubric.json"
    path.write_text(json.dumps({**content, **change}), encoding="utf-8")
    with pytest.raises(DataFileError, match=said):
        rubric.read_rubric(path)


# -- any sequence of commands, with a new start at any moment


class Judging(RuleBasedStateMachine):
    """The session against a list in memory: what was acknowledged, in order."""

    @initialize(folder=st.builds(lambda: None))
    def start(self, folder: None) -> None:
        import tempfile

        self.keep = tempfile.TemporaryDirectory()
        self.run_ = run_with({"one": {"x": "1", "y": "2"}, "two": {"x": "3", "y": "4"}})
        self.session = Session(self.run_, Path(self.keep.name), rater="ada")
        self.done: list[tuple[tuple[str, ...], int | None]] = []

    def teardown(self) -> None:
        if hasattr(self, "keep"):
            self.keep.cleanup()

    def _record(self, grade: int | None) -> None:
        item = self.session.item
        if item is not None:
            self.session.skip() if grade is None else self.session.grade(grade)
            self.done.append((item.key(self.session.version), grade))

    @rule(grade=st.sampled_from([1, 2, 3, 4, 5, None]))
    def judge(self, grade: int | None) -> None:
        self._record(grade)

    @rule()
    def undo(self) -> None:
        if self.done:
            self.session.undo()
            key, _ = self.done.pop()
            assert self.session.item.key(self.session.version) == key

    @rule(way=st.sampled_from(["next", "previous", "to_skipped"]))
    def move(self, way: str) -> None:
        getattr(self.session, way)()

    @rule(torn=st.binary(max_size=20).filter(lambda torn: b"\n" not in torn))
    def crash_and_start_again(self, torn: bytes) -> None:
        if self.session.file.path.exists():
            with self.session.file.path.open("ab") as file:
                file.write(torn)
        self.session = Session(self.run_, Path(self.keep.name), rater="ada")

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "session"):
            expected = dict(self.done)
            seen = {score_files.key_of(each): each.grade for each in self.session.verdicts}
            assert seen == expected
            assert self.session.judged == sum(grade is not None for grade in expected.values())


TestJudging = Judging.TestCase
TestJudging.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_model_that_was_not_served_is_no_author(tmp_path: Path):
    """Names come from the servings of the run."""
    run = run_of([answer("p", "ghost", "boo")], servings=(Serving(variant("seen")),))
    assert Session(run, tmp_path).total == 0
