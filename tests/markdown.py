"""What tests need to know of Markdown: headings, fenced blocks, table rows, inline code, links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^( *)```+(\w*) *\n(.*?\n)??\1```+ *$", re.M | re.S)
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_HTML_LINK = re.compile(r"""(?:src|srcset|href)=["']([^"']+)["']""")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A Markdown text with its parts; nothing inside of a block counts as a heading, link or inline code."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.relative_to(PROJECT).as_posix()

    @property
    def fences(self) -> list[Fence]:
        return [Fence(language, textwrap.dedent(body)) for _, language, body in _FENCE.findall(self.text)]

    @property
    def prose(self) -> str:
        return _FENCE.sub("", self.text)

    @property
    def titles(self) -> list[str]:
        return re.findall(r"^#{1,6} +(.+?) *$", self.prose, re.M)

    @property
    def anchors(self) -> set[str]:
        """Every anchor that a link may name; of equal titles the second has -1 and so on."""
        found: list[str] = []
        for title in map(anchor, self.titles):
            found.append(f"{title}-{found.count(title)}" if title in found else title)
        return {*found}

    @property
    def links(self) -> list[str]:
        """Targets of links and images, in Markdown or HTML."""
        bare = _CODE.sub("", self.prose)
        return _LINK.findall(bare) + _HTML_LINK.findall(bare)

    @property
    def code(self) -> list[str]:
        """Text between backticks."""
        return code_in(self.prose)

    @property
    def rows(self) -> list[dict[str, str]]:
        """Rows of tables: cells by the heading of their column; a pipe inside of code is escaped."""
        found: list[dict[str, str]] = []
        columns: list[str] = []
        for line in self.prose.splitlines():
            cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            if columns and cells and not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                found.append(dict(zip(columns, cells, strict=True)))
            columns = columns or cells if cells else []
        return found

    def sections(self, level: int) -> dict[str, Document]:
        """What stands under each heading of a level, by its title."""
        parts = re.split(rf"^#{{{level}}} +(.+?) *\n|^#{{1,{level - 1}}} .*\n", self.text, flags=re.M)
        return {title: Document(self.path, text) for title, text in zip(parts[1::2], parts[2::2], strict=True) if title}


def anchor(title: str) -> str:
    """What follows the # of a link to a heading, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", plain(title).lower()).replace(" ", "-")


def plain(text: str) -> str:
    """The text without backticks, stars and links."""
    return re.sub(r"[`*]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))


def code_in(text: str) -> list[str]:
    return [found.strip() for _, found in _CODE.findall(text)]


def read(path: Path) -> Document:
    """Read a Markdown file, or the Markdown cells of a notebook as one text."""
    if path.suffix != ".ipynb":
        return Document(path, path.read_text(encoding="utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    return Document(path, "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


def written() -> list[Path]:
    """Every Markdown file that people read, and every notebook."""
    files = [*PROJECT.glob("*.md"), *PROJECT.glob("notebooks/**/*.ipynb"), *PROJECT.glob("samples/**/*.ipynb")]
    files += [file for folder in ("docs", "notebooks", "samples", "data") for file in PROJECT.glob(f"{folder}/**/*.md")]
    ignored = {".ipynb_checkpoints", "node_modules", ".venv", ".venv-training", "reference"}
    return sorted(file for file in files if not ignored & set(file.relative_to(PROJECT).parts))
