"""All answers through a judge, one by one: progress, each verdict handed over as it comes, going on where it stopped.

Whether a judge may see its own answers is settled before anything is asked. Knows judges, and the folder of the raters'
files if it is told one. Knows no tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from workshop_lib import summary
from workshop_lib.errors import ConfigurationError
from workshop_lib.people.judge import FAILED, Judge
from workshop_lib.records import Run
from workshop_lib.verdicts.answers import Candidate
from workshop_lib.verdicts.score_files import ScoreFile, Verdict
from workshop_lib.verdicts.scores import Preference, Score

T = TypeVar("T")
V = TypeVar("V", Score, Preference)


def judge_name(run: Run, *, model: str = "", endpoint: str = "") -> str:
    """Which model to ask: the one named, any of another endpoint, else the last one that answered in this run."""
    if model or endpoint:
        return model or "auto"
    answered = [row.model_id for row in summary.summarise(run) if row.status == "ok"]
    return answered[-1] if answered else "auto"


def keep_in(folder: Path) -> Callable[[Verdict], None]:
    """What to hand verdicts to, so that each is on the disk, in its rater's file, before the next question."""
    return lambda verdict: ScoreFile(folder, verdict.rater).add(verdict)


def grade_all(
    judge: Judge,
    found: Iterable[Candidate],
    on_score: Callable[[Score], None],
    *,
    known: Iterable[Score] = (),
    show_progress: bool = True,
) -> list[Score]:
    """Grade answers one by one; each score goes to `on_score` before the next answer is asked about.

    What `known` holds of this judge under this rubric, readable or not, is not asked again: at temperature 0 the
    same question has the same reply. A failed request is. Raises as `Judge.grade`.
    """
    done = {(each.rater, each.prompt_id, each.answer_sha256, each.rubric_version) for each in known if _has_reply(each)}
    wanted = _askable(judge, [(each,) for each in found])
    version = judge.settings.rubric_version
    open_ones = [each for (each,) in wanted if (judge.rater_for(each), *each.key, version) not in done]
    return _through(open_ones, judge.grade, on_score, show_progress=show_progress)


def compare_all(
    judge: Judge,
    found: Iterable[Candidate],
    on_preference: Callable[[Preference], None],
    *,
    known: Iterable[Preference] = (),
    at_most: int | None = None,
    show_progress: bool = True,
) -> list[Preference]:
    """Compare all answers to the same prompt, each two in both orders; otherwise as `grade_all`.

    `at_most` takes the first so many pairs of those that may be asked, two requests each; None takes all.
    """
    by_prompt: dict[str, list[Candidate]] = {}
    for each in found:
        by_prompt.setdefault(each.prompt.id, []).append(each)
    both = [pair for group in by_prompt.values() for pair in combinations(group, 2)]
    done = {
        (each.rater, each.prompt_id, each.a_sha256, each.b_sha256, each.rubric_version)
        for each in known
        if _has_reply(each)
    }
    version = judge.settings.rubric_version
    ordered = [order for one, other in _askable(judge, both)[:at_most] for order in ((one, other), (other, one))]
    open_ones = [
        (one, other)
        for one, other in ordered
        if (judge.rater_for(one, other), *one.key, other.answer.sha256, version) not in done
    ]
    return _through(open_ones, lambda pair: judge.prefer(*pair), on_preference, show_progress=show_progress)


def _has_reply(verdict: Verdict) -> bool:
    return not verdict.comment.startswith(FAILED)


def _through(
    wanted: Sequence[T], ask: Callable[[T], V], hand_over: Callable[[V], None], *, show_progress: bool
) -> list[V]:
    from tqdm.auto import tqdm

    verdicts = []
    for each in tqdm(wanted, desc="Judge", unit="verdict", disable=not show_progress):
        verdict = ask(each)
        hand_over(verdict)
        verdicts.append(verdict)
    return verdicts


def _askable(judge: Judge, groups: Iterable[tuple[Candidate, ...]]) -> list[tuple[Candidate, ...]]:
    """Without what the judge wrote, where that is to be left out; refused before anything is asked."""
    groups = list(groups)
    if judge.settings.own_answers == "label":
        return groups
    own = [group for group in groups if any(map(judge.wrote, group))]
    if own and judge.settings.own_answers == "refuse":
        raise ConfigurationError(
            f"{judge.variant.model_id} wrote part of {len(own)} of the {len(groups)} things to judge.",
            "Take another model as judge, or set own_answers to 'leave out' or 'label'.",
        )
    return [group for group in groups if group not in own]
