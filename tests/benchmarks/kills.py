"""Kill an import of a GGUF file at random moments, again and again: each leaves a whole folder or none.

Run `python tests/benchmarks/kills.py --imports 50`, with `--gguf` for your own file; exits with 1 if one is broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.gguf_helpers import ImportToKill
from workshop_lib.own_models import PRACTICE_FILE


def main() -> int:
    """Print how many imports left what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imports", type=int, default=50, help="how many are killed (default: 50)")
    parser.add_argument("--seed", type=int, default=3, help="seed of the moments (default: 3)")
    parser.add_argument("--gguf", type=Path, default=PRACTICE_FILE, help="the file (default: the practice model's)")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        imported = ImportToKill(options.gguf, Path(folder) / "out")
        left = Counter(imported.killed(generator.random()) for _ in range(options.imports))
    said = ", ".join(f"{count} {what}" for what, count in left.items())
    print(f"imports of {options.gguf.name} killed: {options.imports}, {said}")
    return int(left["broken"] > 0)


if __name__ == "__main__":
    sys.exit(main())
