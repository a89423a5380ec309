"""What every test can rely on: no settings from outside, no window, no time limit per example."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"
settings.register_profile("workshop", deadline=None)  # shared machines are slow at times
settings.load_profile("workshop")

OUTSIDE = ("BENCH_", "FOUNDRY_LOCAL_", "RETRY_")
ALSO_OUTSIDE = ("API_KEY", "SHOW_USAGE")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(OUTSIDE) or name in ALSO_OUTSIDE:
            monkeypatch.delenv(name)
