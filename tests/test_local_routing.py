"""Registered adapters among the other models: found, served, measured, judged and compared like any."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.adapter_helpers import GENAI, SMALL, register
from tests.foundry_helpers import ask, is_gone
from workshop_lib import places
from workshop_lib.archive import results, storage
from workshop_lib.errors import ModelNotFoundError, ModelServerError, RuntimeUnavailableError
from workshop_lib.measuring.plan import choose_variants
from workshop_lib.metrics import summaries
from workshop_lib.programs import commands, notebooks
from workshop_lib.quality import annotation, scores
from workshop_lib.records import ModelVariant
from workshop_lib.registration import adapter_process, model_folders, registered_models
from workshop_lib.serving import profiles
from workshop_lib.serving.local_routing import LocalRuntime

SCRIPT = places.PROJECT / "samples" / "session03" / "benchmark_oss_models.py"
OWN = "own"
OWN_ID = "own-adapter-cpu:1"
OTHER_ID = "practice-medium-int4-generic-cpu:1"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model cache of this file, where the worked adapter is registered on a practice model's weights."""
    folder = tmp_path_factory.mktemp("cache")
    adapter_process.register_adapter(
        OWN, SMALL, GENAI, licence="MIT", precision="int4", capabilities=("explain",), cache_dir=folder
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE_DIR", str(folder))
        patch.delenv("FOUNDRY_LOCAL_ENDPOINT", raising=False)
        yield folder


@pytest.fixture(scope="module")
def runtime(cache: Path) -> Iterator[profiles.Runtime]:
    with profiles.open_runtime("practice", cache_dir=cache) as opened:
        yield opened


class NoRuntime:
    """A runtime that cannot run here, as on a platform without its wheel."""

    profile = "practice"

    def _missing(self, *_: Any, **__: Any) -> Any:
        raise RuntimeUnavailableError("The Foundry Local runtime cannot run here.", "Install it.")

    list_models = find = serve = download = absent_devices = _missing

    def left_out(self) -> list[tuple[ModelVariant, str]]:
        return []

    def close(self) -> None:
        """Nothing was started."""

    def __enter__(self) -> NoRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""


def ids(variants: list[ModelVariant]) -> list[str]:
    return [variant.model_id for variant in variants]


def test_an_adapter_is_listed_behind_the_runtimes_own_models(runtime: profiles.Runtime) -> None:
    """With all that tables and routing ask for: licence, size, precision, context, capabilities."""
    *_, mine = runtime.list_models()
    assert mine == ModelVariant(
        alias=OWN,
        model_id=OWN_ID,
        device="cpu",
        execution_provider="CPUExecutionProvider",
        precision="int4",
        size_mb=0.416305,
        licence="MIT",
        context_tokens=1024,
        capabilities=("explain",),
        cached=True,
    )
    assert runtime.profile == "practice"


def test_names_find_adapters_and_other_models_in_the_order_given(runtime: profiles.Runtime) -> None:
    """Alias, exact id and `auto` mix; each model comes once, and `auto` ends with the adapters."""
    assert ids(runtime.find([OWN])) == ids(runtime.find([OWN_ID])) == [OWN_ID]
    assert ids(runtime.find([OWN, OTHER_ID, OWN_ID])) == [OWN_ID, OTHER_ID]
    every = ids(runtime.find(["auto"]))
    assert every[-1] == OWN_ID
    assert OTHER_ID in every
    assert len(set(every)) == len(every)
    assert ids(runtime.find([OWN, "auto"]))[0] == OWN_ID


def test_an_adapter_keeps_to_its_device(runtime: profiles.Runtime) -> None:
    """Who asks for GPUs only gets no CPU adapter by alias or `auto`; an exact id is taken whatever its device."""
    assert runtime.find([OWN], devices=["gpu"]) == []
    assert OWN_ID not in ids(runtime.find(["auto"], devices=["gpu"]))
    assert ids(runtime.find([OWN_ID], devices=["gpu"])) == [OWN_ID]


def test_an_unknown_name_is_answered_with_the_nearest_of_both(runtime: profiles.Runtime, cache: Path) -> None:
    """A slip of the finger may mean a registered model or one of the runtime's."""
    with pytest.raises(ModelNotFoundError, match=r"No model is called 'owm'\. Did you mean own, which is registered"):
        runtime.find(["owm"])
    with pytest.raises(ModelNotFoundError, match="Did you mean practice-small"):
        runtime.find(["practice-smal"])


def test_an_adapter_needs_no_runtime(cache: Path) -> None:
    """Where the SDK has no wheel, what is asked for by its registered name is found, served and answers."""
    with LocalRuntime(NoRuntime(), cache_dir=cache) as alone:
        (mine,) = alone.find([OWN])
        with alone.serve(mine) as served:
            assert ask(served.base_url, OWN_ID)
        with pytest.raises(RuntimeUnavailableError):
            alone.find(["auto"])


class Public(NoRuntime):
    """A catalog that has come to offer an alias that somebody registered before."""

    theirs = ModelVariant("taken", "taken-generic-cpu:1", "cpu", cached=True)

    def list_models(self) -> list[ModelVariant]:
        return [self.theirs]

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        return [self.theirs]


@pytest.mark.parametrize("look", [LocalRuntime.list_models, lambda runtime: runtime.find(["auto"])])
def test_an_alias_of_two_models_is_warned_of_once(
    look: Callable[[LocalRuntime], list[ModelVariant]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can know beforehand what the public catalog will list; both are there, each by its exact id."""
    mine = register(tmp_path, "taken")
    with caplog.at_level(logging.WARNING), LocalRuntime(Public(), cache_dir=tmp_path) as runtime:
        assert ids(look(runtime)) == ["taken-generic-cpu:1", mine.model_id]
        look(runtime)
        assert ids(runtime.find(["taken"])) == [mine.model_id]
        assert ids(runtime.find(["taken-generic-cpu:1"])) == ["taken-generic-cpu:1"]
    (warning,) = caplog.records
    assert "The alias 'taken' means two models: taken-adapter-cpu:1" in warning.getMessage()


def test_an_endpoint_is_left_as_it_is(cache: Path) -> None:
    """Another machine's server knows nothing of what is registered here."""
    with profiles.open_runtime("endpoint", endpoint="http://127.0.0.1:9/v1") as remote:
        assert not isinstance(remote, LocalRuntime)


def test_a_model_that_is_registered_later_is_seen_at_once(runtime: profiles.Runtime, cache: Path) -> None:
    """An open runtime looks at the file each time: registering and unregistering need no restart."""
    late = register(cache, "late")
    assert late.model_id in ids(runtime.list_models())
    assert ids(runtime.find(["late"])) == [late.model_id]
    registered_models.remove("late", cache_dir=cache)
    with pytest.raises(ModelNotFoundError):
        runtime.find(["late"])


def test_a_registered_folder_is_the_runtimes_own_affair(cache: Path, tmp_path: Path) -> None:
    """It is listed once, by the runtime, and served by it."""
    place = shutil.copytree(SMALL, tmp_path / "folder")
    folder = model_folders.register_folder(place, alias="a-folder", cache_dir=cache)
    try:
        with profiles.open_runtime("practice", cache_dir=cache) as opened:
            assert ids(opened.list_models()).count(folder.model_id) == 1
            (variant,) = opened.find(["a-folder"])
            with opened.serve(variant) as served:
                assert ask(served.base_url, folder.model_id)
    finally:
        registered_models.remove("a-folder", cache_dir=cache)


def test_an_adapter_has_nothing_to_download(runtime: profiles.Runtime) -> None:
    """Its files only have to be there: the bar is full at once."""
    (mine,) = runtime.find([OWN])
    seen: list[float] = []
    runtime.download(mine, on_progress=seen.append)
    assert seen == [100.0]


def test_closing_the_runtime_stops_its_adapters(cache: Path) -> None:
    """A forgotten model ends with its runtime, whoever answers in it."""
    with profiles.open_runtime("practice", cache_dir=cache) as opened:
        served = opened.serve(opened.find([OWN])[0])
    assert served.pid is not None
    assert is_gone(served.pid)


def test_an_adapter_whose_weights_are_gone_is_skipped_with_the_reason(
    runtime: profiles.Runtime, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is listed as not there, left out of `auto` with one warning, and a skipped row with the reason either way."""
    lost = register(cache, "lost")
    variant, variant_gone = lost.variant(), lost.variant(cached=False)
    lost.place.unlink()
    try:
        assert [each.cached for each in runtime.list_models() if each.alias == "lost"] == [False]
        with caplog.at_level(logging.WARNING):
            assert lost.model_id not in ids(runtime.find(["auto"]))
            runtime.find(["auto"])
        assert [record.getMessage().partition(" at ")[0] for record in caplog.records] == [
            "The weights of 'lost' cannot be found any more"
        ]
        _, skipped = choose_variants(runtime, ["auto"], ["cpu", "gpu"])
        assert [each for each in skipped if each[0].device == "cpu"] == [(variant_gone, runtime.left_out()[0][1])]
        assert not [each for each in choose_variants(runtime, ["auto"], ["gpu"])[1] if each[0].alias == "lost"]
        chosen, skipped = choose_variants(runtime, [OWN], ["cpu"])
        assert (ids(chosen), skipped) == ([OWN_ID], []), "who does not ask for it is not told of it"
        chosen, skipped = choose_variants(runtime, ["lost", OWN, "auto"], ["cpu"])
        assert OWN_ID in ids(chosen)
        assert [(each.alias, reason.partition(" at ")[0]) for each, reason in skipped] == [
            ("lost", "The weights of 'lost' cannot be found any more")
        ]
        assert "unregister lost" in skipped[0][1]
        assert skipped == [(ModelVariant("lost", "lost", "unknown"), skipped[0][1])], "once, though asked for twice"
        for action in (runtime.download, runtime.serve):
            with pytest.raises(ModelServerError, match="The weights of 'lost' cannot be found any more"):
                action(variant)
    finally:
        registered_models.remove("lost", cache_dir=cache)


# The same scripts and pages, unchanged


@pytest.fixture(scope="module")
def measured(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full script, run by a person, on the adapter and one of the runtime's own models."""
    folder = tmp_path_factory.mktemp("measured")
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            f"--models={OWN},{OTHER_ID}",
            "--devices=cpu",
            "--rounds=1",
            f"--output={folder}",
        ],
        env={**os.environ, "WORKSHOP_CACHE_DIR": str(cache), "PYTHONPATH": str(places.PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (folder / "array.json").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_benchmark_script_measures_an_adapter_like_any_model(measured: Path) -> None:
    """One object each, everything measured that is measured of the runtime's own model, tokens from usage."""
    rows = {row["model_id"]: row for row in json.loads((measured / "array.json").read_text(encoding="utf-8"))}
    mine, theirs = rows[OWN_ID], rows[OTHER_ID]
    assert (mine["alias"], mine["device"], mine["status"], mine["rounds"]) == (OWN, "cpu", "ok", 1)
    assert mine["requests_ok"] == theirs["requests_ok"] == 8
    assert mine["tokens_source"] == theirs["tokens_source"] == "usage"
    for name in ("prompt_tokens_avg", "licence", "precision"):  # the same questions, counted alike
        assert mine[name] == theirs[name], name
    for name in ("latency_avg", "first_token_latency_avg", "load_s", "cold_start_s", "resident_mb", "peak_resident_mb"):
        assert mine[name] > 0, name


def test_the_report_of_an_adapter_can_be_compared(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`compare` reads the report and holds the adapter against the runtime's own model."""
    report = measured / "benchmark_report.json"
    assert {sample.model_id for sample in results.read_results(report).samples} == {OWN_ID, OTHER_ID}
    assert commands.compare(report, report, model=OTHER_ID, against=OWN_ID) == 0
    said = capsys.readouterr().out
    assert "latency" in said
    assert OWN_ID in said


def test_the_benchmark_page_measures_an_adapter_unchanged(cache: Path, tmp_path: Path) -> None:
    """Page 02 runs on `models="own"` as it is, race and all, and records eight answers."""
    parameters: dict[str, notebooks.Value] = {"models": OWN, "devices": "cpu", "rounds": 1, "users": ""}
    page = notebooks.FOLDER / "02_benchmark_models.ipynb"
    notebooks.run_notebook(page, tmp_path / "02.ipynb", {**parameters, "output": str(tmp_path / "run")})
    (row,) = summaries.summarise(storage.read_run(tmp_path / "run" / "records.jsonl"))
    assert (row.alias, row.status, row.requests_ok) == (OWN, "ok", 8)


def test_an_adapter_is_the_judge_on_the_quality_page(measured: Path, tmp_path: Path) -> None:
    """Page 04 runs as it is on the answers of both; the adapter judges the other model's, and not its own."""
    page = notebooks.FOLDER / "04_annotate_quality.ipynb"
    parameters: dict[str, notebooks.Value] = {"records": str(measured / "records.jsonl"), "judge_model": OWN}
    notebooks.run_notebook(page, tmp_path / "04.ipynb", {**parameters, "output": str(tmp_path)})
    verdicts = scores.read_all(annotation.folder(str(tmp_path)))
    judged = [each for each in verdicts if isinstance(each, scores.Score)]
    found = scores.distinct_answers(storage.read_run(measured / "records.jsonl"))
    others = [each for each in found if OWN_ID not in {author.model_id for author in each.authors}]
    assert others
    assert {each.prompt_id for each in judged} == {each.prompt.id for each in others}
    assert {each.rater for each in judged} == {f"judge:{OWN_ID}"}
