"""Text for people: what others wrote made harmless for where it goes, numbers rounded, models named.

HTML is escaped by `table` and by jinja2.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from workshop_lib.records import Key, ModelVariant, Row, Run, key

NOT_MEASURED = "not measured"
UNKNOWN = "unknown"
NAME_LETTERS = 44
"""Longer names would leave no room for a chart."""

TRAINED, TRAINED_MEANS = " †", "† trained on these prompts"
"""The mark of a model that was trained on the prompts it is asked."""
MACHINE_FACTS = {
    "cpu": "{}", "physical_cores": "{} cores", "usable_processors": "{} processors to use",
    "memory_mb": "{} MB of memory", "gpu": "GPU {}", "os": "{}",
}  # fmt: skip
"""Facts of the fingerprint that a reader asks for; none of them names a person or a place."""

HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but not line end and tab
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # reversed reading direction
    r"\ud800-\udfff]"  # half of a character
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
MARKDOWN_ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")
AUTOLINKS = re.compile(r"://|www\.|@", re.IGNORECASE)
SIGN_FIRST = re.compile(r"^(\s*)([-+=])", re.MULTILINE)
NUMBER_FIRST = re.compile(r"^(\s*\d+)([.)])(?=\s)", re.MULTILINE)


def number(value: float) -> str:
    """Write a number with two or three figures; a count as it is.

    >>> [number(value) for value in (7, 0.1234, 9.876, 54.32, 987.6, 12345.6)]
    ['7', '0.12', '9.9', '54', '988', '12,346']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return NOT_MEASURED
    decimals = 2 if abs(value) < 1 else 1 if abs(value) < 10 else 0
    return f"{value:,.{decimals}f}"


def seconds(value: float) -> str:
    """Write seconds with two figures, or whole ones.

    >>> [seconds(value) for value in (0.00456, 3.77, 65.4, 1234.5)]
    ['0.0046 s', '3.8 s', '65 s', '1,234 s']
    """
    return f"{value:,.0f} s" if value >= 10 else f"{value:.2g} s"


def asked(rows: Iterable[Row]) -> list[Row]:
    """Without the rows that were skipped, unless there is no other: `left_out` and the highlights name those."""
    every = list(rows)
    return [row for row in every if row.status != "skipped"] or every


def names(items: Collection[Row | ModelVariant]) -> dict[Key, str]:
    """Name each `alias · precision · device`, else by its model id; `†` means trained on its prompts."""
    trained = {key(each) for each in items if getattr(each, "trained_on_prompts", None)}
    short = {key(each): " · ".join(filter(None, (each.alias, each.precision, each.device))) for each in items}
    taken = list(short.values())
    return {
        unique: one_line(name if taken.count(name) == 1 else " · ".join(unique), NAME_LETTERS - len(TRAINED))
        + TRAINED * (unique in trained)
        for unique, name in short.items()
    }


def machine_facts(machine: Mapping[str, Any]) -> str:
    """What a fingerprint says of a machine, as readers ask for it: `AMD EPYC, 1 core, 8000 MB of memory`."""
    said = (text.format(machine[fact]) for fact, text in MACHINE_FACTS.items() if machine.get(fact))
    return ", ".join(re.sub(r"^1 (core|processor)s", r"1 \1", each) for each in said)


def machine_line(run: Run) -> str:
    """What measured, in one line: the machine, and how many threads each model's folder sets, the odd ones by name."""
    facts = machine_facts(run.machine)
    free = "the server's choice" if run.profile == "endpoint" else "the runtime's choice"
    groups: dict[str, dict[str, None]] = {}
    for serving in run.servings if "usable_processors" in run.machine else ():  # older runs do not know
        if serving.status == "ok":
            model = one_line(serving.variant.model_id.removesuffix(":1"), NAME_LETTERS)
            groups.setdefault(str(serving.threads or free), {})[model] = None
    *odd, most = sorted(groups, key=lambda threads: len(groups[threads])) or [""]
    said = [f"{threads} ({', '.join(groups[threads])})" for threads in odd]
    said += [f"{most} (the others)" if odd else most]
    return "; threads: ".join([facts or UNKNOWN, *([", ".join(said)] if most else [])])


def printable(text: str) -> str:
    r"""Replace what no reader sees by `�`: control, direction and lone surrogate characters.

    Line ends and tabs stay.

    >>> printable("safe\x1b[31m text\n")
    'safe�[31m text\n'
    """
    return HIDDEN.sub("�", text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 200) -> str:
    r"""Return text as one visible line of at most `limit` characters, `…` where it was cut.

    >>> one_line("first line\nsecond line", 16)
    'first line seco…'
    """
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def markdown(text: str) -> str:
    r"""Escape text so that Markdown shows it as it is: no tags, tables, links or formatting.

    >>> markdown("a|b <script> 1*2")
    'a\\|b \\<script\\> 1\\*2'
    """
    escaped = MARKDOWN_ACTIVE.sub(r"\\\1", printable(text))
    escaped = AUTOLINKS.sub(lambda match: f"&#{ord(match[0][0])};{match[0][1:]}", escaped)
    return NUMBER_FIRST.sub(r"\1\\\2", SIGN_FIRST.sub(r"\1\\\2", escaped))


def csv_cell(text: str) -> str:
    """Prefix text that a spreadsheet would run as a formula with an apostrophe; quoting twice can be undone twice.

    >>> csv_cell("=cmd()"), csv_cell("'tis"), csv_cell("'=cmd()")
    ("'=cmd()", "'tis", "''=cmd()")
    """
    visible = printable(text)
    return f"'{visible}" if visible.lstrip("' ").startswith(FORMULA_STARTS) else visible


def without_places(text: str, places: Mapping[Path, str]) -> str:
    """Replace folders of this machine by names, so that an error tells nobody where and who its reader is.

    Args:
        text: anything that may hold paths, also with links followed, and with either kind of slash, doubled as in JSON.
        places: folder → name, e.g. `{Path.home(): "~"}`; the longest folder wins, a root is left alone.

    >>> without_places("no room in /home/ada/models", {Path("/home/ada"): "~"})
    'no room in ~/models'
    """
    known: dict[str, str] = {}
    for place, name in places.items():
        for folder in (place.absolute(), place.resolve()):
            if folder != folder.parent:
                known |= dict.fromkeys((str(folder), folder.as_posix(), str(folder).replace("\\", "\\\\")), name)
    for written in sorted(known, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(written)}(?![\w-])"
        text = re.sub(pattern, lambda _, name=known[written]: name, text, flags=re.IGNORECASE if os.name == "nt" else 0)
    return text


def without_home(text: str) -> str:
    """Replace the reader's own folder by `~`, as `without_places` does."""
    return without_places(text, {Path(os.path.expanduser("~")): "~"})  # noqa: PTH111 - Path.home() raises without a home
