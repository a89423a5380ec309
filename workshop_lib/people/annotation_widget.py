"""The annotation session on the screen: an anywidget whose every state comes from Python, after the disk.

The page sends commands and draws what it is sent; it decides nothing and knows no model. Knows the session only through
`annotation_view`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workshop_lib.errors import WorkshopError
from workshop_lib.people import annotation_view
from workshop_lib.show.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workshop_lib.people.annotation import Session

STATIC = Path(__file__).resolve().parents[1] / "static"


class AnnotationWidget(anywidget.AnyWidget):
    """One rater's session as a widget; where none can be shown, a sentence says how far it is.

    `view` is all that the page knows: what `annotation_view.view` says, what was just saved or went wrong, and a turn
    that rises with every answer to the page. A command given in an older turn was meant for another item and is not
    obeyed.
    """

    _esm = STATIC / "annotation.js"
    _css = STATIC / "annotation.css"
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = 0
        super().__init__(view=self._shown())
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        return annotation_view.in_words(self._session)

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            bundle[0]["text/plain"] = repr(self)
        return bundle

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        said = problem = ""
        if message.get("turn") == self._turn:
            try:
                said = annotation_view.obey(self._session, message)
            except WorkshopError as error:
                problem = str(error)
        self._turn += 1
        self.view = self._shown(said, problem)

    def _shown(self, said: str = "", problem: str = "") -> dict[str, Any]:
        shown = annotation_view.view(self._session)
        return {**shown, "turn": self._turn, "said": said, "problem": printable(problem)}
