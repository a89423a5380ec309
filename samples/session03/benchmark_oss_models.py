"""Benchmark models on every device and print one JSON array, one object per model and device.

Configured by BENCH_* environment variables or flags of the same names (`--help` lists them). Standard output holds
the array and nothing else; progress and notices go to standard error. Exit code 0 if any model is ok, 1 if none is,
2 for a configuration that cannot be used. Also runs as `python -m session03.benchmark_oss_models` from `samples/`.
"""

import sys

try:
    from workshop_lib.programs.commands import benchmark
except ModuleNotFoundError as error:
    sys.exit(f"Python cannot find {error.name}. Run `python3 workshop.py run` once, then use the Python in .venv.")

if __name__ == "__main__":
    sys.exit(benchmark(sys.argv[1:]))
