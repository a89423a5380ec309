"""Which facts does a summary invent, and which does it leave out? A check by rules, without a model; English only.

A fact is a name, a date (also a weekday or a quarter), a time, an amount with its unit, a code such as `GPT-4`, or a
number. `PATTERNS` says how each kind is written and `READ` what is meant, so that `14 March` and `March 14`, `six
percent` and `6 %`, or `two weeks` and `14 days` are one fact. No library: those that read dates and numbers guess, and
a guess would be an invention of ours.

Facts are compared, not sentences: the right date beside the wrong person passes. A name is a run of capitalised words;
at the start of a sentence it needs what follows names ("Amara will", "Amara, Jonas"), or another place in the text.
tests/test_facts.py holds precision and recall to 0.9 on cases of somebody who had not seen the code.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
TEENS = "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905 - as a sentence
TEENS += "thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()  # noqa: SIM905
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ORDINALS = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
NUMBER_WORDS = {word: float(value) for words in (TEENS, ORDINALS) for value, word in enumerate(words)}
NUMBER_WORDS |= {word: 10.0 * value for value, word in enumerate(TENS, 2)} | {"half": 0.5}
SCALES = {"hundred": 1e2, "dozen": 12.0, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9}
UNITS = {
    "%": "1 %|percent|per cent|percentage points?",
    "$": r"1 (?:us ?)?\$|usd|(?:us )?dollars?",
    "€": "1 €|eur|euros?",
    "£": "1 £|gbp|pounds?",
    "¥": "1 ¥|jpy|yen",
    "₹": "1 ₹|inr|rupees?",
    "chf": "1 chf|(?:swiss )?francs?",
    "kr": "1 nok|sek|dkk|kron(?:er|or)",
    "second": "0.001 ms|milliseconds?; 1 s|secs?|seconds?; 60 mins?|minutes?; 3600 h|hrs?|hours?; 86400 days?;"
    "604800 weeks?|wks?; 1209600 fortnights?",
    "month": "1 months?; 12 years?|yrs?",
    "working day": "1 (?:working|business) days?",
    "byte": "1e3 kb|kilobytes?; 1e6 mb|megabytes?; 1e9 gb|gigabytes?; 1e12 tb|terabytes?",
    "metre": "0.01 cm|centimet(?:re|er)s?; 1 m|met(?:re|er)s?; 1e3 km|kilomet(?:re|er)s?",
    "gram": "1 g|grams?; 1e3 kg|kilos?|kilograms?; 1e6 tons?|tonnes?",
    "watt": "1 w|watts?; 1e3 kw|kilowatts?",
    "kWh": "1 kwh",
    "degree": "1 °c?|degrees?(?: celsius)?",
    "times": "1 x|times",
    "litre": "1 lit(?:re|er)s?",
}
"""Base unit → how many of it each unit is, and how that is written."""
_UNITS = [(row.split()[0], row.split(None, 1)[1], base) for base, rows in UNITS.items() for row in rows.split(";")]

NOT_NAMES = frozenset(
    """
    a about above absent access according across action additional additionally after agenda agree agreement ai all
    also although am an and another any anyone anything api apologies app approve are as asap ask assign at attend
    attendee author backend backlog base be because before below best better between blocker board book both break
    budget bug but by ca call can capacity cet chair change check client close code coffee come company complete
    conclusion continue coo cost could cpu create cto current customer data date day deadline dear decide decision
    deliver delivery demand department deputy design develop did director discuss discussion do document does dr draft
    due during each early either email end energy engineer eod eta even every everybody everyone everything expect
    extra facilitator faq feedback few final finally finance find finish first fix follow food for founder from
    frontend further furthermore gdpr general give given gmt go goal good gpu group growth had hardware has have he
    head hello help her here hi high hire his how however hr i if important in include info input internet invite is
    issue it item its join keep key kpi last late later launch lead leader legal less let list llm location look low
    lunch main make management manager many market may mean meanwhile meet member mid milestone minute miss month more
    moreover most mr mrs ms much my need neither new next no nobody none nor not note nothing now of off office ok okay
    on once one ongoing online only open operation option or order other our out outcome outstand over overall overview
    owner page participant pdf pend people per phase pilot plan please point possible power pr prepare present
    president previous price priority problem product prof professor profit progress project promise proposal propose
    purpose put q&a qa quality question quick r&d ram reason recently recommendation record regard release remain
    remark remember remind reminder report request research resolve responsible result retrospective revenue review
    risk roadmap role room sales same schedule security see send service several share she should since sir so social
    software some somebody someone something sprint sql staff start status step still stock subject such suggest
    summarise summarize summary support sync takeaway task team tell test thank that the their them then there
    therefore these they thing this those though through thus time title to today together tomorrow tonight topic total
    traffic travel two type ui unfortunately unless until up update url us use user usually utc ux venue very via vp
    vpn was water we website week weekly well were what when where whether which while who whose why with within
    without wo work workshop yes yesterday yet you your
    """.split()  # noqa: SIM905 - easier to read than hundreds of quoted words
)
"""Capitalised words that are no names, nor with -s, -d, -ed or -ing: how sentences begin, headings, offices, titles."""

# -- the comparison


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
        expected: phrases such as the aspects of a prompt, `|` between alternatives; where given, only facts in them can
            be missing.

    >>> check_facts("Priya will pay $12,500 by 14 March.", "Yamada will pay 12,500 dollars by 15 March.")
    FactCheck(unsupported=('Yamada', '15 March'), missing=('Priya', '14 March'), places=((0, 6), (34, 42)))
    """
    known, stated = _read(notes), _read(summary)
    wanted = [_read(phrase) for each in expected for phrase in each.split("|")]
    unsupported = [fact for fact in stated.facts if fact.is_definite and not known.holds(fact)]
    missing = [fact for fact in known.facts if fact.is_definite and not stated.holds(fact)]
    if expected:
        missing = [fact for fact in missing if any(phrase.holds(fact) for phrase in wanted)]
    places = tuple((fact.start, fact.start + len(fact.text)) for fact in unsupported)
    return FactCheck(_distinct(unsupported), _distinct(missing), places)


def check_answer(question: str, answer: str, expected: Sequence[str] = ()) -> FactCheck | None:
    """Check an answer against the notes that its question holds; None where it holds none, with nothing to invent."""
    return check_facts(question, answer, expected) if _ARE_NOTES.search(question) else None


class Fact(NamedTuple):
    """One fact as it stands in a text; `values` are its normal forms, several where it can be read in several ways."""

    kind: str
    text: str
    start: int
    values: frozenset[Any]

    @property
    def is_definite(self) -> bool:
        """False of "one", "second" or "a week", which only support facts of the other text."""
        return not re.fullmatch(rf"one|half an?|{_NTH}|an? (?!{_SCALE}).+", self.text, re.IGNORECASE)

    def implies(self, claim: Fact) -> bool:
        """A bare number may repeat any figure; a date may be less exact, and a year binds where both give one."""
        if claim.kind == "number":
            figures = {*self.values, *map(_number, re.findall(_ANY, self.text, re.IGNORECASE))}
            return any(value in figures and (self.kind != "date" or value > 1000) for value in claim.values)
        if claim.kind == self.kind == "date":
            pairs = ((mine, its) for mine in self.values for its in claim.values)
            return any(b[0] in (None, a[0] or b[0]) and b[1] in (None, a[1]) and b[2] in (None, a[2]) for a, b in pairs)
        return claim.kind == self.kind and bool(self.values & claim.values)


class _Reading(NamedTuple):
    """The facts of a text in their order, and all its words."""

    facts: tuple[Fact, ...]
    words: frozenset[str]

    def holds(self, claim: Fact) -> bool:
        """Whether the text says so: a name by its first or last word, anything else by a fact that implies it."""
        is_name = claim.kind == "name"
        return bool(claim.values & self.words) if is_name else any(fact.implies(claim) for fact in self.facts)


def _distinct(facts: Sequence[Fact]) -> tuple[str, ...]:
    """Each fact once, as it is written first: "Yamada" after "Kenji Yamada" is the same."""
    kept: list[Fact] = []
    for fact in facts:
        if not any(
            fact.kind == each.kind and (fact.values <= each.values or fact.values >= each.values) for each in kept
        ):
            kept.append(fact)
    return tuple(fact.text for fact in kept)


# -- normal forms


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


def _date(match: re.Match[str]) -> frozenset[Any]:
    """Year; month, weekday or quarter; day; each None where it is not given. `03/04/2026` has two readings."""
    found = {name: group.casefold() for name, group in match.groupdict().items() if group}
    year, day = (int(_number(found[name])) if name in found else None for name in ("year", "day"))
    part = found.get("month", found.get("weekday", ""))[:3]
    if "quarter" in found:
        part = f"{found['quarter'][0]}{_number(found['number']):.0f}"
    if not part.isdigit():
        return frozenset({(year, part or None, day)})
    orders = {(int(part), day), (day or 0, int(part))} if "sign" in found else {(int(part), day)}
    readings: set[Any] = {(2000 + (year or 0) % 100, MONTHS[m - 1], d) for m, d in orders if 1 <= m <= 12}
    return frozenset(readings or {(match[0], None, None)})  # no such date, so only this very text repeats it


def _time(match: re.Match[str]) -> frozenset[Any]:
    """Minutes after midnight: `2:30` may be in the afternoon, `02:30` and `14:30` say what they mean."""
    found = {name: group.casefold() for name, group in match.groupdict().items() if group}
    hour = 0 if found["hour"] == "midnight" else int(_number(found["hour"])) or 12
    minutes = 60 * hour + int(found.get("minute", 30 if "past" in found else 0))
    if half := found.get("half"):
        return frozenset({minutes % 720 + (720 if half[0] == "p" else 0)})
    is_open = 1 <= hour <= 12 and found["hour"][0] not in "0nm"
    return frozenset({minutes % 720, minutes % 720 + 720} if is_open else {minutes})


def _amount(match: re.Match[str]) -> frozenset[Any]:
    """A number with its unit, in base units; "a week" is one."""
    factor, base = next(row[::2] for row in _UNITS if re.fullmatch(row[1], match["unit"], re.IGNORECASE))
    return frozenset({(base, round((_number(match["number"]) or 1.0) * float(factor), 6))})


_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|(?-i:May)|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)
_NTH, _YEAR = "|".join(ORDINALS[1:]), r"(?P<year>(?:19|20)\d\d)\b"
_DAY = rf"(?:(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\b|(?:{_NTH})(?=\s+of))"
_TO = r"\s*(?:-|\u2013|\u2014|\bto\b|\buntil\b|\band\b|\bor\b)\s*"
_SCALE = r"(?:hundred|dozen|thousand|million|billion)\b"
_SHORT = rf"(?:(?:{'|'.join(TENS)})(?:[\s-](?:{'|'.join(TEENS[1:10])}))?|{'|'.join(TEENS[::-1])})\b"
_DIGITS = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?:[\s-]?{_SCALE}|(?:k|m|mn|bn)\b)?"
_SPELLED = rf"(?:{_SHORT}|an?(?=\s{_SCALE}))(?:[\s-]{_SCALE}(?:\s(?:and\s)?{_SHORT})?){{0,4}}(?:\sand a half\b)?"
_ANY = rf"(?:{_DIGITS}|{_SPELLED}|half an?\b(?:\s{_SCALE})?)"
_NUMBER = rf"(?<![\w.,])(?P<number>{_ANY})"
_UNIT = rf"(?P<unit>{'|'.join(sorted((way for _, way, _ in _UNITS), key=len, reverse=True))})(?!\w)"
_HOUR, _HALF = rf"(?P<hour>\d\d?|{'|'.join(TEENS[1:13])})", r"\s?(?P<half>[ap]m\b|[ap]\.m\.?)"

PATTERNS = {
    "date": (
        r"\b(?P<year>\d{4})-(?P<month>\d\d)(?:-(?P<day>\d\d))?(?![\d-])",
        r"\b(?P<day>\d\d?)(?P<sign>[./-])(?P<month>\d\d?)(?P=sign)(?P<year>20\d\d|(?<=/)\d\d)\b",
        rf"\b(?P<day>{_DAY})(?={_TO}{_DAY}(?:\s+of)?\s+{_MONTH})",
        rf"\b(?P<day>{_DAY})(?:\s+of\s+|[\s-]+){_MONTH}(?:\.?,?\s+{_YEAR})?",
        rf"\b{_MONTH}\.?\s+(?:the\s+)?(?P<day>{_DAY})(?![:,.]\d)(?:,?\s+{_YEAR})?",
        rf"\b{_MONTH}\.?,?\s+(?:of\s+)?{_YEAR}",
        r"\b(?-i:(?P<month>January|February|April|June|July|August|September|October|November|December))\b",
        r"(?-i:(?<=[a-z,] )|(?<=mid-))(?-i:(?P<month>March|May|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec))\b",
        r"(?<=\bthe )(?P<day>[1-3]?\d(?:st|nd|rd|th))\b(?=\s*(?:$|[^\w\s]|(?:and|or|at|for|to|in|if|is)\b))",
        r"\b(?P<weekday>mon|tues|wednes|thurs|fri|satur|sun)days?\b",
        r"\b(?-i:(?P<weekday>Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun))\b",
        rf"\b(?P<quarter>[qh])(?P<number>[1-4])\b(?:(?:\s+of)?[\s/]+{_YEAR})?",
        rf"\b(?P<number>[1-4](?:st|nd|rd|th)|{_NTH})\s(?P<quarter>quarter|half(?=\sof\s(?:20|the\syear)))\b(?:\s+of\s+{_YEAR})?",
    ),
    "time": (
        rf"\b(?P<hour>\d\d?)(?::(?P<minute>\d\d))?(?={_TO}\d\d?(?:[:.]\d\d)?{_HALF})",
        rf"\b{_HOUR}(?:[:.](?P<minute>[0-5]\d))?{_HALF}",
        r"\b(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::\d\d)?\b",
        rf"\b(?P<past>half past )?{_HOUR}(?(past)\b|\so['\u2019]clock\b)",
        r"(?<=\bat )(?P<hour>\d\d?)(?=\s*(?:$|[.;,)](?!\d)|\n|on\b|sharp\b|tomorrow\b))",
        r"\b(?P<hour>noon|midday|midnight)\b",
    ),
    "code": (r"\b(?!(?:usd|eur|gbp|jpy|inr|chf|nok|sek|dkk)\d)(?-i:[A-Z][A-Za-z]*)-?\d\w*(?:\.\d+)*",),
    "amount": (
        rf"(?<!\w)(?P<unit>(?:us ?)?\$|usd|€|eur|£|gbp|¥|jpy|₹|inr|chf|nok|sek|dkk)\s?(?P<number>{_DIGITS})",
        rf"{_NUMBER}(?={_TO}{_ANY}[\s-]?{_UNIT})",
        rf"{_NUMBER}[\s-]?{_UNIT}",
        rf"(?<!\w)(?P<number>an?)\s{_UNIT}",
    ),
    "number": (rf"(?<![\w.,])v?{_ANY}(?:st|nd|rd|th)?(?!\w)", rf"\b(?:{_NTH})\b"),
}
"""How the facts of each kind are written; the first pattern that finds something at a place has it."""
READ: dict[str, Callable[[re.Match[str]], frozenset[Any]]] = {"date": _date, "time": _time, "amount": _amount}
"""What a match means, in normal form: of a code its letters, of a number its value."""
READ |= {"code": lambda match: frozenset({match[0].casefold().replace("-", "")})}
READ |= {"number": lambda match: frozenset({_number(match[0])})}
_PATTERNS = [(kind, re.compile(way, re.IGNORECASE)) for kind, ways in PATTERNS.items() for way in ways]
_NO_FACTS = re.compile(
    r"[\w.+-]{1,64}@\S+|https?://\S+|\b24/7\b|(?<=[.!?;])\s+\(?\d{1,2}[.)]\s+(?=[A-Z*])|(?<=:)\s+\(?1[.)]\s+(?=[A-Z*])"
    r"|^[\s*_>#\u2022-]*(?:(?:step|item|action|point|task|option|topic|decision)\s(?:item\s)?#?)?"
    r"\(?\d{1,2}(?:[.):]|\*\*)+(?=[\s*])",
    re.IGNORECASE | re.MULTILINE,
)
"""Addresses and the numbers of lists."""
_ARE_NOTES = re.compile(r"\b(?:notes|minutes|transcript):", re.IGNORECASE)


@lru_cache(maxsize=256)
def _read(text: str) -> _Reading:
    """Find all facts; what a fact occupies is hidden from the rows after it."""
    left = _NO_FACTS.sub(lambda match: "\n" * len(match[0]), text)
    facts: list[Fact] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(left):
            facts.append(Fact(kind, match[0], match.start(), READ[kind](match)))
            left = f"{left[: match.start()]}{chr(0) * len(match[0])}{left[match.end() :]}"
    words = frozenset(_fold(part) for word in _WORD.findall(text) for part in (word, *re.split("[-'\u2019&]", word)))
    facts += _names(left)
    return _Reading(tuple(sorted(facts, key=lambda fact: fact.start)), words)


# -- names

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019&-][^\W\d_]+){0,5}")
_ENDING = re.compile(r"(?:n['\u2019]t|['\u2019](?:s|ll|re|ve|d|m)?|(?:-[^\W\d_A-Z]\w*)+)$")
_BETWEEN = re.compile(r" (?:(?:of|de|da|del|di|van|von|der|den|la|bin|al) )*")
_STARTS = re.compile(
    r"(?:^|[\n!?:|]|(?<![DM]r)(?<!Ms)(?<!Mrs)(?<!Prof)(?<!vs)(?<!\bNo)(?<!\b[A-Z])\.|\s[\u2013\u2014\u2022-])"
    "[\\s\"'\u201c\u2018(\\[*_#>-]*$"
)
_ORDINARY = re.compile(
    r".{3,}(?:ings?|[st]ions?|ments?|ness|ity|.{2}ances?|.{2}ences?|ables?|ful|less|ous|als?|age|ure|ship)"
    r"|.{5,}[^aious]s"  # a plural, while Jonas, Iris, Ross and James are people
)
_AFTER_NAME = re.compile(
    r"['\u2019]s\b|\s(?:will|to|is|was|has|had|can|could|should|must|may|would|did|does|said|told|sent|took|gave|made|led"
    r"|wrote|held|brought|left|got|went|kept|felt|thought|spoke|met|ran|saw|found|paid|chose|came|knew|built|lost|won"
    r"|also|then|still|already|never|not|[a-z]+ed|(?:report|need|want|ask|own|lead|take|think|agree|know|work|expect)s"
    r"|[a-z]+s\s(?:the|an?|that|to|his|her|their|on|in|for|it|all|both|by))\b"
    r"|\s(?:and|&)\s[A-Z]|,\s(?:[A-Z]|who\b|our\b|the\b)|:\s|\s[(\u2013\u2014-]|\s?[|/]"
)
_ENDS, _LABEL = re.compile(r"\W*(?:[.;\n|]|$)"), re.compile(r"[:|][\s*]*$")


def _fold(word: str) -> str:
    """Lower case without accents and endings like `'s` or `-san`."""
    plain = unicodedata.normalize("NFKD", _ENDING.sub("", word)).casefold()
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _begins(text: str, place: int) -> bool:
    """Whether a sentence, a line, or what a label announces begins there."""
    return bool(_STARTS.search(text, max(0, place - 40), place))


def _may_be_a_name(word: re.Match[str]) -> bool:
    folded = _fold(word[0])
    stems = {folded, *(folded.removesuffix(end) for end in ("s", "d", "ed", "ing"))}
    return word[0][0].isupper() and not stems & NOT_NAMES


def _names(text: str) -> Iterator[Fact]:
    """Runs of capitalised words that are no ordinary words; titles and endings like `-san` are dropped."""
    words = list(_WORD.finditer(text))
    lower = {word[0] for word in words if word[0].islower()}
    inside = {_fold(word[0]) for word in words if word[0][0].isupper() and not _begins(text, word.start())}
    runs: list[list[tuple[int, int]]] = []
    for word in filter(_may_be_a_name, words):
        start, end = word.start(), word.start() + len(_ENDING.sub("", word[0]))
        gap = text[runs[-1][-1][1] : start] if runs else "\n"
        if _BETWEEN.fullmatch(gap) or (gap == ". " and runs[-1][-1][1] - runs[-1][-1][0] == 1):
            runs[-1].append((start, end))
        else:
            runs.append([(start, end)])
    for run in runs:
        start, end = run[0][0], run[-1][1]
        first, last = (text[slice(*place)] for place in (run[0], run[-1]))
        values = frozenset(folded for each in (first, last) if len(folded := _fold(each)) > 1)
        is_name = not _begins(text, start) or _fold(first) in inside or not (first.istitle() or first.isupper())
        if not is_name and first.lower() not in lower and not _ORDINARY.fullmatch(first.lower()):
            after_label = _ENDS.match(text, end) and _LABEL.search(text, max(0, start - 5), start)
            is_name = len(run) > 1 or bool(after_label or _AFTER_NAME.match(text, end))
        if is_name and values:
            yield Fact("name", text[start:end], start, values)
