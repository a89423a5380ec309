"""Where an answer ends: the text before the first stop text, however the answer comes in pieces. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopTexts:
    """Cuts an answer at the stop text that is complete first, however the answer comes in pieces.

    >>> cut = StopTexts(["END"])
    >>> cut.feed("one E"), cut.feed("N"), cut.feed("D two"), cut.found
    ('one ', '', '', True)
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Take a piece and return what may be shown now."""
        self._held += text
        starts = ((self._held.find(stop), len(stop)) for stop in self._texts)
        complete = [(start + length, start) for start, length in starts if start >= 0]
        if complete:
            self.found = True
            shown, self._held = self._held[: min(complete)[1]], ""
            return shown
        return self._release(len(self._held) - self._begun())

    def rest(self) -> str:
        """Return what was held back, at the end of an answer."""
        return self._release(len(self._held))

    def _begun(self) -> int:
        """How many characters at the end may be the beginning of a stop text."""
        longest = max((len(text) for text in self._texts), default=0) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(text.startswith(self._held[-length:]) for text in self._texts):
                return length
        return 0

    def _release(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown
