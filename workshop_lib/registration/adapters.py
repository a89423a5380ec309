"""Models of one's own: what a `CustomModelAdapter` does, and how its class is found.

    class MyModel(CustomModelAdapter):
        def load(self, weights_path):
            self.model = my_library.load(weights_path)

        def generate(self, prompt, **params):
            return self.model.answer(prompt, limit=params["max_tokens"])

Knows no HTTP and no processes: `adapter_app` serves an adapter, `local_routing` offers it.
"""

from __future__ import annotations

import importlib
import importlib.util
import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from workshop_lib.errors import ConfigurationError, ModelServerError
from workshop_lib.providers import CPU_PROVIDER
from workshop_lib.show.text import one_line, without_home

if TYPE_CHECKING:
    from types import ModuleType

_MODULE_NAME = "registered_adapter"
DEVICES = ("cpu", "gpu", "npu")


@dataclass(frozen=True, slots=True)
class Message:
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
        if isinstance(prompt, str):
            messages = prompt.messages if isinstance(prompt, Chat) else (Message("user", prompt),)
        else:
            messages = tuple(prompt)
        made = super().__new__(cls, _as_text(messages))
        made.messages = messages
        return made


class Piece(str):
    """A piece of an answer that says how many tokens it took, 1 unless told; its text may be empty."""

    tokens: int

    def __new__(cls, text: str, tokens: int = 1) -> Self:  # noqa: D102 - the class says it
        made = super().__new__(cls, text)
        made.tokens = tokens
        return made


class PromptTooLongError(ModelServerError):
    """Prompt and answer do not fit the model's context; the server says it with HTTP 400."""


class CustomModelAdapter(ABC):
    """A model of one's own: write `load`, and `generate` or `stream`, whichever is easier.

    All calls come from one thread, one after the other. What a method raises is told to the client in one line (HTTP
    500; 400 for a `PromptTooLongError`), and the next question is answered as usual.

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
            params: `max_tokens` (int), `temperature` (0 = the likeliest token each time), `top_p` (0 to 1), `seed`
                (int or None) and `stop` (tuple of texts). All are always given. The server itself cuts the answer off
                at a stop text, so that an adapter may ignore that one.
        """
        _refuse_neither(self)
        return "".join(self.stream(prompt, **params))

    def stream(self, prompt: str, **params: Any) -> Iterator[str]:
        """Yield the answer in pieces as they come; arguments as of `generate`.

        Pieces are whole characters. A `Piece` says how many tokens it took. A client that goes away stops the answer
        between two pieces, so that an adapter without a `stream` of its own cannot be stopped.
        """
        _refuse_neither(self)
        yield self.generate(prompt, **params)

    def count_tokens(self, text: str) -> int | None:  # noqa: ARG002 - what a subclass is given
        """How many tokens a text is: a `Chat` with its template, an answer without. None = unknown.

        Answers carry their `usage` only where this is written: nothing is estimated.
        """
        return None

    def close(self) -> None:  # noqa: B027 - optional
        """Give back what `load` took; called once, before the process ends."""


@dataclass(frozen=True, slots=True)
class Described:
    """What an adapter says of itself once it is loaded."""

    device: str
    execution_provider: str
    context_tokens: int | None


def described(adapter: CustomModelAdapter) -> Described:
    """Read what a loaded adapter says of itself.

    Raises:
        ModelServerError: it cannot be: another device, no name of a provider, no number of tokens.
    """
    name, tokens = type(adapter).__name__, adapter.context_tokens
    if adapter.device not in DEVICES:
        raise ModelServerError(
            f"The adapter {name} says that it runs on {one_line(repr(adapter.device), 60)}.",
            f"Set its `device` to {', '.join(DEVICES)}; which kind of GPU stands in `execution_provider`.",
        )
    if not isinstance(adapter.execution_provider, str) or not adapter.execution_provider:
        seen = one_line(repr(adapter.execution_provider), 60)
        raise ModelServerError(f"The adapter {name} names the execution provider {seen}.", "Set it to a name.")
    if tokens is not None and (not hasattr(tokens, "__index__") or tokens < 1):
        seen = one_line(repr(tokens), 60)
        raise ModelServerError(f"The adapter {name} has context_tokens {seen}.", "Give a number above 0, or None.")
    return Described(adapter.device, adapter.execution_provider, None if tokens is None else operator.index(tokens))


def load_class(reference: str) -> type[CustomModelAdapter]:
    """Find an adapter's class, which runs its file.

    Args:
        reference: `path/to/file.py:ClassName` or `package.module:ClassName`.

    Raises:
        ConfigurationError: no such file, module or class; the file fails; or the class is no adapter.
    """
    place, _, name = reference.rpartition(":")
    module = _run_file(Path(place)) if place.endswith(".py") else _import(place)
    kind = getattr(module, name, None)
    if not isinstance(kind, type) or not issubclass(kind, CustomModelAdapter):
        what = f"{place} has no adapter called '{name}'."
        offered = ", ".join(_adapters_in(module)) or "no class derived from CustomModelAdapter"
        raise ConfigurationError(what, f"It has {offered}.")
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing or not _writes_answers(kind):
        wanted = missing[0] if missing else "generate or stream"
        raise ConfigurationError(f"The adapter '{name}' in {place} lacks {wanted}.", "Write that method.")
    return kind


def in_words(error: BaseException) -> str:
    """An exception as one line, with its class: what an adapter raised, without the reader's own folders."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return one_line(without_home(said), 300).rstrip(".")


def _as_text(messages: tuple[Message, ...]) -> str:
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return "\n".join([*(f"{message.role}: {message.content}" for message in messages), "assistant:"])


def _writes_answers(kind: type[CustomModelAdapter]) -> bool:
    return kind.generate is not CustomModelAdapter.generate or kind.stream is not CustomModelAdapter.stream


def _refuse_neither(adapter: CustomModelAdapter) -> None:
    """Each default calls the other method, for ever if neither is written."""
    if not _writes_answers(type(adapter)):
        raise NotImplementedError(f"{type(adapter).__name__} writes neither generate nor stream.")


def _run_file(file: Path) -> ModuleType:
    """Run the adapter's file as a module; its neighbours can be imported from it."""
    if not file.is_file():
        raise ConfigurationError(f"There is no adapter file {file}.", "Correct its path, or register it anew.")
    spec = importlib.util.spec_from_file_location(_MODULE_NAME, file)
    if spec is None or spec.loader is None:  # a `.py` file always has both
        raise ConfigurationError(f"{file} is no Python file.", "Give FILE.py:ClassName.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE_NAME] = module
    sys.path.append(str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a stranger's file raises
        raise _failed(str(file), error) from error
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # as above
        raise _failed(name, error) from error


def _failed(place: str, error: Exception) -> ConfigurationError:
    if isinstance(error, ModuleNotFoundError):
        fix = f"Install the package that brings '{error.name}' into this Python: {sys.executable}."
    else:
        fix = "Mend it, then try again."
    return ConfigurationError(f"The adapter in {place} cannot be used ({in_words(error)}).", fix)


def _adapters_in(module: ModuleType) -> list[str]:
    """Names of the classes that could have been meant."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, CustomModelAdapter) and value is not CustomModelAdapter
    ]
