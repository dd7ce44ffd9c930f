import math
import os
import re
from pathlib import Path

import pytest

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics, SizeSpread
from planners.fingerprint.measure import make_fingerprint
from planners.options import PlanningOptions
from planners.plan import make_plan
from planners.rules.grid import choose_spacing
from planners.rules.mirroring import choose_mirror_axes, opposite_labels
from planners.rules.normalisation import choose_normalisation, resembling_names
from planners.rules.topology import choose_topology
from preprocessing.dataset.raw import open_dataset
from se_unet import build_network
from se_unet.cost import multiply_adds

HIPPOCAMPUS = Path(__file__).parents[2] / ".." / "shared" / "data" / "Dataset004_Hippocampus"
STATISTICS = IntensityStatistics(mean=10, std=4, median=9, min=-50, max=90, percentile_00_5=0, percentile_99_5=30)
DESCRIPTION = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "a": 1, "b": 2})


def case(spacing, shape, kept=1.0):
    return CaseFingerprint(spacing=spacing, shape=shape, shape_after_crop=shape, relative_size_after_crop=kept, labels={})


def fingerprint(spacing, shape, cases=100, spread=(10, 10, 10)):
    q10, q50, q90 = spread
    return Fingerprint(
        cases={f"case_{index}": case(spacing, shape) for index in range(cases)},
        intensities=(STATISTICS,),
        size_spread={"a": SizeSpread(q10=q10, q50=q50, q90=q90)},
    )


def plans(*arguments, options=None, **settings):
    return make_plan(DESCRIPTION, fingerprint(*arguments, **settings), options).configurations["3d_fullres"]


# Known plans of nnU-Net 2: spacing, median shape, cases -> patch, batch, stages.
KNOWN = [
    ((1.0, 1.0, 1.0), (36, 50, 35), 260, (40, 56, 40), 9, 4),
    ((1.0, 1.0, 1.0), (36, 50, 35), 140, (40, 56, 40), 5, 4),
    ((0.8, 0.8, 0.8), (400, 480, 480), 100, (128, 128, 128), 2, 6),
]


@pytest.mark.parametrize(("spacing", "shape", "cases", "patch", "batch", "stages"), KNOWN)
def test_baseline_is_planned_as_nnunet_does(spacing, shape, cases, patch, batch, stages):
    network = plans(spacing, shape, options=PlanningOptions(("baseline",)), cases=cases).networks["baseline"]
    assert (network.patch_size, network.batch_size, len(network.network.features)) == (patch, batch, stages)
    assert network.network.features == tuple(min(32 * 2**stage, 320) for stage in range(stages))


def test_thick_slices_get_in_plane_stages_first():
    topology = choose_topology((5, 1.5625, 1.5625), (18, 237, 208))
    assert topology.patch_size == (20, 256, 224)
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert topology.kernels == ((1, 3, 3), *((3, 3, 3),) * 5)


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 200, 200), (8, 8, 8), (11, 5, 5), (12, 5, 5), (7, 1000, 30)])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (6, 0.5, 0.5), (0.3, 0.7, 4)])
def test_strides_always_divide_the_patch(spacing, shape):
    topology = choose_topology(spacing, shape)
    assert all(
        size % stride == 0 and size >= wanted
        for size, stride, wanted in zip(topology.patch_size, topology.total_stride, shape, strict=True)
    )
    assert all(
        size < wanted + stride for size, stride, wanted in zip(topology.patch_size, topology.total_stride, shape, strict=True)
    )
    assert len(topology.strides) == len(topology.kernels)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_plans_permute_with_the_axes(axes):
    spacing, shape = (0.7, 1.9, 5.5), (200, 90, 40)
    only = {"options": PlanningOptions(("baseline",))}
    one = plans(spacing, shape, **only).networks["baseline"]
    other = plans(tuple(spacing[axis] for axis in axes), tuple(shape[axis] for axis in axes), **only).networks["baseline"]
    assert other.patch_size == tuple(one.patch_size[axis] for axis in axes)
    assert other.network.strides == tuple(tuple(stride[axis] for axis in axes) for stride in one.network.strides)


def test_spacing_is_the_median_but_thin_for_thick_slices():
    cases = {str(index): case((1.0 + index, 0.5, 0.5), (20, 200, 200)) for index in range(11)}
    decision = choose_spacing(cases)
    assert decision.value == (2.0, 0.5, 0.5) and "10th percentile 2 instead of the median 6" in decision.reason
    many_slices = {str(index): case((1.0 + index, 0.5, 0.5), (150, 200, 200)) for index in range(11)}
    assert choose_spacing(many_slices).value == (6.0, 0.5, 0.5)
    finer = {str(index): case((0.2 if index < 4 else 6.0, 0.5, 0.5), (20, 200, 200)) for index in range(11)}
    assert choose_spacing(finer).value == pytest.approx((0.50001, 0.5, 0.5))


def test_normalisation_by_channel_name():
    names = ("CT", "noNorm", "rescale_to_0_1", "T1", "rgb_to_0_1")
    decision = choose_normalisation(names, [STATISTICS] * 5, 1.0)
    assert [channel.scheme for channel in decision.value] == ["ct", "none", "rescale", "zscore", "rgb"]
    assert decision.value[0].statistics == STATISTICS and "clipped to 0 .. 30" in decision.reason
    assert [channel.scheme for channel in choose_normalisation(("T1", "CT"), [], 0.74).value] == ["zscore_in_mask", "zscore"]


def test_normalisation_that_the_user_states():
    decision = choose_normalisation(("CT", "T1", "CT"), [STATISTICS] * 3, 0.5, ("zscore", "CT", None))
    assert [channel.scheme for channel in decision.value] == ["zscore", "ct", "ct"]
    assert "CT (channel 0): standardised image by image, as requested." in decision.reason
    assert "T1, CT (channel 2): clipped to 0 .. 30" in decision.reason
    assert resembling_names(decision.value, ("zscore", "CT", None)) == []
    with pytest.raises(InputError, match=r"2 schemes for 1 channels \(T1\)"):
        choose_normalisation(("T1",), [], 1.0, ("ct", "ct"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"percentile_00_5": 3071, "percentile_99_5": 3071, "mean": 3071, "std": 0},
            "clipping to this window would make images constant",
        ),
        ({"percentile_00_5": 3070, "percentile_99_5": 3071, "mean": 3071, "std": 0.2}, "lies within 3070 .. 3071"),
        ({"percentile_00_5": 0, "percentile_99_5": 0, "mean": 0.1, "std": 9.0}, "lies within 0 .. 0"),
        ({"percentile_00_5": 0, "percentile_99_5": 1e-9, "mean": 0, "std": 1e-16}, "has the deviation 1e-16, by which"),
    ],
)
def test_a_window_without_width_is_not_used(change, reason):
    """Images would be constant, and networks would learn nothing."""
    decision = choose_normalisation(("CT",), [STATISTICS.model_copy(update=change)], 1.0)
    assert decision.value[0].scheme == "zscore" and reason in decision.reason


def test_a_window_of_images_in_another_unit_is_used():
    unit = {"percentile_00_5": 0.31, "percentile_99_5": 0.35, "mean": 0.33, "std": 0.01}
    assert choose_normalisation(("ct",), [STATISTICS.model_copy(update=unit)], 1.0).value[0].scheme == "ct"


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("RGB to01", "rescale"), ("CT_2", "ct"), ("ct1", "ct"), ("PET-CT", "ct"), ("no_norm", "none"), ("z-score", "zscore"),
     ("CTA", "ct"), ("rescaled", "rescale"), ("rescale to 0..1", "rescale")],
)  # fmt: skip
def test_a_name_that_resembles_a_normalisation_is_told(name, scheme):
    taken = choose_normalisation((name,), [STATISTICS], 1.0)
    (warning,) = resembling_names(taken.value)
    assert f"`{scheme}`, but is not its name, so `zscore` is taken" in warning.problem and name in warning.where
    assert f"the name resembles the normalisation `{scheme}`" in taken.reason


@pytest.mark.parametrize(
    "name", ["CT", "ct", "noNorm", "NONORM", "zscore", "rescale_to_0_1", "T1", "OCT", "FLAIR", "ADC", "ACT", "MRI"]
)
def test_other_names_are_not_told(name):
    assert resembling_names(choose_normalisation((name,), [STATISTICS], 1.0).value) == []


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["kidney_left", "kidney_right", "liver"], [("kidney_left", "kidney_right")]),
        (["Anterior", "Posterior"], [("Anterior", "Posterior")]),
        (["upper_lobe", "lower_lobe"], [("upper_lobe", "lower_lobe")]),
        (["lung_left_upper", "lung_right_lower"], []),
        (["L_Hippocampus", "R_Hippocampus"], [("L_Hippocampus", "R_Hippocampus")]),
        (["Left-Thalamus", "Right-Thalamus"], [("Left-Thalamus", "Right-Thalamus")]),
        (["LeftLung", "RightLung"], [("LeftLung", "RightLung")]),
        (["rib_left_7", "rib_right_8"], []),
        (["left ventricle", "aorta"], []),
        (["bright", "cleft", "vertebrae_L1", "R", "liver"], []),
    ],
)
def test_opposite_labels(names, pairs):
    assert [pair for found in opposite_labels(names).values() for pair in found] == pairs


def test_mirroring_leaves_out_the_axes_whose_ends_labels_distinguish():
    axes = (2, 1, 0)
    assert choose_mirror_axes(["a", "b"], axes).value == (0, 1, 2)
    decision = choose_mirror_axes(["lung_left", "lung_right"], axes)
    assert decision.value == (0, 1) and "lung_left and lung_right" in decision.reason
    assert choose_mirror_axes(["lung_left", "lung_right"], (None, 1, 0)).value == ()
    assert choose_mirror_axes(["Anterior", "Posterior"], axes).value == (0, 2)
    assert choose_mirror_axes(["Anterior", "Posterior"], (None, 1, None)).value == (0, 2)
    assert choose_mirror_axes(["left_upper", "right_upper", "left_lower", "right_lower"], axes).value == (1,)


def test_se_has_the_stages_of_the_baseline_and_its_multiply_adds():
    by_spread = PlanningOptions(num_scales="spread")
    networks = plans((1.0, 1.0, 1.0), (60, 60, 60), spread=(10, 20, 40), options=by_spread).networks
    se, baseline = networks["se"].network, networks["baseline"].network
    assert se.scale_group.number == 4 and se.features[2] == baseline.features[2] // 2
    same = {"strides", "kernels", "input_channels", "output_channels", "spacing"}
    assert se.model_dump(include=same) == baseline.model_dump(include=same)
    narrow = plans((1.0, 1.0, 1.0), (60, 60, 60)).networks["se"]
    assert narrow.network.scale_group.number == 1 and narrow.network.features == baseline.features
    counts = [multiply_adds(build_network(network), (1, 1, 32, 32, 32)) for network in (baseline, se, narrow.network)]
    assert all(0.9 < count / counts[0] < 1.15 for count in counts[1:])


def test_patch_fits_the_budget_and_memory_buys_size():
    small, large = (
        plans((1.0, 1.0, 1.0), (300, 300, 300), options=PlanningOptions(("baseline",), gpu_memory=memory)).networks["baseline"]
        for memory in (6, 24)
    )
    assert math.prod(small.patch_size) < math.prod(large.patch_size)
    assert re.search(r"shortened from .* to fit 6 GB", small.reasons["patch_size"])
    with pytest.raises(InputError, match=r"--gpu-memory 1e-06: not even a patch"):
        plans((1.0, 1.0, 1.0), (300, 300, 300), options=PlanningOptions(gpu_memory=1e-6))


def test_overrides():
    options = PlanningOptions(networks=("se",), spacing=(2.0, 1.5, 1.5), patch_size=(32, 64, 64), num_scales=3, scale_step=1.5)
    plan = plans((1.0, 1.0, 1.0), (100, 100, 100), options=options)
    assert list(plan.networks) == ["se"] and plan.spacing == (2.0, 1.5, 1.5)
    assert plan.networks["se"].patch_size == (32, 64, 64)
    assert plan.networks["se"].network.scale_group.number == 3
    with pytest.raises(InputError, match=r"--patch-size 33 64 64: .*do not divide the patch. Use 40 64 64"):
        plans((1.0, 1.0, 1.0), (100, 100, 100), options=PlanningOptions(patch_size=(33, 64, 64)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"spacing": (50, 50, 50)},
            r"--spacing 50 50 50: the median case has 2 x 2 x 2 voxels at this spacing, fewer than 8 along every axis",
        ),
        ({"spacing": (0.05, 0.05, 0.05)}, r"--spacing 0.05 0.05 0.05: the median case has .* GB for each channel. Give larger"),
        (
            {"patch_size": (256, 256, 256)},
            r"--patch-size 256 256 256: a training step with two patches of this size does not fit in 8 GB",
        ),
        ({"patch_size": (96, 96, 90)}, r"--patch-size 96 96 90: .*which do not divide the patch. Use 96 96 96"),
        ({"num_scales": 16}, r"--num-scales 16 with steps of 1.26: kernels of the largest scale span"),
        ({"scale_step": 4.0, "num_scales": 5}, r"--num-scales 5 with steps of 4: kernels of the largest scale span"),
        ({"configurations": ("3d_lowres",), "patch_size": (96, 96, 96)}, r"--configurations 3d_lowres: No lower resolution"),
        ({"gpu_memory": 0.01}, r"--gpu-memory 0.01: not even a patch of"),
    ],
)
def test_overrides_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        plans((1.0, 1.0, 1.0), (100, 100, 100), options=PlanningOptions(**options))


def test_all_wrong_options_at_once():
    with pytest.raises(InputError) as caught:
        PlanningOptions(
            networks=("se", "vit"),
            configurations=("4d",),
            size="huge",
            gpu_memory=-1,
            spacing=(0, 1, 1),
            patch_size=(0, 1, 1),
            num_scales=0,
            scale_step=1,
        )
    assert [fault.where.split()[0] for fault in caught.value.faults] == [
        "--network",
        "--configurations",
        "--size",
        "--gpu-memory",
        "--spacing",
        "--patch-size",
        "--num-scales",
        "--scale-step",
    ]


def test_every_decision_has_a_sentence_and_plans_are_reproducible():
    data = fingerprint((1.0, 1.0, 1.0), (60, 60, 60), spread=(10, 20, 40))
    options = PlanningOptions(num_scales="spread")
    plan = make_plan(DESCRIPTION, data, options)
    assert plan.model_dump_json() == make_plan(DESCRIPTION, data, options).model_dump_json()
    configuration = plan.configurations["3d_fullres"]
    reasons = [configuration.reasons, *(network.reasons for network in configuration.networks.values())]
    assert all(sentence.endswith(".") and len(sentence) > 20 for kept in reasons for sentence in kept.values())
    assert set(configuration.networks["se"].reasons) == {
        "patch_size",
        "stages",
        "batch_size",
        "batch_dice",
        "scale_group",
        "features",
        "depth",
        "memory",
        "mirror_axes",
        "scaling_range",
    }


@pytest.mark.slow
@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the hippocampus dataset is not there")
def test_hippocampus():
    dataset = open_dataset(HIPPOCAMPUS)
    plan = make_plan(dataset.description, make_fingerprint(dataset, jobs=os.cpu_count() or 1)).configurations["3d_fullres"]
    baseline = plan.networks["baseline"]
    assert plan.spacing == (1, 1, 1)
    assert (baseline.patch_size, baseline.batch_size) == ((40, 56, 40), 5)
    assert baseline.network.features == (32, 64, 128, 256)
    assert plan.networks["se"].network.scale_group.number == 1
