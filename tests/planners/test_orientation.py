"""Slices stay slices: a frame is planned where thick slices run across different axes, and nothing depends on the order of storage."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evidence.thick_slices import make_stacks
from benchmarks.nnunet.planner_parity import summaries
from configs.fingerprint import CaseFingerprint, Fingerprint
from configs.plan import Plan, SliceFrame
from inference.model import Model
from inference.options import PredictionOptions
from inference.predictor import Predictor
from planners.fingerprint.measure import make_fingerprint
from planners.options import PlanningOptions
from planners.plan import make_plan
from planners.rules.orientation import choose_orientation, patient_axes, turn_cases
from preprocessing.dataset.raw import open_dataset
from preprocessing.geometry.affine import Geometry
from preprocessing.pipeline import preprocess
from tests.inference.models import Thresholds, plan
from tests.preprocessing.datasets import affine, make_dataset, rotation
from tests.preprocessing.geometry.test_orientation import ANGLES, STORED, stored_as

BASELINE = PlanningOptions(networks=("baseline",))
PLAIN = PredictionOptions(mirror=False, scales=(1.0,))


def case(spacing: tuple, angles: tuple = (0, 0, 0)) -> CaseFingerprint:
    """Measurements in canonical orientation."""
    x, y, z = rotation(angles).T.tolist()
    directions = (tuple(x), tuple(y), tuple(z))
    shape = (10, 90, 100)
    return CaseFingerprint(
        spacing=spacing, shape=shape, shape_after_crop=shape, relative_size_after_crop=1, labels={}, directions=directions
    )


def cases(*given: CaseFingerprint) -> dict[str, CaseFingerprint]:
    return {f"case_{number}": one for number, one in enumerate(given)}


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stacks(tmp_path_factory.mktemp("raw") / "Dataset901_Stacks")


def test_the_plan_of_oblique_stacks_is_that_of_nnunet(stacks: Path) -> None:
    """nnU-Net 2.8.1 plans 6 x 1.3 x 1.3 mm and patches of 16 x 96 x 96, two at a time, for these images."""
    dataset = open_dataset(stacks)
    fingerprint = make_fingerprint(dataset)
    made = make_plan(dataset.description, fingerprint, BASELINE)
    assert isinstance(made.orientation, SliceFrame)
    whole = made.configurations["3d_fullres"]
    assert whole.spacing == pytest.approx((6, 1.3, 1.3)) and whole.networks["baseline"].patch_size == (16, 96, 96)
    assert whole.networks["baseline"].batch_size == 2 and "Z in 4 cases and X in 4 cases" in whole.reasons["orientation"]
    slices = made.configurations["2d"]
    assert slices.slice_axis == 0 and slices.networks["baseline"].patch_size == (1, 96, 96)
    control = make_plan(dataset.description, fingerprint, PlanningOptions(networks=("baseline",), orientation="canonical"))
    assert control.orientation == "canonical" and summaries(control) != summaries(made)
    assert max(control.configurations["3d_fullres"].spacing) / min(control.configurations["3d_fullres"].spacing) < 4


def test_a_frame_is_read_back_from_the_plan_file(tmp_path: Path, stacks: Path) -> None:
    dataset = open_dataset(stacks)
    made = make_plan(dataset.description, make_fingerprint(dataset), BASELINE)
    made.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == made


def test_canonical_orientation_stays_where_slices_run_across_one_axis_or_are_thin() -> None:
    axial, thin, sagittal = case((5, 1, 1)), case((1, 1, 1)), case((1, 1, 5))
    assert choose_orientation(cases(axial, thin)).value == "canonical"
    assert choose_orientation(cases(sagittal, sagittal)).value == "canonical"
    assert choose_orientation(cases(thin, thin)).value == "canonical"
    assert choose_orientation(cases(axial, sagittal, thin, thin, thin)).value == "canonical"
    chosen = choose_orientation(cases(axial, axial, sagittal))
    assert isinstance(chosen.value, SliceFrame) and "Z in 2 cases and X in 1 case" in chosen.reason


def test_measurements_are_turned_with_the_frame() -> None:
    measured = cases(case((5, 1, 2)), case((1, 2, 5)))
    fingerprint = Fingerprint(cases=measured, intensities=(), size_spread={})
    turned = turn_cases(fingerprint, choose_orientation(measured).value).cases
    assert turned["case_0"].spacing == (5, 1, 2) and sorted(turned["case_1"].spacing[1:]) == [1, 2]
    assert turned["case_1"].spacing[0] == 5 and turned["case_1"].shape[0] == 100
    assert turn_cases(fingerprint, "canonical") is fingerprint


def test_axes_of_the_patient_are_known_where_they_are_the_same_in_all_cases() -> None:
    axial, tilted = case((5, 1, 1)), case((5, 1, 1), (0.3, 0, 0))
    frame = SliceFrame(reference=((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    assert patient_axes("canonical", cases(axial)) == (2, 1, 0)
    assert patient_axes("as-stored", cases(axial)) == (None, None, None)
    assert patient_axes(frame, cases(axial, tilted)) == (2, 1, 0)
    assert patient_axes(frame, cases(axial, case((5, 1, 1), (0, np.pi / 2, 0)))) == (None, 1, None)
    assert patient_axes(frame, cases(axial, case((5, 1, 1), (0, 0, np.pi / 4)))) == (None, None, 0)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.sampled_from(range(48)), min_size=3, max_size=3), st.sampled_from([(1.0, 1.0, 1.0), (1.0, 1.3, 5.0)]), ANGLES)
def test_a_plan_does_not_depend_on_how_files_store_their_axes(
    tmp_path_factory: pytest.TempPathFactory, orders: list[int], spacing: tuple, angles: tuple
) -> None:
    folder = make_dataset(tmp_path_factory.mktemp("raw") / "Dataset001_A", affine=affine(spacing, angles))
    fingerprint = make_fingerprint(open_dataset(folder))
    plans = [make_plan(open_dataset(folder).description, fingerprint, BASELINE)]
    for number, order in enumerate(orders):
        for file in folder.glob(f"*Tr/case_{number}*.nii.gz"):
            nib.save(nib.load(file).as_reoriented(STORED[order]), file)
    again = make_fingerprint(open_dataset(folder))
    plans.append(make_plan(open_dataset(folder).description, again, BASELINE))
    assert again == fingerprint and plans[0] == plans[1]


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([(1.0, 1.0, 1.0), (1.0, 1.3, 5.0), (1.0, 5.0, 1.3)]), ANGLES, st.sampled_from(["canonical", "frame"]))
def test_a_segmentation_does_not_depend_on_how_its_file_stores_its_axes(spacing: tuple, angles: tuple, policy: str) -> None:
    frame = SliceFrame(reference=((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    planned = plan(spacing=(1.1, 1.2, 0.9), scheme="zscore").model_copy(
        update={"orientation": frame if policy == "frame" else "canonical"}
    )
    predictor = Predictor(Model(planned.only("3d_fullres", "baseline"), {"0": Thresholds()}), "cpu", PLAIN)
    image = np.random.default_rng(0).normal(0, 2, (7, 8, 9)).astype(np.float32)
    image[:, :2] = 0
    image = nib.Nifti1Image(image, affine(spacing, angles))
    first = None
    for order in STORED:
        array, geometry = stored_as(image, order)
        labels = predictor.segment(array[None], geometry).labels
        stored = nib.Nifti1Image(labels.transpose(), geometry.matrix)
        back = np.asarray(stored.as_reoriented(_back(order)).dataobj)
        first = back if first is None else first
        assert len(np.unique(back)) > 1 and np.array_equal(back, first)


def _back(order: np.ndarray) -> np.ndarray:
    """The change of axes that undoes `order`."""
    return np.array(
        [(source, flip) for _, source, flip in sorted((axis, source, flip) for source, (axis, flip) in enumerate(order))]
    )


def test_prepared_arrays_do_not_depend_on_how_an_array_lies_in_memory() -> None:
    """Sums of many values differ in their last bits with their order."""
    values = np.random.default_rng(0).normal(1000, 3, (1, 41, 37, 29)).astype(np.float32)
    geometry = Geometry.from_spacing((41, 37, 29), (1, 1, 1))
    configuration = plan(scheme="zscore").configuration("3d_fullres")
    straight = preprocess(values, None, geometry, configuration).image
    turned = np.ascontiguousarray(values.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    assert np.array_equal(preprocess(turned, None, geometry, configuration).image, straight)
