"""Does a summary state facts that its notes do not hold? A check by rules, without a model; English only.

A fact is a name, a date, a weekday, a quarter, a time, an amount with its unit, or a number. Each kind is a row of
`KINDS`: a pattern, and what a match means in one normal form, so that `14 March` and `March 14`, `six percent` and
`6 %`, or `two weeks` and `14 days` are one fact. No library: the few that read dates or numbers guess where this must
refuse, and regular expressions with a table of number words give the same verdict everywhere.

The check compares facts, not sentences: the right date beside the wrong person passes. Names are capitalised words; one
at the start of a sentence counts if what follows is what follows a name ("Amara will", "Amara, Jonas"), or if it is
capitalised elsewhere. `evaluate` in tests/test_facts.py measures how often it is right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

Match = re.Match[str]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen""".split()  # noqa: SIM905 - easier to read than twenty quoted words
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
NUMBER_WORDS = {
    **{word: float(value) for value, word in enumerate(SMALL)},
    **{word: 10.0 * value for value, word in enumerate(TENS, 2)},
    **{word: float(value) for value, word in enumerate(ORDINALS, 1)},
    "half": 0.5,
}
SCALES = {"hundred": 1e2, "dozen": 12.0, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "mn": 1e6}
SCALES |= {"billion": 1e9, "bn": 1e9}

UNITS = (
    (r"%|percent|per cent|pct|percentage points?", "%", 1.0),
    (r"(?:us ?)?\$|usd|(?:us )?dollars?", "$", 1.0),
    (r"€|eur|euros?", "€", 1.0),
    (r"£|gbp|pounds?", "£", 1.0),
    (r"¥|jpy|yen", "¥", 1.0),
    (r"chf|francs?", "chf", 1.0),
    (r"₹|inr|rupees?", "₹", 1.0),
    (r"ms|milliseconds?", "s", 0.001),
    (r"s|secs?|seconds?", "s", 1.0),
    (r"mins?|minutes?", "s", 60.0),
    (r"h|hrs?|hours?", "s", 3600.0),
    (r"days?", "s", 86400.0),
    (r"weeks?|wks?", "s", 7 * 86400.0),
    (r"fortnights?", "s", 14 * 86400.0),
    (r"(?:working|business) days?", "working day", 1.0),
    (r"months?", "month", 1.0),
    (r"years?|yrs?", "month", 12.0),
    (r"kb|kilobytes?", "byte", 1e3),
    (r"mb|megabytes?", "byte", 1e6),
    (r"gb|gigabytes?", "byte", 1e9),
    (r"tb|terabytes?", "byte", 1e12),
    (r"cm|centimet(?:re|er)s?", "m", 0.01),
    (r"m|met(?:re|er)s?", "m", 1.0),
    (r"km|kilomet(?:re|er)s?", "m", 1e3),
    (r"g|grams?", "g", 1.0),
    (r"kg|kilos?|kilograms?", "g", 1e3),
    (r"tons?|tonnes?", "g", 1e6),
    (r"lit(?:re|er)s?", "litre", 1.0),
    (r"w|watts?", "w", 1.0),
    (r"kw|kilowatts?", "w", 1e3),
    (r"kwh", "wh", 1e3),
    (r"°c?|degrees?(?: celsius)?", "°", 1.0),
    (r"x|×|times", "times", 1.0),
)
"""How a unit is written, its base unit, and how many of these it is."""

NOT_NAMES = frozenset(
    """
    a about above absent according across action additionally after afterwards agenda agreed agreement ai all also
    although am an and another any anyone api apologies app approved are as asap ask asked assign at attendance attendee
    attending author backlog based be because before below best better between blocker board book both break budget
    but by call can ceo cfo check chair changed client closed coming comment company completed concern conclusion
    confirm confirmed contact content context coo corporate cpu create cto current customer date day deadline dear
    decided decision deliverable department design developer did director discuss discussed discussion do document does
    done draft due during each early either email end engineer engineering eod especially eta even event every everybody
    everyone everything expected extra facilitator faq feedback few final finally finance finish first fix follow
    following for from further furthermore general given goal good gpu group guest had has have he head hello help her
    here hi high hire his how however hr i id if important in include including info input internal introduction invite
    is issue it item its join keep key kpi last late later launch lead leader legal less let list location long look low
    main make management manager many marketing may mean meanwhile meet meeting member mid milestone minute miss moderator
    month more moreover most mr mrs ms dr much my need neither new next no nobody none nor not note nothing now of off
    office ok on once one ongoing only open operation option or order other otherwise our out outcome outstanding over
    overall overview owner page participant pending pdf people per phase plan planned please point possible postponed
    prepare prepared present president previous priority problem product professor prof progress project promised
    proposal proposed purpose put qa question quick r&d reason recently recommendation record regarding remaining remark
    remember reminder remind report reported request resolved responsible result retrospective review reviewed risk roadmap
    role room sales same schedule scheduled secretary see send service several share she short should similarly since
    sir smart so software some someone speaker sprint staff start started status step still subject such suggested
    summarise summarize summary support sync task team tell thank that the their them then there therefore these they
    thing this those though through thus time title to today together tomorrow tonight topic total training try two
    type ui unfortunately unless until update up url use user usually ux various venue very via vp wait was we week
    weekly well were what when where whether which while who whose why with within without work workshop yes yesterday
    yet you your backend frontend deputy founder engineer analyst coordinator assistant cost revenue profit price
    cet cest gmt utc pst est tv it's internet online hardware security release bug test demo pilot website social media
    """.split()  # noqa: SIM905 - as above
)
"""Capitalised words that are no names: how sentences begin, and what headings and offices are called."""

# -- what a fact is


class Meaning(NamedTuple):
    """What a fact says in its normal form; `values` has several where it can be read in several ways, such as `2:30`.

    `numbers` are the bare numbers that may repeat it. A vague fact ("a week", "one") only supports others.
    """

    values: frozenset[Hashable]
    numbers: frozenset[float] = frozenset()
    is_vague: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact as it stands in a text, from character `start` to before `end`; `kind` is a row of `KINDS` or `name`."""

    kind: str
    text: str
    start: int
    end: int
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class FactCheck:
    """What a summary states beyond its notes, and what it leaves out; each fact once, as its text writes it.

    `places` are the characters (start, end) of the summary where unsupported facts stand, repetitions included.
    """

    unsupported: tuple[str, ...]
    missing: tuple[str, ...]
    places: tuple[tuple[int, int], ...]


def check_facts(notes: str, summary: str, expected: Sequence[str] = ()) -> FactCheck:
    """Compare the facts of a summary with those of its notes.

    Args:
        notes: whatever the summary may draw on; of a prompt its whole text, so that numbers in the request are allowed.
        summary: the text to check.
        expected: phrases, such as the aspects of a prompt, `|` between alternatives; where given, only facts in them
            can be missing.

    >>> check_facts("Priya will pay $12,500 by 14 March.", "Yamada will pay 12,500 dollars by 15 March.")
    FactCheck(unsupported=('Yamada', '15 March'), missing=('Priya', '14 March'), places=((0, 6), (35, 43)))
    """
    known, stated = _read(notes), _read(summary)
    wanted = [_read(each) for phrase in expected for each in phrase.split("|")]
    unsupported = [fact for fact in stated.facts if not known.holds(fact)]
    missing = [fact for fact in known.facts if not stated.holds(fact)]
    if expected:
        missing = [fact for fact in missing if any(phrase.holds(fact) for phrase in wanted)]
    places = tuple((fact.start, fact.end) for fact in unsupported)
    return FactCheck(_distinct(unsupported), _distinct(missing), places)


class _Reading(NamedTuple):
    """A text's facts in their order, what only supports facts of the other text, and all words, folded."""

    facts: tuple[Fact, ...]
    vague: tuple[Fact, ...]
    words: frozenset[str]

    def holds(self, claim: Fact) -> bool:
        """Whether the text says so: a name by its first or last word, anything else by a fact that implies it."""
        if claim.kind == "name":
            return bool(claim.meaning.values & self.words)
        return any(_implies(known, claim) for known in (*self.facts, *self.vague))


def _implies(known: Fact, claim: Fact) -> bool:
    """A bare number may repeat any figure; a date may be given less exactly, and a year binds where both give one."""
    if claim.kind == "number":
        return bool(known.meaning.numbers & claim.meaning.numbers)
    if claim.kind != known.kind or claim.kind != "date":
        return claim.kind == known.kind and bool(known.meaning.values & claim.meaning.values)
    pairs: Any = product(known.meaning.values, claim.meaning.values)
    return any(
        (None in (k[0], c[0]) or k[0] == c[0]) and c[1] in (None, k[1]) and c[2] in (None, k[2]) for k, c in pairs
    )


def _distinct(facts: Sequence[Fact]) -> tuple[str, ...]:
    """Each fact once, as it is written first: "Yamada" after "Kenji Yamada" is the same."""
    kept: list[Fact] = []
    for fact in facts:
        values = fact.meaning.values
        seen = (each.meaning.values for each in kept if each.kind == fact.kind)
        if not any(values <= other or values >= other for other in seen):
            kept.append(fact)
    return tuple(fact.text for fact in kept)


# -- what a match means


def _number(written: str) -> float:
    """The value of digits or words.

    >>> [_number(words) for words in ("12,500", "2.5k", "two hundred and five thousand", "two and a half", "a dozen")]
    [12500.0, 2500.0, 205000.0, 2.5, 12.0]
    """
    total = current = 0.0
    for part in re.findall(r"\d[\d,]*(?:\.\d+)?|[a-z]+", written.casefold()):
        scale = SCALES.get(part, 0.0)
        if scale >= 1000:
            total, current = total + (current or 1.0) * scale, 0.0
        elif scale:
            current = (current or 1.0) * scale
        else:
            current += float(part.replace(",", "")) if part[0].isdigit() else NUMBER_WORDS.get(part, 0.0)
    return round(total + current, 9)


def _date(match: Match) -> Meaning | None:
    """Year, month and day, each None where it is not given; a quarter or weekday stands in the month's place."""
    found = match.groupdict()
    month = found.get("month") or ""
    is_bare = not (found.get("day") or found.get("year"))
    if month == "may" or (is_bare and not _is_clearly_a_month(match)):
        return None
    day = int(_number(found["day"])) if found.get("day") else None
    year = int(found["year"]) if found.get("year") else None
    part = MONTHS.index(month[:3].casefold()) + 1 if month else None
    return Meaning(frozenset({(year, part, day)}), frozenset({float(year)} if year else ()))


def _is_clearly_a_month(match: Match) -> bool:
    """Not the verb at the beginning of a sentence, not a person called Jan."""
    before = match.string[: match.start()]
    if len(match["month"]) <= 4 and match["month"].casefold() not in ("june", "july"):
        return bool(
            re.search(
                r"\b(?:in|by|until|since|from|of|early|late|mid|before|after|for|last|next|this)[\s-]$", before, re.I
            )
        )
    return match["month"][0].isupper() and not (match["month"] == "March" and _STARTS.search(before))


def _numeric_date(match: Match) -> Meaning | None:
    """`03/04/2026` can be the third of April and the fourth of March."""
    first, second, year = int(match["a"]), int(match["b"]), match.groupdict().get("year")
    full = None if year is None else int(year) % 100 + 2000
    values = frozenset(
        (full, month, day) for month, day in ((first, second), (second, first)) if month <= 12 and day <= 31
    )
    return Meaning(values, frozenset({float(full)} if full else ())) if values else None


def _iso_date(match: Match) -> Meaning | None:
    year, month, day = map(int, match.groups())
    return Meaning(frozenset({(year, month, day)}), frozenset({float(year)}))


def _period(match: Match) -> Meaning:
    """A quarter, a half year or a weekday."""
    found = match.groupdict()
    name = found["name"][0 if found.get("number") else slice(3)].casefold()
    which = f"{name}{_number(found['number']):.0f}" if found.get("number") else name
    year = int(found["year"]) if found.get("year") else None
    return Meaning(frozenset({(year, which, None)}), frozenset({float(year)} if year else ()))


def _time(match: Match) -> Meaning:
    """Minutes after midnight: `2:30` may be in the afternoon, `02:30` and `14:30` say what they mean."""
    found = match.groupdict()
    if word := found.get("word"):
        return Meaning(frozenset({0 if word.casefold() == "midnight" else 720}))
    hour, half = int(_number(found["hour"])), found.get("half")
    minutes = 60 * hour + int(found.get("minute") or 0)
    numbers = frozenset({float(hour)})
    if half:
        return Meaning(frozenset({minutes % 720 + (720 if half[0] in "pP" else 0)}), numbers)
    is_open = 1 <= hour <= 12 and not found["hour"].startswith("0")
    return Meaning(frozenset({minutes % 720, minutes % 720 + 720} if is_open else {minutes}), numbers)


def _amount(match: Match) -> Meaning:
    """A number with its unit, in base units."""
    unit, factor = next((base, factor) for pattern, base, factor in UNITS if re.fullmatch(pattern, match["unit"], re.I))
    is_vague = match["number"].casefold() in ("a", "an")
    value = 1.0 if is_vague else _number(match["number"])
    return Meaning(frozenset({(unit, round(value * factor, 6))}), frozenset({value}), is_vague)


def _bare(match: Match) -> Meaning:
    value, word = _number(match["number"]), match["number"].casefold()
    return Meaning(frozenset({value}), frozenset({value}), word == "one" or word.startswith("half"))


def _code(match: Match) -> Meaning:
    return Meaning(frozenset({match.group().casefold().replace("-", "")}))


_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)
_NTH = "|".join(ORDINALS)
_YEAR = r"(?P<year>(?:19|20)\d\d)\b"
_DAY = rf"(?:(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\b|(?:{_NTH})(?=\s+of))"
_TO = r"\s*(?:-|–|—|\bto\b|\buntil\b|\band\b|\bor\b)\s*"
_SCALE = r"(?:hundred|dozen|thousand|million|billion)\b"
_BELOW_100 = rf"(?:(?:{'|'.join(TENS)})(?:[\s-](?:{'|'.join(SMALL[1:10])}))?|{'|'.join(SMALL[::-1])})\b"
_DIGITS = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?:[\s-]?{_SCALE}|(?:k|m|mn|bn)\b)?"
_WORDS = (
    rf"(?:{_BELOW_100}|an?(?=\s{_SCALE}))(?:[\s-]{_SCALE}(?:\s(?:and\s)?{_BELOW_100})?)*(?:\sand a half\b)?"
    rf"|half an?\b(?:\s{_SCALE})?"
)
_NUMBER = rf"(?<![\w.,])(?P<number>{_DIGITS}|{_WORDS})"
_ANY = rf"(?:{_DIGITS}|{_WORDS})"
_UNIT = rf"(?P<unit>{'|'.join(sorted((pattern for pattern, _, _ in UNITS), key=len, reverse=True))})(?!\w)"
_MONEY = r"(?<!\w)(?P<unit>(?:us ?)?\$|usd|€|eur|£|gbp|¥|jpy|chf|₹|inr)\s?"
_HALF = r"\s?(?P<half>[ap]m\b|[ap]\.m\.?)"
_STARTS = re.compile(
    r"(?:^|[\n!?:|]|(?<![DM]r)(?<!Ms)(?<!Mrs)(?<!Prof)(?<!vs)(?<!\bNo)(?<!\b[A-Z])\.|\s[–—•-])[\s\"'“‘(\[*_#>-]*$"
)

KINDS: tuple[tuple[str, str, Callable[[Match], Meaning | None]], ...] = (
    ("date", rf"\b(?P<a>\d{{4}})-(?P<b>\d\d)-(?P<c>\d\d)(?!\d)", _iso_date),
    ("date", r"\b(?P<a>\d\d?)(?P<sign>[./-])(?P<b>\d\d?)(?P=sign)(?P<year>20\d\d|(?<=/)\d\d)\b", _numeric_date),
    ("date", r"(?:(?<=\bon )|(?<=\bby )|(?<=\bdue ))(?P<a>\d\d?)/(?P<b>\d\d?)(?![\d/])", _numeric_date),
    ("date", rf"\b(?P<day>{_DAY})(?:\s+of\s+|[\s-]+){_MONTH}(?:\.?,?\s+{_YEAR})?", _date),
    ("date", rf"\b(?P<day>{_DAY})(?={_TO}{_DAY}(?:\s+of)?\s+{_MONTH})", _date),
    ("date", rf"\b{_MONTH}\.?\s+(?:the\s+)?(?P<day>{_DAY})(?![:,.]\d)(?:,?\s+{_YEAR})?", _date),
    ("date", rf"\b{_MONTH}(?:\.?,?\s+(?:of\s+)?{_YEAR})?", _date),
    (
        "date",
        r"(?<=\bthe )(?P<day>(?:[12]?\d|3[01])(?:st|nd|rd|th))\b(?=\s*(?:$|[^\w\s]|(?:and|or|at|for|to|in|if|is)\b))",
        _date,
    ),
    ("date", r"\b(?P<name>mon|tues|wednes|thurs|fri|satur|sun)days?\b", _period),
    ("date", r"\b(?-i:(?P<name>Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun))\b", _period),
    ("date", rf"\b(?P<name>[qh])(?P<number>[1-4])\b(?:(?:\s+of)?[\s/]+{_YEAR})?", _period),
    (
        "date",
        rf"\b(?P<number>1st|2nd|3rd|4th|{_NTH})\s(?P<name>quarter|half(?=\sof\s20))\b(?:\s+of\s+{_YEAR})?",
        _period,
    ),
    ("time", rf"\b(?P<hour>\d\d?)(?:[:.](?P<minute>[0-5]\d))?{_HALF}", _time),
    ("time", rf"\b(?P<hour>\d\d?)(?::(?P<minute>\d\d))?(?={_TO}\d\d?(?:[:.]\d\d)?{_HALF})", _time),
    ("time", rf"\b(?P<hour>{'|'.join(SMALL[1:13])}){_HALF}", _time),
    ("time", r"\b(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::\d\d)?\b", _time),
    ("time", rf"\b(?P<hour>\d\d?|{'|'.join(SMALL[1:13])})\so['’]clock\b", _time),
    ("time", r"(?<=\bat )(?P<hour>\d\d?)(?=\s*(?:$|[.;,)](?!\d)|\n|on\b|sharp\b|tomorrow\b))", _time),
    ("time", r"\b(?P<word>noon|midday|midnight)\b", _time),
    ("amount", rf"{_MONEY}(?P<number>{_DIGITS})", _amount),
    ("code", r"\b(?-i:[A-Z][A-Za-z]*)-?\d\w*(?:\.\d+)*", _code),
    ("amount", rf"{_NUMBER}[\s-]?{_UNIT}", _amount),
    ("amount", rf"{_NUMBER}(?={_TO}{_ANY}[\s-]?{_UNIT})", _amount),
    ("amount", rf"(?<!\w)(?P<number>an?)\s{_UNIT}", _amount),
    ("number", rf"(?<![\w.,])v?(?P<number>{_DIGITS}|{_WORDS})(?:st|nd|rd|th)?(?!\w)", _bare),
)
"""Kind, pattern, meaning of a match; the first row that matches a place has it."""
_KINDS = [(kind, re.compile(pattern, re.IGNORECASE), read) for kind, pattern, read in KINDS]
_NO_FACTS = re.compile(
    r"\S+@\S+|https?://\S+|\b24/7\b"
    r"|^[\s*_>#•-]*\(?\d{1,2}(?:[.):]|\*\*)+(?=[\s*])"  # numbers of a list
    r"|^[\s*_>#•-]*(?:step|item|action|point|task|option|topic|decision)\s+(?:item\s+)?#?\d{1,2}\s*[:.)]"
    r"|(?<=[.!?;])\s+\(?\d{1,2}[.)]\s+(?=[A-Z*])|(?<=:)\s+\(?1[.)]\s+(?=[A-Z*])",
    re.IGNORECASE | re.MULTILINE,
)


@lru_cache(maxsize=256)
def _read(text: str) -> _Reading:
    """Find all facts; what a fact or a list number occupies is hidden from the kinds after it."""
    left = _NO_FACTS.sub(lambda match: "\n" * len(match.group()), text)
    facts: list[Fact] = []
    for kind, pattern, read in _KINDS:
        for match in pattern.finditer(left):
            if meaning := read(match):
                facts.append(Fact(kind, match.group(), *match.span(), meaning))
                left = f"{left[: match.start()]}{HIDDEN * len(match.group())}{left[match.end() :]}"
    facts = sorted([*facts, *_names(left)], key=lambda fact: fact.start)
    words = frozenset(part for word in _WORD.findall(text) for part in (_fold(word), *map(_fold, _PARTS.split(word))))
    return _Reading(
        tuple(fact for fact in facts if not fact.meaning.is_vague),
        tuple(fact for fact in facts if fact.meaning.is_vague),
        words,
    )


# -- names

HIDDEN = "\0"
_WORD = re.compile(r"[^\W\d_]+(?:['’&-][^\W\d_]+)*")
_PARTS = re.compile(r"['’&-]")
_ENDING = re.compile(r"(?:n['’]t|['’](?:s|ll|re|ve|d|m|t)|['’]|(?:-[^\W\d_A-Z]\w*)+)$")
_BETWEEN = re.compile(r" (?:(?:of|de|da|del|di|van|von|der|den|la|bin|al|&) )*")
_ORDINARY = re.compile(
    r".{3,}(?:ings?|[st]ions?|ments?|ness|ity|ities|.{3}ances?|.{3}ences?|ables?|ful|less|ous|ers|ors|ists|als|ages|ures)"
)
_AFTER_NAME = re.compile(
    r"['’]s\b|\s+(?:will|to|is|was|has|had|can|could|should|must|may|would|did|does|said|told|sent|took|gave|made|led"
    r"|wrote|held|brought|left|got|went|kept|felt|thought|spoke|met|says|[a-z]+ed"
    r"|[a-z]+s\s+(?:the|an?|that|to|his|her|their|on|in|for|it|all|both|by))\b"
    r"|\s+and\s+[A-Z]|,\s+[A-Z]|:\s|\s+[(–—]|\s*[|/]|\s*(?:[.;\n]|$)"
)


def _fold(word: str) -> str:
    """Lower case, no accents, no possessive `s`."""
    plain = unicodedata.normalize("NFKD", _ENDING.sub("", word)).casefold()
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _names(text: str) -> Iterator[Fact]:
    """Runs of capitalised words that are no ordinary words; titles and endings like `-san` are dropped."""
    words = list(_WORD.finditer(text))
    lower = {word.group() for word in words if word.group().islower()}
    capitals = {_fold(word.group()) for word in words if word.group()[0].isupper() and not _begins(text, word.start())}
    runs: list[list[tuple[int, int]]] = []
    for word in filter(_may_be_a_name, words):
        start, end = word.start(), word.start() + len(_ENDING.sub("", word.group()))
        gap = text[runs[-1][-1][1] : start] if runs else "\n"
        if _BETWEEN.fullmatch(gap) or (gap == ". " and runs[-1][-1][1] - runs[-1][-1][0] == 1):
            runs[-1].append((start, end))
        else:
            runs.append([(start, end)])
    for run in runs:
        start, end = run[0][0], run[-1][1]
        first, last = (text[slice(*place)] for place in (run[0], run[-1]))
        values = frozenset(folded for each in (first, last) if len(folded := _fold(each)) > 1)
        is_name = not _begins(text, start) or _fold(first) in capitals or not (first.istitle() or first.isupper())
        if not is_name and first.lower() not in lower and not _ORDINARY.fullmatch(first.lower()):
            is_name = len(run) > 1 or bool(_AFTER_NAME.match(text, end))
        if is_name and values:
            yield Fact("name", text[start:end], start, end, Meaning(values))


def _may_be_a_name(word: Match) -> bool:
    folded = _fold(word.group())
    return word.group()[0].isupper() and not {folded, folded.removesuffix("s")} & NOT_NAMES


def _begins(text: str, place: int) -> bool:
    """Whether a sentence, a line or what a label announces begins there."""
    return bool(_STARTS.search(text, max(0, place - 40), place))
