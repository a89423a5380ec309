"""What it costs a lane to be watched: the same requests with and without somebody who looks 30 times a second.

Run `python tests/benchmarks/watching.py`. Both kinds alternate, against a server of known timing, so that both meet the
same machine. The watcher does all that the widget does short of sending: it reads the growing answer and makes JSON of
what a page would show. Prints; gates nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from workshop_lib import race, timing
from workshop_lib.client import ChatClient
from workshop_lib.records import Completion, Request
from workshop_lib.self_check import FIRST_TOKEN_S, PACE_S, VARIANT, reference_server
from workshop_lib.streams import Arrival

ASKED = Request("watched", VARIANT, "p", "Say it.", 1, 40)


def ask(client: ChatClient, *, watched: bool) -> Completion:
    """One request from a thread of its own, as in a race."""
    arrivals: list[Arrival] = []
    live = race.LiveAnswer(arrivals)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.ask, ASKED, arrivals=arrivals)
        while wait({future}, 1 / race.UPDATES_PER_S if watched else None).not_done:
            lanes = (race.so_far("one", live.look()), race.so_far("other", live.look()))
            json.dumps(race.view(lanes, "together"))
        return future.result()


def describe(name: str, answers: Sequence[Completion]) -> str:
    """Errors against the schedule: of the first token, of every token, of the pace."""
    first_ms = [1e3 * (answer.chunks[0].at_s - FIRST_TOKEN_S) for answer in answers]
    due_s = [FIRST_TOKEN_S + PACE_S * place for place in range(ASKED.max_tokens)]
    all_ms = [1e3 * (chunk.at_s - at_s) for answer in answers for chunk, at_s in zip(answer.chunks, due_s, strict=True)]
    paces = [pace for answer in answers if (pace := timing.time_per_output_token_s(answer)) is not None]
    shown = [median(first_ms), median(all_ms), quantiles(all_ms, n=10)[-1], quantiles(all_ms, n=100)[-1]]
    return f"{name:10}" + "".join(f"{value:12.3f}" for value in shown) + f"{100 * (median(paces) / PACE_S - 1):12.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    with reference_server() as url, ChatClient(url) as client:
        ask(client, watched=True)
        pairs = [(ask(client, watched=False), ask(client, watched=True)) for _ in range(repeats)]
    alone, watched = zip(*pairs, strict=True)
    print(f"Too late, in ms; error of the pace in %; n = {repeats} answers of {ASKED.max_tokens} tokens each")
    print(f"{'':10}{'first token':>12}{'token':>12}{'90 % of all':>12}{'99 % of all':>12}{'pace':>12}")
    print(describe("alone", alone))
    print(describe("watched", watched))


if __name__ == "__main__":
    main()
