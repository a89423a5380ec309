"""What a light prompt gains: a user's first request right after loading, and after a pause on an idle server.

Run `python tests/benchmarks/keep_warm.py`. The first table serves every CPU build of the practice models anew for each
request, with and without a light prompt before it, in alternating order. The second asks a server of known behaviour
that puts a model aside after half a second without a request; it shows that the helper does its work, and nothing about
any real server. Prints; gates nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.behaviours import BEHAVIOURS
from tests.fault_server import fault_server
from workshop_lib import comparison, timing
from workshop_lib.client import ChatClient
from workshop_lib.load import KeepWarm, measure_cold_and_kept
from workshop_lib.records import Request
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.profiles import open_runtime

IDLE = "idle-cold"


def after_loading(models: list[str], repeats: int) -> None:
    """The first request on the real runtime, for each build."""
    with open_runtime("practice") as runtime:
        for variant in runtime.find(models, devices=["cpu"]):
            found = measure_cold_and_kept(runtime, variant, repeats=repeats)
            print(*found.sentences()[:-1], sep="\n  ")
    print(found.sentences()[-1])


def after_a_pause(repeats: int) -> None:
    """A request after each pause, without and with a keeper, in turn."""
    pause_s = 1.5 * BEHAVIOURS[IDLE].idle_limit_s
    times: dict[str, list[float]] = {"left alone": [], "kept warm": []}
    with fault_server() as base_url, EndpointRuntime(base_url) as runtime, ChatClient(base_url) as client:
        (variant,) = runtime.find([IDLE])
        request = Request(f"{IDLE}/p/1", variant, "p", "Say it.", 1, max_tokens=4)
        with runtime.serve(variant) as model:
            client.ask(request)
            for _ in range(repeats):
                time.sleep(pause_s)
                times["left alone"].append(timing.first_token_s(client.ask(request)) or 0.0)
                with KeepWarm(model, every_s=pause_s / 5) as keeper:
                    time.sleep(pause_s)
                    with keeper.busy():
                        times["kept warm"].append(timing.first_token_s(client.ask(request)) or 0.0)
    medians = ", ".join(f"{name} {1e3 * median(values):.0f} ms" for name, values in times.items())
    ratio = comparison.compare_samples({"p": times["left alone"]}, {"p": times["kept warm"]})
    print(f"\nFirst token after {pause_s:g} s without a request, n = {repeats}: {medians}.")
    print(f"Kept warm against left alone: {comparison.describe(ratio, 'lower')}")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="requests on each side (default: 10)")
    parser.add_argument("--models", nargs="+", default=["auto"], help="aliases of practice models (default: all)")
    options = parser.parse_args()
    after_loading(options.models, options.repeats)
    after_a_pause(options.repeats)


if __name__ == "__main__":
    main()
