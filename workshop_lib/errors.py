"""Every foreseeable fault is one `WorkshopError`: what happened, the value seen, what to do next.

Knows the exit codes of the command line. Knows nothing of who raises or prints an error.
"""

from __future__ import annotations

from workshop_lib.credentials import redact


class WorkshopError(Exception):
    """A foreseeable fault: what happened, with the value seen, and what to do next, a sentence each, without keys."""

    exit_code = 1

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = redact(what), redact(fix)
        super().__init__(self.what, self.fix)

    def __str__(self) -> str:
        stop = "" if self.what.rstrip(")").endswith((".", "!", "?", "…")) else "."  # what a server said may have none
        return f"{self.what}{stop} {self.fix}"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: one line in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class ConfigurationError(WorkshopError):
    """A setting, flag or file given by the user cannot be used; exit code 2."""

    exit_code = 2


class DataFileError(ConfigurationError):
    """A file such as `models.json` is missing or malformed: names the file, the key and the fix."""


class ModelNotFoundError(WorkshopError):
    """No model of that alias or id exists: names the nearest ones that do."""


class RuntimeUnavailableError(WorkshopError):
    """The Foundry Local runtime cannot run here (platform, package or libraries)."""


class ModelServerError(WorkshopError):
    """A model could not be downloaded, loaded or served, or its process died."""


class DiskSpaceError(WorkshopError):
    """Too little free disk space."""


class EndpointError(WorkshopError):
    """A request could not be answered; `kind` says why, as in `Completion.error_kind`; empty where it is not known."""

    def __init__(self, what: str, fix: str, *, kind: str = "") -> None:
        super().__init__(what, fix)
        self.kind = kind


class RecordFileError(WorkshopError):
    """A file of records is locked by another run, of an unknown schema, or unreadable."""


class NotebookError(WorkshopError):
    """A notebook failed, or was given parameters it does not have."""
