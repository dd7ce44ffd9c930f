"""Prediction on a GPU: the same labels as on the CPU, few waits, and an answer or a clear message when memory runs out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.network import ScaleGroup
from configs.plan import ModelPlan, Plan
from inference.device import DeviceMemoryError
from inference.engine.assemble import Wanted
from inference.model import Model
from inference.options import PredictionOptions
from inference.predictor import Predictor
from preprocessing.geometry.affine import Geometry
from se_unet.builder import build_network
from tests.gpu.standin.ledger import Ledger
from tests.inference.models import Thresholds, plan, threshold_model
from tests.inference.test_cascade import second_stage

SHAPE = (18, 20, 26)
GRID = Geometry.from_spacing(SHAPE, (1.2, 0.9, 1.0))
OPTIONS = {
    "default": PredictionOptions(),
    "without mirroring": PredictionOptions(mirror=False),
    "scales": PredictionOptions(scales=(0.8, 1.0, 1.25), scale_weights=(1.0, 2.0, 1.0)),
    "logits": PredictionOptions(average="logits", step=0.7),
    "one tile at a time": PredictionOptions(tile_batch=1),
    "search": PredictionOptions(search="always"),
}


@pytest.fixture
def image() -> NDArray[np.float32]:
    z, y, x = np.indices(SHAPE)
    inside = ((z - 9) ** 2 + (y - 10) ** 2 + (x - 13) ** 2 < 49) * 2.0
    return (inside + np.random.default_rng(0).normal(0, 0.3, SHAPE))[None].astype(np.float32)


def smooth_plan(made: Plan, number: int) -> Plan:
    """The same plan for a smooth network of that many scales."""
    configuration = made.configuration("3d_fullres")
    planned = configuration.networks["baseline"]
    group = ScaleGroup(smallest_sigma=0.9, number=number)
    smooth = planned.network.model_copy(update={"family": "se", "scale_group": group, "scale_mixing": int(number > 1)})
    networks = {"baseline": planned.model_copy(update={"network": smooth})}
    return made.model_copy(update={"configurations": {"3d_fullres": configuration.model_copy(update={"networks": networks})}})


def model(family: str, folds: int = 2) -> Model:
    made = plan(scheme="zscore")
    if family != "baseline":
        made = smooth_plan(made, int(family))
    networks = {}
    for fold in range(folds):
        torch.manual_seed(fold)
        networks[str(fold)] = build_network(made.network("3d_fullres", "baseline").network).eval()
    return Model(ModelPlan(made), networks)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        pytest.param(family, name, marks=pytest.mark.thorough if family == "3" and name != "default" else ())
        for family in ("baseline", "1", "3")
        for name in OPTIONS
    ],
)
def test_labels_and_probabilities_are_those_of_the_cpu(gpu: Ledger, image: NDArray[np.float32], family: str, name: str) -> None:
    wanted = Wanted(probabilities=True, uncertainty=True, sums=True)
    here = Predictor(model(family), "cpu", OPTIONS[name]).segment(image, GRID, wanted)
    there = Predictor(model(family), "cuda", OPTIONS[name]).segment(image, GRID, wanted)
    assert gpu.launches > 0
    assert (here.labels == there.labels).mean() > 0.995
    assert here.probabilities is not None and there.probabilities is not None
    assert np.abs(here.probabilities - there.probabilities).max() < 0.01


class Loud(Thresholds):
    """Intermediate numbers beyond the range of float16, which cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3, 3), 300.0))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        loud = torch.einsum("kj,bjzyx->bkzyx", self.weight, y)
        return loud - loud + y


@pytest.mark.parametrize("bf16", [True, False])
def test_an_overflow_in_half_precision_is_said_and_computed_again(
    gpu: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bf16: bool
) -> None:
    """Before, it became NaN and then background, in silence."""
    bright = np.full((1, 16, 16, 16), 1.7, np.float32)
    bright[0, :8] = 12.5
    grid = Geometry.from_spacing((16, 16, 16), (1.0, 1.0, 1.0))
    made = Model(ModelPlan(plan()), {"0": Loud()})
    here = Predictor(made, "cpu").segment(bright, grid).labels
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    predictor = Predictor(made, "cuda")
    for _ in range(2):
        assert (predictor.segment(bright, grid).labels == here).mean() > 0.99
    wider = "bfloat16" if bf16 else "float32"
    assert caplog.text.count("overflow in") == 1 and f"overflow in float16; continuing in {wider}" in caplog.text


@pytest.mark.parametrize("name", ["default", "scales"])
def test_the_host_waits_once_per_brick_and_volume_and_not_per_tile(gpu: Ledger, name: str) -> None:
    """More tiles bring no more waits."""
    waits, tiles = [], []
    for step in (1.0, 0.4):
        predictor = Predictor(model("baseline", folds=1), "cuda", replace(OPTIONS[name], step=step, mirror=False))
        gpu.restart()
        predictor.segment(np.zeros((1, 20, 40, 40), np.float32), Geometry.from_spacing((20, 40, 40), (1.0, 1.0, 1.0)))
        waits.append(gpu.number_of_waits)
        tiles.append(gpu.operators["addcmul_"])
    assert tiles[1] > 2 * tiles[0]
    assert waits[0] == waits[1] < 40, gpu.waits


def walk(gpu: Ledger, make: Callable[[], Predictor], image: NDArray[np.float32]) -> None:
    """Let an allocation fail, from the first to the last of a prediction, in about ten places.

    Once: the answer is the same. From there on: it is the same, or the message says what to do.
    """
    predictor = make()
    gpu.restart()
    expected = predictor.segment(image, GRID).labels
    total = gpu.memory.allocations
    for number in sorted({*range(0, total, max(1, total // 10)), total - 1}):
        predictor = make()
        for fails in (number.__eq__, number.__le__):
            gpu.restart()
            gpu.memory.fails = fails
            try:
                assert (predictor.segment(image, GRID).labels == expected).mean() > 0.999
            except DeviceMemoryError as error:
                assert fails == number.__le__ and "--device cpu" in str(error)
            finally:
                gpu.memory.restart()


@pytest.mark.parametrize(
    ("family", "name", "folds"),
    [
        ("baseline", "default", 1),
        pytest.param("baseline", "default", 3, marks=pytest.mark.thorough),
        pytest.param("1", "search", 2, marks=pytest.mark.thorough),
        pytest.param("3", "scales", 1, marks=pytest.mark.thorough),
    ],
)
def test_memory_may_run_out_at_any_allocation(
    gpu: Ledger, image: NDArray[np.float32], family: str, name: str, folds: int
) -> None:
    made, options = model(family, folds), replace(OPTIONS[name], step=1.0)
    walk(gpu, lambda: Predictor(made, "cuda", options), image)


def test_memory_may_run_out_in_either_stage_of_a_cascade(gpu: Ledger, image: NDArray[np.float32]) -> None:
    options = PredictionOptions(mirror=False, scales=(1.0,))
    walk(gpu, lambda: Predictor(second_stage(), "cuda", options, Predictor(threshold_model(), "cuda", options)), image)


def test_all_members_of_an_ensemble_make_room(gpu: Ledger) -> None:
    """Two light members and a heavy one fit where the heavy one fits alone: the sums of all go to the host."""

    class Heavy(Thresholds):
        def forward(self, x: Tensor) -> Tensor:
            more = [torch.zeros(1, 8, *x.shape[2:], device=x.device) for _ in range(16)]
            return super().forward(x) + 0 * more[-1][:, :1]

    grid = Geometry.from_spacing((16, 96, 96), (1.0, 1.0, 1.0))
    bright = np.random.default_rng(0).normal(1.5, 1, (1, 16, 96, 96)).astype(np.float32)
    expected = Predictor(threshold_model(), "cpu").segment(bright, grid).labels
    for networks in ({"0": Heavy()}, {"0": Thresholds(), "1": Thresholds(), "2": Heavy()}):
        predictor = Predictor(Model(ModelPlan(plan()), networks), "cuda")
        gpu.restart()
        gpu.memory.limit = gpu.memory.now + int(3.2 * 2**20)
        assert (predictor.segment(bright, grid).labels == expected).mean() > 0.999


def test_where_nothing_fits_the_message_says_what_to_do(gpu: Ledger, image: NDArray[np.float32]) -> None:
    predictor = Predictor(model("baseline"), "cuda")
    gpu.memory.limit = gpu.memory.now + 1000
    with pytest.raises(DeviceMemoryError, match=r"the image: cuda has too little memory.*--device cpu"):
        predictor.segment(image, GRID)


def test_files_are_whole_or_absent(gpu: Ledger, image: NDArray[np.float32], tmp_path: Path) -> None:
    from inference.prediction.predict_files import Extras, predict_cases
    from preprocessing.formats.images import read_labels, write_scalar

    path, output = tmp_path / "a_0000.nii.gz", tmp_path / "out" / "a.nii.gz"
    write_scalar(path, image[0], GRID)
    output.parent.mkdir()
    predictor = Predictor(model("baseline"), "cuda", replace(OPTIONS["default"], step=1.0))
    gpu.memory.limit = gpu.memory.now + 1000
    errors = predict_cases(predictor, {"a": (path,)}, {"a": output})
    assert "too little memory" in str(errors["a"]) and not list(output.parent.iterdir())
    gpu.memory.restart()
    everything = Extras(preview=True, statistics=True, features=True)
    assert predict_cases(predictor, {"a": (path,)}, {"a": output}, everything) == {}
    assert read_labels(output)[0].shape == SHAPE
    written = {"a.nii.gz", "a_features.csv", "a_preview.html", "a_preview.png", "a_statistics.csv"}
    assert {file.name for file in output.parent.iterdir()} == written


def test_dicom_segmentations_are_those_of_the_cpu(gpu: Ledger, image: NDArray[np.float32], tmp_path: Path) -> None:
    """`--dicom`: a series in, a segmentation object out."""
    import pydicom

    from inference.outputs.dicom.segmentation import DicomOutput
    from inference.prediction.predict_files import Extras, predict_cases
    from preprocessing.dicom.find import find_series, write_lists
    from tests.preprocessing.dicom.making import save, slices

    save(slices((100 * image[0]).astype(np.int16), GRID.matrix, slope=0.01), tmp_path / "series")
    cases, stored = write_lists(find_series(tmp_path / "series").series, tmp_path), []
    for device in ("cpu", "cuda"):
        outputs = {case: tmp_path / device / f"{case}.nii.gz" for case in cases}
        assert predict_cases(Predictor(threshold_model(), device), cases, outputs, Extras(dicom=DicomOutput("labelmap"))) == {}
        (path,) = (tmp_path / device).glob("*.dcm")
        stored.append(pydicom.dcmread(path).pixel_array)
    assert gpu.launches > 0 and stored[0].any()
    assert stored[0].shape == stored[1].shape and (stored[0] == stored[1]).mean() > 0.995
