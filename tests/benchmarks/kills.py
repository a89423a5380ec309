"""Kill a running benchmark at random moments, again and again, and count what was lost.

Run `python tests/benchmarks/kills.py --kills 100`. Each run of 480 requests is killed up to ten times, then left to
end and compared with an unbroken one. Prints; exits with 1 when anything was lost or differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.kill_helpers import MODELS, PROMPTS, Tally, differences, kill_until_done, tiny_server

ROUNDS = 20
KILLS_PER_RUN = 10


def main() -> int:
    """Print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills in all (default: 100)")
    parser.add_argument("--seed", type=int, default=3, help="seed of the moments (default: 3)")
    options = parser.parse_args()
    generator, tallies, unlike = random.Random(options.seed), list[Tally](), 0
    started = time.monotonic()
    with tiny_server() as server:
        while (killed := sum(tally.kills for tally in tallies)) < options.kills:
            with tempfile.TemporaryDirectory() as folder:
                kills = min(KILLS_PER_RUN, options.kills - killed)
                tallies.append(kill_until_done(server.base_url, Path(folder), ROUNDS, kills, generator))
                unlike += bool(differences(Path(folder), ROUNDS))
    lost = sum(tally.lost for tally in tallies)
    print(f"kills                                   {sum(tally.kills for tally in tallies)}")
    print(f"  before the first acknowledgement      {sum(tally.early for tally in tallies)}")
    print(f"  after which half a record was left    {sum(tally.half_lines for tally in tallies)}")
    print(f"runs of {len(MODELS) * len(PROMPTS) * ROUNDS} requests, all completed     {len(tallies)}")
    print(f"requests acknowledged                   {sum(tally.acknowledged for tally in tallies)}")
    print(f"acknowledged records lost               {lost}")
    print(f"runs unlike an unbroken one             {unlike}")
    print(f"seconds                                 {time.monotonic() - started:.0f}")
    return int(lost > 0 or unlike > 0)


if __name__ == "__main__":
    sys.exit(main())
