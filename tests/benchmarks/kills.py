"""Kill a running benchmark, or an import, at random moments, again and again, and count what was lost.

Run `python tests/benchmarks/kills.py --kills 100`. Each run of 480 requests is killed up to ten times, then left to
end and compared with an unbroken one. Or `python tests/benchmarks/kills.py --imports 50`, with `--gguf` for a file of
your own: each killed import leaves a whole folder or none. Prints; exits with 1 when anything was lost or differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.gguf_helpers import ImportToKill
from tests.kill_helpers import MODELS, PROMPTS, Tally, differences, kill_until_done, tiny_server
from workshop_lib.own_models import PRACTICE_FILE

ROUNDS = 20
KILLS_PER_RUN = 10


def main() -> int:
    """Print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills in all (default: 100)")
    parser.add_argument("--seed", type=int, default=3, help="seed of the moments (default: 3)")
    parser.add_argument("--imports", type=int, default=0, help="kill so many imports of a GGUF file instead")
    parser.add_argument("--gguf", type=Path, default=PRACTICE_FILE, help="the file (default: the practice model's)")
    options = parser.parse_args()
    if options.imports:
        return kill_imports(options.gguf, options.imports, random.Random(options.seed))
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


def kill_imports(file: Path, kills: int, generator: random.Random) -> int:
    """Print how many imports left what."""
    with tempfile.TemporaryDirectory() as folder:
        imported = ImportToKill(file, Path(folder) / "out")
        left = Counter(imported.killed(generator.random()) for _ in range(kills))
    print(f"imports of {file.name} killed: {kills}, {', '.join(f'{count} {what}' for what, count in left.items())}")
    return int(left["broken"] > 0)


if __name__ == "__main__":
    sys.exit(main())
