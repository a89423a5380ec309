"""A model of one's own in Python: what a `CustomModelAdapter` does, and how its class is found.

class MyModel(CustomModelAdapter):
def load(self, weights_path):
self.model = my_library.load(weights_path)

def generate(self, prompt, **params):
return self.model.answer(prompt, limit=params["max_tokens"])
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from workshop_lib.errors import ConfigurationError
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.show.text import one_line, without_home

if TYPE_CHECKING:
    from types import ModuleType

_MODULE_NAME = "registered_adapter"


class Message(NamedTuple):
    """One message of a chat; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


class Chat(str):
    r"""A prompt: text that also knows the messages it was made of.

    One user message reads as its text, several as one `role: text` line each, with `assistant:` at the end. A model
    with a chat template of its own takes `messages`, any other the text.

    >>> Chat("Hello").messages
    (Message(role='user', content='Hello'),)
    >>> str(Chat([Message("system", "Be brief."), Message("user", "Hello")]))
    'system: Be brief.\nuser: Hello\nassistant:'
    """

    messages: tuple[Message, ...]

    def __new__(cls, prompt: str | Iterable[Message]) -> Self:  # noqa: D102 - the class says it
        if isinstance(prompt, Chat):
            prompt = prompt.messages
        messages = (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
        text = "\n".join([*(f"{message.role}: {message.content}" for message in messages), "assistant:"])
        alone = [message.role for message in messages] == ["user"]
        made = super().__new__(cls, messages[0].content if alone else text)
        made.messages = messages
        return made


class Piece(str):
    """A piece of an answer that says how many tokens it took, 1 unless told; its text may be empty."""

    tokens: int

    def __new__(cls, text: str, tokens: int = 1) -> Self:  # noqa: D102 - the class says it
        made = super().__new__(cls, text)
        made.tokens = tokens
        return made


class CustomModelAdapter(ABC):
    """A model of one's own: write `load`, and `generate` or `stream`, whichever is easier.

    All calls come from one thread, one after the other. What a method raises is told to the client in one line (HTTP
    500), and the next question is answered as usual.

    Attributes:
        context_tokens: longest prompt plus answer; None = unknown. With it, and `count_tokens`, the server refuses
            what does not fit.
        device, execution_provider: what the model runs on: `cpu`, `gpu` or `npu`, and e.g. `CUDAExecutionProvider`;
            set them in `load` if that is not a CPU.
    """

    context_tokens: int | None = None
    device: str = "cpu"
    execution_provider: str = CPU_PROVIDER

    @abstractmethod
    def load(self, weights_path: Path) -> None:
        """Load the weights, a file or a folder, once, before the first question."""

    def generate(self, prompt: str, **params: Any) -> str:
        """Return the whole answer.

        Args:
            prompt: a `Chat`: text, with its messages as `prompt.messages`; or plain text where people call it.
            params: `max_tokens` (int), `temperature` (0 = the likeliest token each time), `top_p` (0 to 1) and `seed`
                (int or None). All are always given.
        """
        return "".join(self.stream(prompt, **params))

    def stream(self, prompt: str, **params: Any) -> Iterator[str]:
        """Yield the answer in pieces as they come; arguments as of `generate`.

        Pieces are whole characters. A `Piece` says how many tokens it took. A client that goes away stops the answer
        between two pieces, so that an adapter without a `stream` of its own cannot be stopped.
        """
        yield self.generate(prompt, **params)

    def count_tokens(self, text: str) -> int | None:  # noqa: ARG002 - what a subclass is given
        """How many tokens a text is: a `Chat` with its template, an answer without. None = unknown.

        Answers carry their `usage` only where this is written: nothing is estimated.
        """
        return None

    def close(self) -> None:  # noqa: B027 - optional
        """Give back what `load` took; called once, before the process ends."""


def load_class(reference: str) -> type[CustomModelAdapter]:
    """Find an adapter's class by `path/to/file.py:ClassName` or `package.module:ClassName`; its file is run.

    Raises:
        ConfigurationError: no such file, module or class; the file fails; or the class is no adapter.
    """
    place, _, name = reference.rpartition(":")
    if place.endswith(".py") and not Path(place).is_file():
        raise ConfigurationError(f"There is no adapter file {place}.", "Correct its path, or register it anew.")
    try:
        module = _run_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever a stranger's file raises
        fix = "Correct it, then try again."
        if isinstance(error, ModuleNotFoundError):
            fix = f"Install the package that brings '{error.name}' into this Python: {sys.executable}."
        raise ConfigurationError(f"The adapter in {place} cannot be used ({said_by(error)}).", fix) from error
    kind = getattr(module, name, None)
    if not isinstance(kind, type) or not issubclass(kind, CustomModelAdapter):
        classes = (each for each in vars(module).values() if isinstance(each, type) and each is not CustomModelAdapter)
        offered = ", ".join(each.__name__ for each in classes if issubclass(each, CustomModelAdapter))
        fix = f"It has {offered or 'no class derived from CustomModelAdapter'}."
        raise ConfigurationError(f"{place} has no adapter called '{name}'.", fix)
    silent = kind.generate is CustomModelAdapter.generate and kind.stream is CustomModelAdapter.stream
    if missing := [*kind.__abstractmethods__, *(["generate or stream"] if silent else [])]:
        raise ConfigurationError(f"The adapter '{name}' in {place} lacks {missing[0]}.", "Write that method.")
    return kind


def said_by(error: BaseException) -> str:
    """An exception as one line, with its class: what an adapter raised, without the reader's own folders."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return one_line(without_home(said), 300).rstrip(".")


def _run_file(file: Path) -> ModuleType:
    """Run the adapter's file as a module; its neighbours can be imported from it."""
    spec: Any = importlib.util.spec_from_file_location(_MODULE_NAME, file)
    module = sys.modules[_MODULE_NAME] = importlib.util.module_from_spec(spec)
    sys.path.append(str(file.resolve().parent))
    spec.loader.exec_module(module)
    return module
