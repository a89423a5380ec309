"""Speed and quality side by side, the front, the figure, prompt sets of one's own, and reference grades."""

from __future__ import annotations

import doctest
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report_helpers import HOSTILE, run_of_models
from workshop_lib import catalog, places
from workshop_lib.choice import decide
from workshop_lib.errors import ConfigurationError, DataFileError
from workshop_lib.metrics import resampling
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Run, Serving
from workshop_lib.showing import charting, quality_charts, quality_tables
from workshop_lib.verdicts import agreement, answers, prompt_sets, quality, ranking, reference_scores, reliability
from workshop_lib.verdicts.scores import Answer, Preference, Score

MODELS = {"fast": 0.010, "middle": 0.020, "slow": 0.040}
PROMPTS = tuple(Prompt(f"p{place}", f"Question {place}?", aspects=("local", "private")) for place in range(5))
SAID = {"fast": "It is local", "middle": "It is something else", "slow": "It is local and private"}
WHEN = "2026-11-20T12:00:00+00:00"


def made_run(said: dict[str, str] = SAID, prompts: tuple[Prompt, ...] = PROMPTS, rounds: int = 2) -> Run:
    """Three models; a prompt's latency is the model's own, plus 1 ms per place of the prompt; every text differs."""
    variants = {name: ModelVariant(name, f"{name}:1", "cpu", precision="int4") for name in said}
    completions = [
        Completion(
            request_id=f"{name}/{prompt.id}/{turn}",
            alias=name,
            model_id=f"{name}:1",
            device="cpu",
            prompt_id=prompt.id,
            round=turn,
            started_at=WHEN,
            chunks=(Chunk(MODELS[name] + 0.001 * place, "content", f"{text}, {prompt.id}."),),
            finish_reason="stop",
        )
        for turn in range(rounds + 1)
        for place, prompt in enumerate(prompts)
        for name, text in said.items()
    ]
    served = tuple(Serving(variant) for variant in variants.values())
    return Run("r", WHEN, "practice", {}, {"rounds": rounds}, prompts, served, tuple(completions))


def grade(run: Run, model: str, grades: list[int | None], rater: str = "ada", version: str = "1") -> list[Score]:
    """One grade per prompt for a model's answers."""
    mine = [each for each in answers.candidates(run) if any(author.alias == model for author in each.authors)]
    return [Score(rater, *each.key, given_, version, WHEN) for each, given_ in zip(mine, grades, strict=False)]


def by_alias(standing: quality.Standing) -> dict[str, quality.ModelQuality]:
    return {each.row.alias: each for each in standing.models}


def test_aspects_and_latency_by_hand() -> None:
    """The fast one mentions half of the aspects in 12 ms, the slow one all in 42 ms, the middle one none."""
    standing = quality.weigh(made_run())
    found = by_alias(standing)
    assert standing.measure == "aspects"
    assert {name: each.quality["aspects"].value for name, each in found.items()} == {
        "fast": 0.5,
        "middle": 0,
        "slow": 1,
    }
    assert found["fast"].latency_s.value == pytest.approx(0.012)
    assert found["slow"].latency_s.value == pytest.approx(0.042)
    assert {name: each.on_front for name, each in found.items()} == {"fast": True, "middle": False, "slow": True}
    assert {name: each.front_share for name, each in found.items()} == {"fast": 1, "middle": 0, "slow": 1}
    assert found["fast"].latency_s.low == pytest.approx(0.010)
    assert found["fast"].latency_s.high == pytest.approx(0.014)


def test_people_decide_where_they_are_asked_to() -> None:
    """Mean grade over prompts of the mean over raters: (4 + 2) / 2, 3, 5, and nothing for the last two."""
    run = made_run()
    scores = grade(run, "fast", [4, 3, 5]) + grade(run, "fast", [2], "ben") + grade(run, "slow", [3, 3, 3])
    standing = quality.weigh(run, scores, measure="people")
    found = by_alias(standing)
    assert standing.measure == "people"
    assert found["fast"].quality["people"].value == pytest.approx((3 + 3 + 5) / 3)
    assert found["fast"].quality["people"].n == 3
    assert found["middle"].quality["people"].value is None
    assert (found["middle"].on_front, found["middle"].front_share) == (False, None)
    assert found["slow"].on_front is False
    assert standing.remarks == ("Models were judged on 0 to 3 prompts: their figures rest on different questions.",)


def test_a_few_grades_do_not_put_out_models_that_nobody_has_graded_yet() -> None:
    """People decide once they graded every model on 3 prompts; until then the next measure does, and it is said."""
    run = made_run()
    scores = grade(run, "fast", [4, 3, 5]) + grade(run, "slow", [3, 3, 3]) + grade(run, "middle", [3, 3])
    standing = quality.weigh(run, scores)
    assert standing.measure == "aspects"
    said = "Grades by people do not cover every model on 3 prompts yet: they are not used here."
    assert standing.remarks[0] == said
    assert decide.gather(run, scores).remarks[0] == said
    enough = quality.weigh(run, [*scores, *grade(run, "middle", [3, 3, 3])[2:]])
    assert enough.measure == "people"
    assert said not in enough.remarks


def test_a_judge_decides_only_where_it_is_named() -> None:
    """Grades of judges are shown beside the rest; those of its own answers apart; asking for none there is an error."""
    run = made_run()
    scores = grade(run, "middle", [5] * 5, "judge:j") + grade(run, "middle", [1] * 5, "judge:middle:1+own")
    standing = quality.weigh(run, scores)
    assert standing.measure == "aspects"
    middle = by_alias(standing)["middle"].quality
    assert (middle["judge"].value, middle["own"].value) == (5, 1)
    assert by_alias(quality.weigh(run, scores, measure="judge"))["middle"].on_front
    with pytest.raises(ConfigurationError, match="by 'people'"):
        quality.weigh(run, scores, measure="people")


def test_only_the_rubric_of_the_latest_score_counts() -> None:
    """Grades under another rubric are left out, and that is said."""
    run = made_run()
    old = [replace(score, scored_at="2025-01-01") for score in grade(run, "slow", [1] * 5, version="0")]
    standing = quality.weigh(run, old + grade(run, "slow", [5] * 5))
    assert by_alias(standing)["slow"].quality["people"].value == 5
    assert standing.remarks[0] == "5 scores under another rubric than 1 are left out."


def test_saying_what_is_forbidden_counts_as_nothing_mentioned() -> None:
    """As a rater, the aspect check gives 1 + 4 x share, and 1 for what must not be said."""
    prompts = (
        Prompt("p0", "?", aspects=("local", "private"), forbidden=("cloud",)),
        Prompt("p1", "?", aspects=("local", "private", "fast")),
        Prompt("p2", "?"),
        Prompt("p3", "?", aspects=("it",), forbidden=("cloud",)),
    )
    run = made_run({"fast": "It is local"}, prompts)
    bad = made_run({"fast": "It is in the cloud"}, prompts)
    scored = quality.aspect_scores(answers.candidates(run), rubric_version="1", scored_at=WHEN)
    assert [(score.rater, score.grade, score.comment) for score in scored] == [
        ("aspects", 3, "missing: private"),
        ("aspects", 2, "missing: private, fast"),
        ("aspects", None, ""),
        ("aspects", 5, ""),
    ]
    scored = quality.aspect_scores(answers.candidates(bad), rubric_version="1", scored_at=WHEN)
    assert [each.grade for each in scored] == [1, 1, None, 1]
    assert by_alias(quality.weigh(bad))["fast"].quality["aspects"].value == 0


FRONTS = [
    ([(1, 1)], [True]),
    ([(1, 1), (2, 2)], [True, True]),
    ([(1, 2), (2, 1)], [True, False]),
    ([(1, 1), (1, 1)], [True, True]),
    ([(1, 2), (1, 1), (2, 2)], [True, False, False]),
    ([(1, math.nan), (2, 1)], [False, True]),
    ([], []),
]


@pytest.mark.parametrize(("points", "expected"), FRONTS)
def test_the_front_by_hand(points: list[tuple[float, float]], expected: list[bool]) -> None:
    """Beaten means: another is at least as fast and as good, and better in one; equals do not beat each other."""
    assert list(quality.front(points)) == expected


POINT = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(st.lists(POINT, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_front_knows_no_order_and_is_never_empty(points: list[tuple[int, int]], shuffle) -> None:
    """The fastest of the best is never beaten, and shuffling models moves their marks along."""
    found = quality.front(points)
    assert found[points.index(max(points, key=lambda point: (point[1], -point[0])))]
    order = list(range(len(points)))
    shuffle.shuffle(order)
    assert list(quality.front([points[place] for place in order])) == [found[place] for place in order]


def test_an_interval_needs_prompts() -> None:
    """Two prompts give a figure and the reason why it has no interval; the same seed gives the same interval."""
    two = by_alias(quality.weigh(made_run(prompts=PROMPTS[:2])))["fast"].latency_s
    assert (two.low, two.high, two.reason) == (None, None, "2 prompts are too few for an interval.")
    assert quality.weigh(made_run()) == quality.weigh(made_run())
    assert resampling.interval([math.nan] * 6 + [1.0] * 4) is None
    assert resampling.estimate(1.0, 5, [math.nan]).reason == "Most draws leave it undefined."


def test_a_run_without_aspects_and_scores_has_speed_only() -> None:
    """Nothing scored is no front and no share, and table and figure still come."""
    standing = quality.weigh(run_of_models(3, failed=1))
    assert [(each.on_front, each.front_share, each.quality) for each in standing.models] == [(False, None, {})] * 2
    assert list(quality_tables.speed_and_quality(standing)["beaten on both"]) == ["unknown"] * 2
    assert "none" in charting.alt_text(quality_charts.speed_against_quality(standing))


def test_the_table_gives_every_figure_with_its_interval() -> None:
    """Fastest first; milliseconds, per cent, grades; words where something is missing."""
    run = made_run()
    table = quality_tables.speed_and_quality(quality.weigh(run, grade(run, "slow", [5, 4]), measure="people"))
    assert list(table["model"]) == ["fast", "middle", "slow"]
    assert table["latency (ms)"][0] == "12.0 (10.0 to 14.0)"
    assert table["aspects (%)"][0] == "50 (50 to 50)"
    assert list(table["people (1-5)"]) == ["not scored", "not scored", "4.5 (no interval)"]
    assert list(table["not beaten in"]) == ["unknown"] * 3
    assert list(table["beaten on both"]) == ["unknown", "unknown", "no"]
    shares = list(quality_tables.speed_and_quality(quality.weigh(run))["not beaten in"])
    assert shares == ["100% of draws", "0% of draws", "100% of draws"]


def test_tables_of_agreement_and_strength_say_why_something_is_missing() -> None:
    """An undefined coefficient has its reason in the table; rankings give wins and how often a model is the best."""
    one = agreement.krippendorff_alpha({"ada": {("p", "a", "1"): 3}})
    assert list(quality_tables.agreements([one]).loc[0]) == [
        "ada", "Krippendorff's alpha", "undefined", "none", 0, "Only one rater (ada): nobody to agree with.",
    ]  # fmt: skip
    texts = {name: Answer("p", name).sha256 for name in ("x", "y")}
    seen = [Preference("ada", "p", texts["x"], texts["y"], "a", "1", WHEN)]
    found = ranking.rank(seen, {("p", sha): [name] for name, sha in texts.items()})
    table = quality_tables.strengths(found)
    assert list(table["model"]) == ["x", "y"] and list(table["is the best"]) == ["unknown"] * 2
    assert quality_tables.strengths(ranking.rank([], {})).empty


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("measure", ["aspects", "people"])
def test_the_figure_says_in_words_what_it_shows(theme, measure: str) -> None:
    """Alt text names models on and behind the front with both figures; the picture is a PNG."""
    run = made_run()
    scores = grade(run, "fast", [2] * 5) + grade(run, "slow", [4] * 5) + grade(run, "middle", [2] * 5)
    figure = quality_charts.speed_against_quality(quality.weigh(run, scores, measure=measure), theme=theme)
    alt = charting.alt_text(figure)
    assert "Beaten by none on both: fast · int4 · cpu 12 ms" in alt
    assert "Beaten on both: middle · int4 · cpu 22 ms" in alt
    assert charting.png(figure).startswith(b"\x89PNG")


def test_hostile_names_are_harmless_in_table_and_figure() -> None:
    """Control and direction characters of a model's name are not passed on."""
    run = made_run()
    served = tuple(Serving(replace(each.variant, alias=HOSTILE)) for each in run.servings)
    standing = quality.weigh(replace(run, servings=served))
    shown = quality_tables.speed_and_quality(standing)["model"][0]
    alt = charting.alt_text(quality_charts.speed_against_quality(standing))
    assert not set("\x1b\u202e\ud800") & set(shown + alt)
    assert "<script>" not in quality_tables.speed_and_quality(standing)._repr_html_()


# -- prompt sets


MINE = (Prompt("greeting", "Write a greeting.", aspects=("hello|hi",), reference="Hello!"), Prompt("plain", "Why?"))


def test_a_set_of_ones_own_is_read_back_as_it_was(tmp_path: Path) -> None:
    """A new file, and a second set beside the first; every field survives, and so does the hash."""
    file = tmp_path / "my_prompts.json"
    prompt_sets.add_prompt_set(file, "mine", MINE, version="2027-01")
    prompt_sets.add_prompt_set(file, "more", [Prompt("other", "Zo\u00eb?")], version="2027-02")
    assert catalog.read_prompts(file, "mine") == MINE
    assert catalog.read_prompts(file, "more") == (Prompt("other", "Zo\u00eb?"),)
    assert catalog.read_prompt_file(file).version == "2027-02"
    read_back = catalog.read_prompts(file, "mine")
    assert prompt_sets.prompt_set_hash(read_back) == prompt_sets.prompt_set_hash(MINE)
    assert [path.name for path in tmp_path.iterdir()] == ["my_prompts.json"]


REFUSED = [
    ("mine", [Prompt("x", "?")], "v", "exists already"),
    ("new", [], "v", "holds no prompt"),
    ("new", [Prompt("x", "  ")], "v", "is empty"),
    ("new", [Prompt("x", "?", aspects=("a|",))], "v", "holds 'a|'"),
    ("new", [Prompt("greeting", "?")], "v", "'greeting' twice"),
    ("new", [Prompt("../x", "?")], "v", "is '../x'"),
    ("n/w", [Prompt("x", "?")], "v", "is 'n/w'"),
    ("new", [Prompt("x", "?")], " ", "is empty"),
]


@pytest.mark.parametrize(("name", "prompts", "version", "what"), REFUSED)
def test_a_faulty_set_is_refused_and_changes_nothing(
    tmp_path: Path, name: str, prompts: list[Prompt], version: str, what: str
) -> None:
    """The error names the file and the fault; the file stays as it was."""
    file = tmp_path / "my_prompts.json"
    prompt_sets.add_prompt_set(file, "mine", MINE, version="1")
    before = file.read_bytes()
    with pytest.raises(DataFileError, match=r"my_prompts\.json") as error:
        prompt_sets.add_prompt_set(file, name, prompts, version=version)
    assert what in str(error.value)
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_shipped_prompts_are_not_written_to() -> None:
    """One's own prompts go to a file of one's own."""
    with pytest.raises(DataFileError, match="shipped"):
        prompt_sets.add_prompt_set(catalog.PROMPTS_FILE, "mine", MINE, version="1")


def test_an_unwritable_place_is_an_error_in_words(tmp_path: Path) -> None:
    """A folder that does not exist is named."""
    with pytest.raises(DataFileError, match=r"x\.json is in a folder that does not exist"):
        prompt_sets.add_prompt_set(tmp_path / "none" / "x.json", "mine", MINE, version="1")


@given(st.permutations(PROMPTS))
def test_the_hash_of_a_set_knows_no_order_but_every_field(shuffled: list[Prompt]) -> None:
    """Any order has the same hash; another word, aspect or id has another."""
    assert prompt_sets.prompt_set_hash(shuffled) == prompt_sets.prompt_set_hash(PROMPTS)
    for change in ({"text": "Else?"}, {"aspects": ()}, {"id": "q"}, {"reference": "r"}, {"capability": "c"}):
        changed = [replace(shuffled[0], **change), *shuffled[1:]]
        assert prompt_sets.prompt_set_hash(changed) != prompt_sets.prompt_set_hash(PROMPTS)


# -- reference grades


def reference_file(tmp_path: Path, **changes: object) -> Path:
    entry = {"prompt_id": "p0", "answer_sha256": "0" * 64, "grade": 4, "second_grade": 3, "comment": "short"}
    content = {"schema": 1, "rubric_version": "1", "read_by": "a reader", "read_at": WHEN, "method": "twice",
               "scores": [entry, {**entry, "prompt_id": "p1", "second_grade": None}]}  # fmt: skip
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_two_readings_are_two_raters(tmp_path: Path) -> None:
    """Each reading is a score of its own; a missing second grade is no score."""
    found = reference_scores.read_reference(reference_file(tmp_path))
    assert [(each.rater, each.prompt_id, each.grade) for each in found.as_scores()] == [
        ("reference:1", "p0", 4), ("reference:2", "p0", 3), ("reference:1", "p1", 4),
    ]  # fmt: skip
    assert (found.read_by, found.as_scores()[0].scored_at) == ("a reader", WHEN)


ENTRY = {"prompt_id": "p", "answer_sha256": "0" * 64, "grade": 4, "second_grade": 3}
FAULTS = [
    ({"schema": 2}, "schema"),
    ({"read_by": " "}, "read_by"),
    ({"scores": [{**ENTRY, "grade": 6}]}, "scores[0].grade"),
    ({"scores": [{**ENTRY, "second_grade": 0}]}, "scores[0].second_grade"),
    ({"scores": [{**ENTRY, "grade": "4"}]}, "scores[0].grade"),
    ({"scores": [{**ENTRY, "answer_sha256": "xyz"}]}, "scores[0].answer_sha256"),
    ({"scores": [{**ENTRY, "prompt_id": "a b"}]}, "scores[0].prompt_id"),
    ({"scores": [ENTRY, ENTRY]}, "twice"),
    ({"author": "x"}, "author"),
]


@pytest.mark.parametrize(("changes", "named"), FAULTS)
def test_a_faulty_reference_file_is_named_with_its_key(tmp_path: Path, changes: dict, named: str) -> None:
    """Every fault says where it is."""
    with pytest.raises(DataFileError) as error:
        reference_scores.read_reference(reference_file(tmp_path, **changes))
    assert named in str(error.value) and "scores.json" in str(error.value)


def test_aspects_and_judge_are_compared_with_the_reference() -> None:
    """The aspect check agrees fully with a reference that grades by aspects, a stubborn judge does not."""
    run = made_run()
    found = answers.candidates(run)
    aspects = quality.aspect_scores(found, rubric_version="1", scored_at=WHEN)
    reference = [replace(each, rater=reference_scores.FIRST) for each in aspects]
    judge = [replace(each, rater="judge:j", grade=5) for each in aspects]
    scores = [*aspects, *reference, *judge]
    against = [reference_scores.FIRST, reference_scores.SECOND]
    assert reliability.examine(scores, "aspects", against).verdict == "reliable"
    assert reliability.examine(scores, "judge:j", against).verdict == "unreliable"


def test_the_examples_in_the_documentation_hold() -> None:
    """The doctests of the modules run."""
    assert doctest.testmod(quality).failed == doctest.testmod(prompt_sets).failed == 0


def test_importing_any_of_it_loads_no_heavy_library() -> None:
    """Commands that never compute an agreement do not pay for it."""
    modules = (
        "verdicts.agreement verdicts.ranking verdicts.reliability verdicts.quality verdicts.pairs metrics.resampling "
        "people.judge people.judging verdicts.prompt_sets verdicts.reference_scores"
    )
    heavy = "{'numpy', 'scipy', 'krippendorff', 'choix', 'pandas', 'matplotlib', 'openai', 'pydantic'}"
    imports = "; ".join(f"import workshop_lib.{name}" for name in modules.split())
    code = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=places.PROJECT)
    assert seen.stdout.strip() == "[]"
