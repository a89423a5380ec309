import pytest

from workshop_lib import machine
from workshop_lib.errors import ModelNotFoundError
from workshop_lib.records import ModelVariant
from workshop_lib.runtimes.profiles import in_reading_order, select_variants

CPU, CUDA, TENSORRT = (
    "CPUExecutionProvider",
    "CUDAExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
)
OPENVINO, QNN, WEBGPU = (
    "OpenVINOExecutionProvider",
    "QNNExecutionProvider",
    "WebGpuExecutionProvider",
)


def variant(model_id: str, device: str, provider: str | None, precision: str, cached: bool = True):
    alias = "-".join(model_id.split("-")[:2])
    return ModelVariant(alias, f"{model_id}:1", device, provider, precision, cached=cached)


OFFERED = [
    variant("toy-small-webgpu", "gpu", WEBGPU, "int4"),
    variant("toy-small-cuda", "gpu", CUDA, "int4"),
    variant("toy-small-cuda-fp16", "gpu", CUDA, "fp16"),
    variant("toy-small-cpu", "cpu", CPU, "int4"),
    variant("toy-small-cpu-fp32", "cpu", CPU, "fp32"),
    variant("toy-large-cpu", "cpu", CPU, "int4", cached=False),
    variant("toy-remote", "unknown", None, "int4"),
]


def chosen(names, devices=("cpu", "gpu"), **options):
    options = {"in_auto": lambda variant: bool(variant.cached), **options}
    return [v.model_id.removesuffix(":1") for v in select_variants(OFFERED, names, devices, **options)]


@pytest.mark.parametrize(
    ("names", "devices", "expected"),
    [
        (["toy-small"], ["cpu"], ["toy-small-cpu", "toy-small-cpu-fp32"]),
        (["toy-small"], ["gpu"], ["toy-small-cuda", "toy-small-cuda-fp16"]),
        (["toy-large"], ["gpu"], []),
        (["toy-remote"], ["cpu"], ["toy-remote"]),
        (["toy-small-webgpu:1"], ["cpu"], ["toy-small-webgpu"]),
        (
            ["toy-large", "toy-small"],
            ["cpu"],
            ["toy-large-cpu", "toy-small-cpu", "toy-small-cpu-fp32"],
        ),
        (["toy-small-cpu-fp32:1", "toy-small"], ["cpu"], ["toy-small-cpu-fp32", "toy-small-cpu"]),
        (["auto"], ["cpu"], ["toy-small-cpu", "toy-small-cpu-fp32", "toy-remote"]),
        ([], ["cpu"], []),
    ],
)
def test_names_mean_variants(names, devices, expected):
    """An alias is one variant per device and precision, an id is itself, nothing comes twice."""
    assert chosen(names, devices) == expected


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("toy-smal", "Did you mean toy-small"),
        ("toy-small-cpu", "Did you mean toy-small-cpu:1 or toy-small-cpu-fp32:1?"),
        ("toy-smal-cpu", "Did you mean toy-small"),
        ("toy-small-cpu-fp32", "Did you mean toy-small-cpu-fp32:1?"),
        ("toy-l", "toy-large"),
        ("zzzzzzzz", "There are: toy-small, toy-large, toy-remote."),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, advice):
    """A misspelt name costs one look at the error, not at the catalog."""
    with pytest.raises(ModelNotFoundError, match=f"No model is called '{name}'") as error:
        chosen([name])
    assert advice in error.value.fix


def test_a_name_that_courses_use_but_no_catalog_lists_leads_to_its_neighbours():
    """`models.json` knows what to offer for such names, as far as it is offered here."""
    with pytest.raises(ModelNotFoundError, match=r"Did you mean toy-large\?"):
        chosen(["gemma"], nearest={"gemma": ("toy-large", "not-offered")})


def test_providers_are_preferred_in_the_documented_order():
    """CUDA before TensorRT, OpenVINO, QNN and WebGPU, and any of them before an unknown one."""
    order = [CUDA, TENSORRT, OPENVINO, QNN, WEBGPU, "OtherExecutionProvider"]
    assert sorted(sorted(order), key=machine.rank) == order
    assert machine.rank(None) == machine.rank("OtherExecutionProvider")


def test_models_are_read_smallest_first_and_cpu_before_gpu():
    """Aliases in the order given, then by name; within one CPU first and fewer bits first."""
    ordered = in_reading_order(OFFERED, ["toy-large", "toy-small"])
    assert [v.model_id.removesuffix(":1") for v in ordered] == [
        "toy-large-cpu",
        "toy-small-cpu",
        "toy-small-cpu-fp32",
        "toy-small-cuda",
        "toy-small-webgpu",
        "toy-small-cuda-fp16",
        "toy-remote",
    ]


@pytest.mark.parametrize(
    ("discoverable", "fault", "driver", "expected"),
    [
        (
            [CUDA],
            "no CUDA 13",
            None,
            "CUDAExecutionProvider was found but could not be registered (no CUDA 13).",
        ),
        (
            [CUDA, OPENVINO],
            None,
            None,
            "CUDAExecutionProvider was found but could not be registered.",
        ),
        ([], None, "/usr/bin/nvidia-smi", "although an NVIDIA driver is installed"),
        ([OPENVINO], None, None, "the runtime found no GPU that it can use"),
    ],
)
def test_an_absent_gpu_has_a_reason(monkeypatch, discoverable, fault, driver, expected):
    """What the runtime found, and what it said, makes the reason."""
    monkeypatch.setattr(machine.shutil, "which", lambda command: driver)
    assert expected in machine.why_no_gpu(discoverable, fault)
