"""Meeting notes and questions about them.

A meeting is drawn first (people, tasks, dates, decisions); its notes and the answers to questions
about them are two ways of writing it down, so every expected name and date is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from corpus import Sample, load_json, numbered
from names import Vocabulary, fill_in, random_date

if TYPE_CHECKING:
    import random

Task = tuple[str, str, tuple[str, ...]]
"""The kind of request, the answer, and the facts that the answer must contain."""

Kinds = Literal["summary", "question", "mixed"]


@dataclass(frozen=True, slots=True)
class Action:
    """One task of a meeting: who does what until when."""

    person: str
    task: str
    due: str


@dataclass(frozen=True, slots=True)
class Meeting:
    """Title, decisions, tasks, remarks and next date; title and date may be empty."""

    decisions: tuple[str, ...]
    actions: tuple[Action, ...]
    remarks: tuple[str, ...]
    next_date: str
    title: str


def draw_meeting(rng: random.Random, vocabulary: Vocabulary) -> Meeting:
    """Draw a meeting with one or two decisions and one to three tasks for different people."""
    data = load_json("meetings")
    people: list[str] = []
    count = rng.choice([1, 2, 2, 2, 3, 3, 4])
    while len(people) < count:
        if (name := vocabulary.name(rng)) not in people:
            people.append(name)
    actions = tuple(
        Action(person, f"{rng.choice(data['verbs'])} {vocabulary.thing(rng)}", random_date(rng)) for person in people
    )
    patterns = rng.sample(data["decisions"], rng.choice([1, 1, 1, 2]))
    remarks = rng.sample(data["remarks"], rng.choice([0, 1, 1, 2, 2, 3, 4]))
    return Meeting(
        tuple(fill_in(rng, pattern, vocabulary) for pattern in patterns),
        actions,
        tuple(fill_in(rng, pattern, vocabulary) for pattern in remarks),
        random_date(rng) if rng.random() < 0.35 else "",
        fill_in(rng, rng.choice(data["titles"]), vocabulary) if rng.random() < 0.3 else "",
    )


def write_notes(rng: random.Random, meeting: Meeting) -> str:
    """Write the meeting down as bullets, lines or running text, in one of many styles."""
    decide = rng.choice(
        ["Decision: {d}.", "We decided to {d}.", "The team decided to {d}.", "Agreed to {d}.",
         "It was agreed to {d}.", "The group agreed to {d}.", "Decided: {d}."]
    )  # fmt: skip
    act = rng.choice(
        ["{p} will {t} by {w}.", "{p} will {t} by {w}.", "{p}: {t} by {w}.", "{p} to {t} by {w}.",
         "Action: {p} will {t} by {w}.", "{p} to {t}, due {w}.", "{p} promised to {t} by {w}.",
         "Action for {p}: {t} by {w}."]
    )  # fmt: skip
    decided = [decide.format(d=decision) for decision in meeting.decisions]
    tasks = [act.format(p=a.person, t=a.task, w=a.due) for a in meeting.actions]
    lines = tasks + decided if rng.random() < 0.15 else decided + tasks
    for remark in meeting.remarks:
        lines.insert(rng.randrange(len(lines) + 1), remark)
    if rng.random() < 0.2:
        lines.insert(0, f"Present: {', '.join(action.person for action in meeting.actions)}.")
    if meeting.title:
        lines.insert(0, meeting.title)
    if meeting.next_date:
        lines.append(rng.choice(["Next meeting: {}.", "We meet again on {}."]).format(meeting.next_date))
    bullets = "\n".join(f"- {line}" for line in lines)
    return rng.choice([bullets, "\n".join(lines), " ".join(lines), " ".join(lines)])


def join_clauses(clauses: list[str]) -> str:
    """Clauses as one sentence part.

    >>> join_clauses(["A runs", "B waits", "C sleeps"])
    'A runs, B waits, and C sleeps'
    """
    if len(clauses) < 3:
        return ", and ".join(clauses)
    return ", ".join(clauses[:-1]) + f", and {clauses[-1]}"


def in_question(rng: random.Random, request: str, notes: str) -> str:
    """Place the notes after the request (usually) or before it."""
    label = rng.choice(["Notes: ", "Notes: ", "Notes:\n", "Meeting notes:\n", "Meeting notes: ", ""])
    if rng.random() < 0.15:
        return f"{label or 'Notes: '}{notes}\n\n{request}"
    return f"{request}{rng.choice([chr(10), chr(10) * 2])}{label}{notes}"


def summary_tasks(meeting: Meeting) -> list[Task]:
    """Tasks about the whole meeting: a summary in prose, and the list of tasks."""
    clauses = [f"{a.person} will {a.task} by {a.due}" for a in meeting.actions]
    decided = "The team decided to " + " and to ".join(meeting.decisions)
    action_facts = tuple(f for a in meeting.actions for f in (a.person, a.task, a.due))
    prose = f"{decided}. {join_clauses(clauses)}."
    return [
        ("summary", prose, meeting.decisions + action_facts),
        ("summary", prose, meeting.decisions + action_facts),
        ("actions", numbered([f"{clause}." for clause in clauses]), action_facts),
    ]


def question_tasks(meeting: Meeting, action: Action) -> list[Task]:
    """Tasks about one detail: the decisions, an owner, a date, a person, the next meeting."""
    decided = "The team decided to " + " and to ".join(meeting.decisions)
    will = f"{action.person} will {action.task} by {action.due}."
    facts = (action.person, action.task, action.due)
    tasks: list[Task] = [
        ("decisions", f"{decided}. The notes record no other decision.", meeting.decisions),
        ("owner", f"{will} The notes name nobody else for it.", facts),
        ("due", f"It is due by {action.due}. {action.person} will {action.task} by then.", facts),
        ("person", f"{will} The notes give {action.person} no other task.", facts),
    ]
    if meeting.next_date:
        planned = f"The next meeting is planned for {meeting.next_date}."
        answer = f"{planned} The notes give no other date for it."
        tasks.append(("next", answer, (meeting.next_date,)))
    return tasks


def ask(rng: random.Random, meeting: Meeting, kinds: Kinds) -> Task:
    """One request about a meeting, worded in one of the known ways, with answer and facts."""
    action = rng.choice(meeting.actions)
    if kinds == "mixed":
        kinds = rng.choices(("summary", "question"), (6, 5))[0]
    tasks = summary_tasks(meeting) if kinds == "summary" else question_tasks(meeting, action)
    name, answer, facts = rng.choice(tasks)
    request = rng.choice(load_json("meetings")["requests"][name])
    request = request.replace("{person}", action.person).replace("{task}", action.task)
    return request.replace("{object}", action.task.split(" ", 1)[1]), answer, facts


def meeting_question(rng: random.Random, vocabulary: Vocabulary, kinds: Kinds = "mixed", follow_ups: int = 0) -> Sample:
    """A request about fresh notes, with ``follow_ups`` further requests in the same chat."""
    meeting = draw_meeting(rng, vocabulary)
    request, answer, facts = ask(rng, meeting, kinds)
    later = tuple(ask(rng, meeting, "mixed")[:2] for _ in range(follow_ups))
    question = in_question(rng, request, write_notes(rng, meeting))
    return Sample("meeting", question, answer, facts, later=later)
