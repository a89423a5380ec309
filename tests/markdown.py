"""What tests need to know of Markdown: headings, fenced blocks, tables, inline code, links. Knows no commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<language>\w*) *$")
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")
_HTML_LINK = re.compile(r"""(?:src|srcset|href)=["'](?P<target>[^"']+)["']""")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *$")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block; `line` is that of its first line of text, counted from 1."""

    language: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading and the line it stands in."""

    level: int
    title: str
    line: int

    @property
    def anchor(self) -> str:
        """What follows the # of a link to it, by GitHub's rule for a title that is there once."""
        kept = re.sub(r"[^\w\- ]", "", plain(self.title).lower())
        return kept.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its cells by the heading of their column."""

    cells: dict[str, str]
    line: int


@dataclass(frozen=True, slots=True)
class Document:
    """A Markdown text with its parts; `lines` outside of fences keep their numbers, those inside are empty."""

    path: Path
    text: str
    headings: tuple[Heading, ...]
    fences: tuple[Fence, ...]
    rows: tuple[Row, ...]
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its path in the project."""
        return self.path.relative_to(PROJECT).as_posix()

    @property
    def anchors(self) -> set[str]:
        """Every anchor that a link may name; of equal titles the second has -1 and so on."""
        seen: dict[str, int] = {}
        found = set()
        for heading in self.headings:
            number = seen.setdefault(heading.anchor, 0)
            seen[heading.anchor] += 1
            found.add(f"{heading.anchor}-{number}" if number else heading.anchor)
        return found

    def links(self) -> Iterator[tuple[str, int]]:
        """Targets of links and images, in Markdown or HTML, with their lines."""
        for number, line in enumerate(self.lines, 1):
            bare = _CODE.sub("", line)
            for found in (*_LINK.finditer(bare), *_HTML_LINK.finditer(bare)):
                yield found["target"], number

    def inline_code(self) -> Iterator[tuple[str, int]]:
        """Text between backticks outside of fences, with its line."""
        for number, line in enumerate(self.lines, 1):
            for _, text in _CODE.findall(line):
                yield text.strip(), number

    def section(self, heading: Heading) -> Document:
        """What stands under a heading, down to the next of its level or above."""
        ends = (each.line for each in self.headings if each.line > heading.line and each.level <= heading.level)
        end = next(ends, len(self.lines) + 1)
        return read_text(self.path, "\n".join(self.text.split("\n")[heading.line : end - 1]))


def plain(text: str) -> str:
    """The text without backticks, stars and links."""
    return re.sub(r"[`*]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))


def code_in(text: str) -> list[str]:
    """Every piece of inline code of one cell or line."""
    return [found.strip() for _, found in _CODE.findall(text)]


def links_in(text: str) -> list[str]:
    """Targets of the Markdown links of one cell or line."""
    return [found["target"] for found in _LINK.finditer(text)]


def read(path: Path) -> Document:
    """Read a Markdown file, or the Markdown cells of a notebook as one text."""
    if path.suffix != ".ipynb":
        return read_text(path, path.read_text(encoding="utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    return read_text(path, "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


def read_text(path: Path, text: str) -> Document:
    """Find the parts of a Markdown text."""
    fences: list[Fence] = []
    outside: list[str] = []
    opened: re.Match[str] | None = None
    inside: list[str] = []
    for line in text.split("\n"):
        if opened is None:
            opened = _FENCE.match(line)
            outside.append("" if opened else line)
            continue
        outside.append("")
        if line.strip() == opened["ticks"]:
            body = "\n".join(each.removeprefix(opened["indent"]) for each in inside)
            fences.append(Fence(opened["language"], body, len(outside) - len(inside)))
            opened, inside = None, []
        else:
            inside.append(line)
    if opened is not None:
        raise ValueError(f"{path.name}: a fenced block is not closed.")
    headings = tuple(
        Heading(len(found[1]), found[2], number)
        for number, line in enumerate(outside, 1)
        if (found := _HEADING.match(line))
    )
    return Document(path, text, headings, tuple(fences), tuple(_rows(outside)), tuple(outside))


def _rows(lines: list[str]) -> Iterator[Row]:
    columns: list[str] | None = None
    for number, line in enumerate(lines, 1):
        cells = _cells(line)
        if cells is None:
            columns = None
        elif columns is None:
            columns = cells
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            yield Row(dict(zip(columns, cells, strict=True)), number)


def _cells(line: str) -> list[str] | None:
    """The cells of a line of a table; a pipe inside of code is escaped, as GitHub wants it."""
    bare = line.strip()
    if not (bare.startswith("|") and bare.endswith("|")):
        return None
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", bare)[1:-1]]


def written() -> list[Path]:
    """Every Markdown file that people read, and every notebook."""
    folders = ("docs", "notebooks", "samples", "data")
    files = [*PROJECT.glob("*.md"), *(file for folder in folders for file in (PROJECT / folder).rglob("*.md"))]
    notebooks = [*(PROJECT / "notebooks").rglob("*.ipynb"), *(PROJECT / "samples").rglob("*.ipynb")]
    ignored = {".ipynb_checkpoints", "node_modules", ".venv", ".venv-training", "reference"}
    return sorted(file for file in [*files, *notebooks] if not ignored & set(file.relative_to(PROJECT).parts))
