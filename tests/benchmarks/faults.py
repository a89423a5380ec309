"""Every fault of an endpoint, and what the row says about it: Markdown table.

Run `python tests/benchmarks/faults.py`. Each line is a benchmark of one faulty model and a healthy one, two prompts
and two rounds. Prints; gates nothing (`tests/test_faults.py` does).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.behaviours import SITES
from tests.fault_runtime import FaultRuntime
from tests.fault_server import FaultServer, free_port
from tests.test_faults import FAULTS, plan_of
from workshop_lib import client
from workshop_lib.benchmark import run_plan
from workshop_lib.errors import WorkshopError
from workshop_lib.runtimes.profiles import open_runtime
from workshop_lib.summary import summarise


def line(fault: str, runtime: FaultRuntime, model: str, *, rounds: int = 2) -> str:
    """One line: what the row of the faulty model says, and whether the healthy one was measured."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = run_plan(plan_of(model, "fast", rounds=rounds), runtime, Path(folder), show_progress=False)
    rows = {row.alias: row for row in summarise(run)}
    faulty, healthy = rows[model], rows["fast"]
    kinds = ", ".join(sorted({str(each.error_kind) for each in run.completions if each.error}))
    took = time.monotonic() - started
    return (
        f"| {fault} | {faulty.status}, {faulty.requests_ok} ok: {faulty.error or ', '.join(faulty.warnings)} | {kinds} "
        f"| {healthy.status}, {healthy.requests_ok} of {2 * rounds} | {took:.1f} s |"
    )


def unreachable(base_url: str) -> str:
    """What the listing says where no row can be made."""
    try:
        with open_runtime("endpoint", endpoint=base_url) as runtime:
            runtime.find(["auto"])
    except WorkshopError as error:
        return f"{type(error).__name__}: {error}"
    return "listed"


def main() -> None:
    """Print the table."""
    client.LONGEST_KEEP_ALIVE_S = 1.0
    print("| fault | row of the faulty model | kind | healthy model | whole run |\n|:---|:---|:---|:---|---:|")
    with FaultServer() as server, FaultServer(routes=SITES["sign-in"]) as page:
        for fault in FAULTS:
            print(line(fault, FaultRuntime(server), fault), flush=True)
        nowhere = f"http://127.0.0.1:{free_port()}/v1"
        print(line("no server", FaultRuntime(server, {"steady": nowhere}), "steady"))
        print(line("wrong port (a page)", FaultRuntime(server, {"steady": page.base_url}), "steady"))
        print(line("breaks after 3 timed answers", FaultRuntime(server), "breaks-later", rounds=3))
        print(line("one HTTP 500", FaultRuntime(server), "flaky"))
        print(f"\nNo server, listing: {unreachable(nowhere)}\n\nWrong port, listing: {unreachable(page.base_url)}")


if __name__ == "__main__":
    main()
