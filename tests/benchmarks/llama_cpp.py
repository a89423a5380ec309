"""First token and pace of our client beside a bare socket's, alternately, on llama.cpp's server with a real model.

Run `python tests/benchmarks/llama_cpp.py` (needs `xllamacpp`; fetches 93 MB once). A model's own times differ from
request to request, so each answer is also compared with what the server measured of that very answer: what is left is
the way to the client and the client. New prompts begin differently each time, so that the server's cache treats all
alike; one prompt again and again is read from that cache, so that its first token varies least. Gates nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.llama_cpp_server import llama_cpp_server, timings
from tests.real_model import FOLDER
from workshop_lib import timing
from workshop_lib.client import ChatClient
from workshop_lib.models import smollm2
from workshop_lib.records import ModelVariant, Request
from workshop_lib.self_check import Times, bare_times, read_bare
from workshop_lib.streams import Arrival


@dataclass(frozen=True, slots=True)
class Beside:
    """What one client saw of several answers, and what the server measured of the same ones, in seconds."""

    seen: tuple[Times, ...]
    served: tuple[tuple[float, float], ...]

    @property
    def first_token_ms(self) -> float:
        return 1e3 * median(each.first_token_s for each in self.seen)

    @property
    def pace_ms(self) -> float:
        return 1e3 * median(each.pace_s for each in self.seen if each.pace_s)

    @property
    def added_ms(self) -> float:
        """How much later than the server the client saw first tokens: the median over the answers."""
        pairs = zip(self.seen, self.served, strict=True)
        return 1e3 * median(each.first_token_s - prompt_s for each, (prompt_s, _) in pairs)

    @property
    def slower_percent(self) -> float:
        """How much slower than the server the client saw the pace: the median over the answers."""
        pairs = zip(self.seen, self.served, strict=True)
        return 100 * (median(each.pace_s / pace_s for each, (_, pace_s) in pairs if each.pace_s) - 1)


def side_by_side(base_url: str, model_id: str, texts: Sequence[str], tokens: int) -> tuple[Beside, Beside]:
    """The workshop's client and the bare one in turns, one text after the other; the first pair does not count."""
    variant = ModelVariant(model_id, model_id, "unknown")
    ours: list[tuple[Times, tuple[float, float]]] = []
    bare: list[tuple[Times, tuple[float, float]]] = []
    with ChatClient(base_url) as client:
        for number, text in enumerate(texts):
            request = Request(f"beside/p/{number}", variant, "p", text, 1, tokens)
            received: list[Arrival] = []
            if number % 4 in {0, 3}:  # ours, bare, bare, ours: neither is always the first of a pair
                answer = client.ask(request, arrivals=received)
                times = Times(timing.first_token_s(answer) or 0.0, timing.time_per_output_token_s(answer))
            else:
                received = read_bare(base_url, request)
                times = bare_times(received)
            served = timings(b"".join(piece for _, piece in received))
            (ours if number % 4 in {0, 3} else bare).append((times, served))
    return _beside(ours[1:]), _beside(bare[1:])


def new_prompts(pairs: int) -> list[str]:
    """Prompts that differ from their first word on, two for each pair and two more that do not count."""
    return [f"{number} is the number of this question. Tell a long story of a fox." for number in range(2 * pairs + 2)]


def one_prompt(pairs: int) -> list[str]:
    """The same prompt as often."""
    return ["Tell a long story of a fox."] * (2 * pairs + 2)


def _beside(answers: list[tuple[Times, tuple[float, float]]]) -> Beside:
    seen, served = zip(*answers, strict=True)
    return Beside(seen, served)


def _show(title: str, ours: Beside, bare: Beside) -> None:
    print(f"\n{title}, {len(ours.seen)} answers per client; medians")
    print(f"{'':10}{'first token ms':>16}{'after the server ms':>21}{'ms a token':>12}{'slower than the server %':>26}")
    for name, each in (("workshop", ours), ("bare", bare)):
        figures = f"{each.first_token_ms:16.2f}{each.added_ms:21.3f}{each.pace_ms:12.3f}{each.slower_percent:26.3f}"
        print(f"{name:10}{figures}")
    print(
        f"difference of the two against the server: first token {ours.added_ms - bare.added_ms:+.3f} ms, "
        f"pace {ours.slower_percent - bare.slower_percent:+.3f} %"
    )


def main() -> None:
    """Print both clients' medians and their differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30, help="answers per client and part (default: 30)")
    repeats = parser.parse_args().repeats
    with llama_cpp_server(
        smollm2.fetch(FOLDER), cache_ram_mib=0
    ) as server:  # nothing is saved before a new prompt is read
        where = (server.base_url, server.model_id)
        _show("New prompts, 64 tokens", *side_by_side(*where, new_prompts(repeats), 64))
        _show("One prompt again and again, 4 tokens", *side_by_side(*where, one_prompt(4 * repeats), 4))


if __name__ == "__main__":
    main()
