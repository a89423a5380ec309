"""Every entry of docs/TROUBLESHOOTING.md: the real fault is provoked and its message compared with the document's."""

from __future__ import annotations

import ast
import os
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from tests.behaviours import BEHAVIOURS, SITES, STEADY
from tests.fault_server import CERTIFICATE, FaultServer, free_port
from tests.fault_steps import Behaviour, listed, reply, scaled
from tests.foundry_helpers import PROXIES, PublicCatalog, ask, practice, smallest, wait_until
from tests.kill_helpers import plan_for, start_driver, tiny_server
from tests.markdown import PROJECT
from tests.scripts import FULL, SIMPLE
from tests.scripts import run as run_script
from tests.small_project import SCRIPT, start
from tests.troubleshooting import ENTRIES, expect, shown
from workshop_lib import __main__ as command_line
from workshop_lib import data, summary
from workshop_lib.benchmark import RECORDS_FILE, run_plan
from workshop_lib.client import ChatClient
from workshop_lib.errors import (
    ConfigurationError,
    DataFileError,
    DiskSpaceError,
    EndpointError,
    ModelNotFoundError,
    ModelServerError,
    RecordFileError,
    RuntimeUnavailableError,
    WorkshopError,
)
from workshop_lib.machine import has_gpu
from workshop_lib.plan import make_plan
from workshop_lib.programs import commands
from workshop_lib.records import Completion, ModelVariant, Prompt, Request, Row
from workshop_lib.runtimes import foundry
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.foundry import FoundryRuntime
from workshop_lib.show.charts import report_figures
from workshop_lib.storage import read_run
from workshop_lib.summary import stability_notes

HERE = Path(__file__).parent
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals and no such limits")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to a limit of its memory")
PROMPTS = (Prompt("one", "Say one."),)
MODELS = {"/v1/models": listed("phi-4-mini", "qwen2.5-0.5b")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runtime(cache: Path) -> Iterator[FoundryRuntime]:
    with practice(cache) as opened:
        yield opened


@pytest.fixture(scope="module")
def variant(runtime: FoundryRuntime) -> ModelVariant:
    return smallest(runtime)


def fault_of(kind: type[WorkshopError], runtime: EndpointRuntime | FoundryRuntime) -> str:
    """What listing the models of a runtime shows."""
    with runtime, pytest.raises(kind) as caught:
        runtime.list_models()
    return shown(caught.value)


def measured(behaviours: dict[str, Behaviour], folder: Path, **options: Any) -> tuple[dict[str, Row], tuple[str, ...]]:
    """Rows by alias and the notes of a run against an endpoint with these behaviours."""
    with FaultServer(behaviours) as server:
        runtime = EndpointRuntime(server.base_url)
        plan = make_plan(runtime.find(["auto"]), PROMPTS, **{"rounds": 5, "timeout_s": 5.0, **options})
        run = run_plan(plan, runtime, folder, show_progress=False)
    return {row.alias: row for row in summary.summarise(run)}, stability_notes(run)


# -- the document itself


def test_every_entry_is_reproduced_and_every_test_has_an_entry() -> None:
    """The keys that tests compare are the anchors of the document's entries, all of them."""
    files = [HERE / "test_troubleshooting.py", HERE / "browser" / "test_troubleshooting_page.py"]
    compared = [
        str(node.args[0].value)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "expect"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert sorted(compared) == sorted(ENTRIES)


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_says_what_is_seen_why_and_what_to_do(key: str) -> None:
    """Message, cause and remedy, in this order, in each entry."""
    text = ENTRIES[key].section.text
    assert ENTRIES[key].symptoms
    assert text.index("```text") < text.index("**Cause.**") < text.index("**What to do.**")


# -- installing


def test_an_unsupported_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`workshop.py` under a Python that the runtime has no wheels for."""
    main = runpy.run_path(str(SCRIPT))["main"]
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert main(["run"]) == 2
    expect("unsupported-python", capsys.readouterr().err)


def test_a_debian_without_venv_is_told_the_package(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Python whose `ensurepip` is a package of its own that is not installed, as on Debian."""
    absent = (
        "import sys\nclass Absent:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
        "        if name == 'ensurepip':\n            raise ModuleNotFoundError(\"No module named 'ensurepip'\")\n"
        "sys.meta_path.insert(0, Absent)\n"
    )
    (tmp_path / "usercustomize").mkdir()
    (tmp_path / "usercustomize" / "sitecustomize.py").write_text(absent, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "usercustomize"))
    expect("debian-without-python3-venv", start(project, "run").stderr)


@pytest.mark.slow
def test_an_installation_behind_a_proxy_says_so(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A proxy that refuses: pip asks it, as HTTPS_PROXY says, and the line says what to check."""
    with FaultServer(routes=SITES["proxy-403"]) as proxy:
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name)
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.address)
        monkeypatch.setenv("PIP_INDEX_URL", "https://packages.invalid/simple")
        failed = start(project, "run")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert not (project / ".venv" / "workshop-stamp.txt").exists(), "the next start would trust what there is"
    assert "CONNECT packages.invalid:443" in proxy.lines
    expect("installing-behind-a-proxy", failed.stderr.splitlines()[-1])


def test_a_folder_too_deep_for_windows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without long paths the folder's length decides, before anything is installed."""
    deep = tmp_path / ("a" * 40) / ("b" * 40)
    deep.mkdir(parents=True)
    for name in ("workshop.py", "requirements.txt"):
        shutil.copy(PROJECT / name, deep)
    main = runpy.run_path(str(deep / "workshop.py"))["main"]
    main.__globals__["has_long_paths"] = lambda: False
    assert main(["run"]) == 1
    expect("windows-path-length", capsys.readouterr().err)
    assert not (deep / ".venv").exists()


def test_the_path_check_leaves_room_for_every_file() -> None:
    r"""The longest path below `.venv\Lib\site-packages` and `.venv\share` fits into what is reserved."""
    roots = {".venv/Lib/site-packages": Path(sysconfig.get_path("purelib")), ".venv/share": Path(sys.prefix, "share")}
    longest = max(
        len(prefix) + len(os.path.join(folder, name)) - len(str(root))  # noqa: PTH118 - 40 000 of them
        for prefix, root in roots.items()
        for folder, _, names in os.walk(root)
        for name in names
    )
    assert longest <= runpy.run_path(str(SCRIPT))["LONGEST"]


def test_a_python_without_the_packages_is_recognised(tmp_path: Path) -> None:
    """A script, a notebook's first cell, the full script and the command, each on a Python without packages."""
    cells = nbformat.read(PROJECT / "notebooks" / "01_download_models.ipynb", as_version=4).cells
    first = next(cell.source for cell in cells if cell.cell_type == "code" and "import" in cell.source)
    endings = []
    for arguments in ([str(SIMPLE)], ["-c", first], [str(FULL)], ["-m", "workshop_lib"]):
        command = [sys.executable, "-I", "-S", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 1
        endings.append(done.stderr.splitlines()[-1])
    expect("missing-module", *endings)


def test_a_missing_runtime_says_what_to_install(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK cannot be imported: the child says why, the error what to do."""
    package = tmp_path / "foundry_local_sdk"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('no wheel for this platform')", encoding="utf-8")
    with monkeypatch.context() as missing:
        missing.setenv("FOUNDRY_LOCAL_LIB_DIR", str(tmp_path))  # the package is there, its native library is not
        assert "pip install foundry-local-sdk" in fault_of(RuntimeUnavailableError, practice(cache))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    expect("runtime-not-installed", fault_of(RuntimeUnavailableError, practice(cache)))


# -- models


def test_a_wrong_name_is_answered_with_the_nearest(runtime: FoundryRuntime, tmp_path: Path) -> None:
    """A slip of the pen, and a name of the course that no catalog has, which models.json knows."""
    with pytest.raises(ModelNotFoundError) as slip:
        runtime.find(["practice-smal"])
    offered = {"/v1/models": listed("qwen2.5-1.5b", "phi-4-mini")}
    with (
        FaultServer({}, offered) as server,
        EndpointRuntime(server.base_url, cards=data.read_models()) as endpoint,
        pytest.raises(ModelNotFoundError) as unknown,
    ):
        endpoint.find(["gemma-2-2b"])
    expect("model-not-in-the-catalog", shown(slip.value), shown(unknown.value))


def test_no_network_is_a_catalog_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The public catalog behind a proxy that is not there, with an empty cache."""
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    expect("catalog-does-not-answer", fault_of(ModelServerError, FoundryRuntime("foundry", cache_dir=tmp_path)))


def test_a_download_that_stalls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime asks for the model's files and never gets a byte: every try ends in time, the last one says so."""
    with FaultServer(routes=SITES["silent"]) as silent:
        for name in PROXIES:
            monkeypatch.setenv(name, silent.address)
        monkeypatch.setattr(foundry, "STALL_S", 3.0)
        monkeypatch.setattr(foundry, "ATTEMPTS", 1)
        with PublicCatalog() as public, public.runtime(cache_dir=tmp_path) as runtime:
            (toy,) = runtime.find([public.model_id])
            with pytest.raises(ModelServerError) as caught:
                runtime.download(toy)
    assert silent.calls, "nothing was downloaded, so nothing stalled"
    expect("stalled-download", shown(caught.value))


def test_a_model_that_does_not_fit_the_disk_is_refused(tmp_path: Path) -> None:
    """A model of a million terabytes against the disk that is really there."""
    with PublicCatalog() as public, public.runtime(cache_dir=tmp_path) as runtime:
        (toy,) = runtime.find([public.model_id])
        with pytest.raises(DiskSpaceError) as caught:
            runtime.download(replace(toy, size_mb=1e12))
    expect("disk-full", shown(caught.value))


def test_a_damaged_model_file_is_named_and_can_be_replaced(tmp_path: Path) -> None:
    """Half a weight file in the cache, loaded again once its folder is new; and a shipped folder that is gone."""
    with PublicCatalog() as public, public.runtime(cache_dir=tmp_path) as runtime:
        public.cache(runtime.models_dir)
        (toy,) = runtime.find(["toy"])
        (weights,) = runtime.models_dir.rglob("model.onnx.data")
        os.truncate(weights, weights.stat().st_size // 2)
        with pytest.raises(ModelServerError) as damaged:
            runtime.serve(toy)
        shutil.rmtree(weights.parent)
        public.cache(runtime.models_dir)
        with runtime.serve(toy) as served:
            assert ask(served.base_url, toy.model_id)
    index = shutil.copy(data.PRACTICE_INDEX_FILE, tmp_path / "index.json")  # and no folder beside it
    with practice(tmp_path / "other", index_file=index) as runtime, pytest.raises(DataFileError) as shipped:
        runtime.serve(runtime.find(["practice-small"])[0])
    expect("damaged-model-file", shown(damaged.value), shown(shipped.value))


@linux_only
def test_out_of_memory_is_recognised(
    runtime: FoundryRuntime, variant: ModelVariant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model killed by the system's signal, and one that a limit of its address space keeps from loading."""
    with runtime.serve(variant) as doomed:
        psutil.Process(doomed.pid).kill()
        wait_until(lambda: doomed.failure() is not None, within_s=30)
        killed = str(doomed.failure())
    expect("out-of-memory", killed, refused_memory(runtime, variant, monkeypatch))


def refused_memory(runtime: FoundryRuntime, small: ModelVariant, monkeypatch: pytest.MonkeyPatch) -> str:
    """Load a large model in less address space than it takes, and in a little more than a small one takes.

    A limit far too low stops the runtime itself; so it is lowered from what the large one takes, step by step.
    """
    import resource

    large = max(runtime.find(["auto"], devices=["cpu"]), key=lambda each: each.size_mb or 0)
    sizes = []
    for model in (small, large):
        with runtime.serve(model) as served:
            sizes.append(psutil.Process(served.pid).memory_info().vms)
    start_child = subprocess.Popen
    seen = []
    for limit in range(sizes[1], sizes[0] - 20_000_000, -3_000_000):
        hold = partial(resource.setrlimit, resource.RLIMIT_AS, (limit, limit))
        monkeypatch.setattr(subprocess, "Popen", partial(start_child, preexec_fn=hold))
        try:
            runtime.serve(large).stop()
        except WorkshopError as error:
            seen.append(shown(error))
            if "bad_alloc" in seen[-1]:
                break
    return seen[-1]


def test_a_gpu_that_cannot_be_used_is_explained(
    runtime: FoundryRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No provider, without and with a driver's program on the path, and a GPU build asked for by its id."""
    if "gpu" not in runtime.absent_devices():
        pytest.skip("this machine has a GPU provider")
    program = tmp_path / ("nvidia-smi.exe" if os.name == "nt" else "nvidia-smi")
    monkeypatch.setenv("PATH", str(tmp_path))
    without = runtime.absent_devices()["gpu"]
    with pytest.raises(ModelNotFoundError) as caught:
        runtime.find(["practice-small-fp16-cuda-gpu:1"])
    program.write_bytes(b"")
    program.chmod(0o755)
    expect("no-gpu-though-there-is-one", without, runtime.absent_devices()["gpu"], shown(caught.value))


def test_a_gpu_build_that_ran_without_a_provider_is_warned_of(tmp_path: Path) -> None:
    """A server that calls its model a GPU build and registers nothing that is one: the row says so."""
    rows, _ = measured({"phi-cuda-gpu": replace(STEADY, first_token_s=0.001, pace_s=0.001, tokens=4)}, tmp_path)
    assert not has_gpu(())
    assert "gpu_not_registered" in rows["phi-cuda-gpu"].warnings
    expect("gpu-build-may-have-run-on-the-cpu", summary.WARNINGS["gpu_not_registered"])


def test_a_slow_first_response_is_set_apart(tmp_path: Path) -> None:
    """The first of six answers takes a quarter of a second more: warned of, told, and in no average."""
    cold = replace(STEADY, first_token_s=0.005, pace_s=0.001, tokens=8, slow_requests={0: 0.25})
    rows, notes = measured({"cold": cold}, tmp_path)
    assert "cold_start" in rows["cold"].warnings
    assert (rows["cold"].cold_start_s or 0) > 0.25 > (rows["cold"].latency_avg or 1)
    (note,) = (note for note in notes if "first request" in note)
    expect("slow-first-response", summary.WARNINGS["cold_start"], note)


def test_a_machine_that_slows_down_is_named(tmp_path: Path) -> None:
    """Each of 24 answers comes 5 ms later than the one before: warned of, told and drawn; the steady model is not."""
    models = {name: replace(scaled(BEHAVIOURS[name], 0.25), tokens=10) for name in ("steady", "throttled")}
    rows, notes = measured(models, tmp_path, rounds=24)
    assert {name: "drift" in row.warnings for name, row in rows.items()} == {"steady": False, "throttled": True}
    assert "drift" in report_figures(read_run(tmp_path / RECORDS_FILE))
    (note,) = (note for note in notes if "at its beginning" in note)
    expect("slower-and-slower", summary.WARNINGS["drift"], note)


def test_a_prompt_longer_than_the_context_is_named(runtime: FoundryRuntime, variant: ModelVariant) -> None:
    """3 000 words for a model that can read 1 024 tokens, asked with and without streaming."""
    with runtime.serve(variant) as served, ChatClient(served.base_url) as chat:
        answers = [
            chat.ask(Request("long", variant, "p", "word " * 3000, 1, 20, stream=stream)) for stream in (True, False)
        ]
    expect("prompt-too-long", *{str(answer.error) for answer in answers})


# -- endpoints


def test_nobody_at_the_address_is_named() -> None:
    """A port on which nothing listens."""
    runtime = EndpointRuntime(f"http://127.0.0.1:{free_port()}/v1")
    expect("connection-refused", fault_of(EndpointError, runtime))


def test_another_program_at_the_port_is_recognised() -> None:
    """A web server that knows no such page, and one that shows its page for everything."""
    not_found = reply(b"<!DOCTYPE html><html>Error response</html>", 404, "text/html")
    with FaultServer(routes={"*": not_found}) as other:
        first = fault_of(EndpointError, EndpointRuntime(other.base_url))
    with FaultServer(routes=SITES["sign-in"]) as page:
        second = fault_of(EndpointError, EndpointRuntime(page.base_url))
    expect("wrong-port", first, second)


@posix_only
def test_a_proxy_in_between_is_recognised_and_can_be_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not this machine is asked for through the proxy, unless NO_PROXY names it."""
    elsewhere = "http://models.invalid/v1"
    with FaultServer(routes=SITES["proxy-403"]) as proxy:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.address)
        expect("corporate-proxy", fault_of(EndpointError, EndpointRuntime(elsewhere)))
        assert proxy.lines == [f"GET {elsewhere}/models"]
        monkeypatch.setenv("NO_PROXY", "models.invalid")
        assert "models.invalid is not known" in fault_of(EndpointError, EndpointRuntime(elsewhere))
        assert len(proxy.calls) == 1


def test_a_certificate_that_is_not_trusted_is_the_reason_and_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Self-signed, http for https, and a file that is missing; with the right file the server is reached."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer(certificate=CERTIFICATE) as server:
        secure, plain = server.base_url, server.base_url.replace("https", "http")
        said = [fault_of(EndpointError, EndpointRuntime(address)) for address in (secure, plain)]
        monkeypatch.setenv("SSL_CERT_FILE", "no-such.pem")
        said.append(fault_of(ConfigurationError, EndpointRuntime(secure)))
        expect("certificate-not-trusted", *said)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert EndpointRuntime(secure).list_models()


def test_no_proxy_stands_before_this_machine(
    runtime: FoundryRuntime, variant: ModelVariant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every proxy variable set, listing, loading and asking on this machine ask the proxy for nothing."""
    with FaultServer(routes=SITES["proxy-403"]) as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.address)
        with runtime.serve(variant) as served, ChatClient(served.base_url) as chat:
            assert variant.model_id in chat.list_models()
            answer = chat.ask(Request("one", variant, "p", "What is edge AI?", 1, 8))
        assert answer.ok
        assert proxy.calls == []


def test_a_missing_key_is_named() -> None:
    """A server that wants a bearer token, asked without and with it."""
    with FaultServer(routes=MODELS, key="right") as server:
        expect("key-missing", fault_of(EndpointError, EndpointRuntime(server.base_url)))
        assert len(EndpointRuntime(server.base_url, api_key="right").list_models()) == 2


def test_a_server_that_has_loaded_nothing_is_named() -> None:
    """Foundry Local lists what it could load; `auto` finds nothing that answers."""
    routes = {**MODELS, "/models/loaded": reply([])}
    with (
        FaultServer(routes=routes) as server,
        EndpointRuntime(server.base_url) as runtime,
        pytest.raises(ModelNotFoundError) as caught,
    ):
        runtime.find(["auto"])
    expect("nothing-loaded", shown(caught.value))


def test_an_answer_that_stalls_is_a_failed_row(tmp_path: Path) -> None:
    """The server takes the request and sends nothing."""
    rows, _ = measured({"slow": BEHAVIOURS["stall-before"]}, tmp_path, timeout_s=0.3)
    assert rows["slow"].status == "failed"
    expect("stalled-answer", str(rows["slow"].error))


# -- runs


def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag of the command, a variable of the script and a place that cannot be written: one line, exit code 2."""
    assert command_line.main(["run", "--rounds", "0"]) == 2
    flag = capsys.readouterr().err
    monkeypatch.setenv("BENCH_TEMPERATURE", "warm")
    assert commands.benchmark([]) == 2
    variable = capsys.readouterr().err
    monkeypatch.delenv("BENCH_TEMPERATURE")
    assert commands.benchmark(["--json", str(tmp_path)]) == 2
    expect("setting-cannot-be-used", flag, variable, capsys.readouterr().err)


@posix_only
@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured_and_the_folder_completes_it(tmp_path: Path) -> None:
    """Interrupted after some requests, started again with the same `--output`: none is lost, none asked twice."""
    quick = replace(STEADY, first_token_s=0.004, pace_s=0.001, tokens=8)
    records = tmp_path / RECORDS_FILE
    with FaultServer({"quick": quick}) as server:
        settings = {"FOUNDRY_LOCAL_ENDPOINT": server.base_url, "BENCH_PROMPT": "Say it.", "BENCH_ROUNDS": "40"}
        process = subprocess.Popen(
            [sys.executable, str(FULL), "--output", str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(PROJECT), **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it may come ignored
        )
        wait_until(lambda: records.exists() and records.read_bytes().count(b"\n") > 8, within_s=30)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        kept = timed_of(read_run(records).completions)
        assert 0 < len(kept) < 40
        again = run_script(FULL, "--output", str(tmp_path), **settings)
    assert again.returncode == 0, again.stderr
    complete = timed_of(read_run(records).completions)
    assert complete[: len(kept)] == kept
    assert len(set(complete)) == len(complete) == 40
    expect("stopped-by-ctrl-c", said.splitlines()[-1])


def timed_of(completions: tuple[Completion, ...]) -> list[str]:
    """The ids of the timed requests, in their order."""
    return [each.request_id for each in completions if each.round > 0]


def test_a_folder_in_use_or_of_another_plan_is_refused(tmp_path: Path) -> None:
    """A second run beside the first, and later one with other settings, in the same folder."""
    with tiny_server() as server:
        first = start_driver(server.base_url, tmp_path, 200)
        try:
            assert first.stdout is not None
            first.stdout.readline()  # it has acknowledged a request, so it holds the file
            with pytest.raises(RecordFileError) as taken:
                run_plan(plan_for(200), EndpointRuntime(server.base_url), tmp_path, show_progress=False)
        finally:
            first.kill()
            first.communicate()
        with pytest.raises(ConfigurationError) as other:
            run_plan(plan_for(3), EndpointRuntime(server.base_url), tmp_path, show_progress=False)
    expect("folder-of-another-run", shown(taken.value), shown(other.value))
