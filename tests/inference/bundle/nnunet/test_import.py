"""Models of nnU-Net become models of ours: what they decided, and what their networks compute.

That whole predictions are nnU-Net's is measured with nnU-Net itself by `benchmarks.nnunet.import_parity`.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from configs.errors import InputError
from configs.plan import AxisOrder, Resampling
from inference import PredictionOptions, Predictor
from inference.bundle.export import export_bundle
from inference.bundle.install import import_bundle
from inference.bundle.nnunet.install import Imported, import_nnunet
from inference.bundle.nnunet.source import is_nnunet
from inference.bundle.nnunet.trainers import trainer_fault
from inference.bundle.verify import verify_bundle
from inference.model import load_model
from inference.options import average_of
from inference.prediction.cli import main as se_predict
from inference.prediction.postprocessing import Postprocessing, postprocess
from inference.prediction.selection import Selection
from se_unet.nnunet.architecture import architecture_of, settings_of
from tests.inference.bundle.nnunet.results import (
    DATASET,
    DATASET_NAME,
    PLANS_NAME,
    TRAINER,
    architecture,
    configuration,
    plans,
    their_network,
    write_archive,
    write_results,
)

IMAGE = np.random.default_rng(0).normal(size=(2, 12, 14, 13)).astype(np.float32)
SPACING = (2.0, 1.0, 0.9)


def single(results: Path, name: str = "3d_fullres") -> Path:
    return results / f"{TRAINER}__{PLANS_NAME}__{name}"


def changed(name: str = "3d_fullres", **changes: Any) -> dict[str, Any]:
    """Plans with a changed configuration."""
    whole = plans()
    whole["configurations"][name] = {**whole["configurations"][name], **changes}
    return whole


def imported(folder: Path, name: str = "3d_fullres", **options: Any) -> Imported:
    results = write_results(folder / "results", (name,), **options)
    (one,) = import_nnunet(single(results, name), folder / "ours")
    return one


def test_the_plan_says_what_nnunet_decided(tmp_path: Path) -> None:
    made = imported(tmp_path, folds=(0, 3), planned=plans(transpose_forward=[2, 0, 1]))
    plan, configured = made.plan, made.plan.configuration
    assert (made.folder, made.folds, made.selection) == (tmp_path / "ours", ("0", "3"), None)
    assert plan.orientation == AxisOrder(axes=(2, 0, 1), of="as-stored")
    assert (plan.dataset.channels, plan.dataset.foreground) == (("CT", "MR"), ("a", "b"))
    assert (configured.spacing, configured.median_shape, configured.average) == ((2.0, 1.0, 0.9), (18, 18, 19), "logits")
    assert [one.scheme for one in configured.normalisation] == ["ct", "zscore_in_mask"]
    assert configured.normalisation[0].statistics is not None and configured.normalisation[0].statistics.percentile_99_5 == 7.0
    assert (configured.resampling, configured.separate_axis_ratio) == (Resampling(clamp="slice", back="nearest"), 3.0)
    assert (plan.network.patch_size, plan.network.mirror_axes, plan.network.batch_dice) == ((8, 8, 8), (0, 1, 2), True)


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_networks_compute_the_same(tmp_path: Path, kind: str, dimension: int) -> None:
    name = "2d" if dimension == 2 else "3d_fullres"
    planned = changed(name, architecture=architecture(dimension, kind))
    made = imported(tmp_path, name, planned=planned)
    (ours,) = load_model(made.folder).networks.values()
    theirs = their_network(architecture_of(settings_of(planned, name)), 2, 3).eval()
    image = torch.randn(2, 2, *[8] * dimension)
    with torch.no_grad():
        expected = theirs(image)
        found = ours(image if dimension == 3 else image.unsqueeze(2)).reshape(expected.shape)
        control = their_network(architecture_of(settings_of(planned, name)), 2, 3, seed=1).eval()(image)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (control - expected).abs().max() > 0.1 * expected.abs().max()


def test_the_same_from_folder_archive_and_all_results(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", folds=(0, "all"))
    archive = write_archive(results, tmp_path / "export.zip")
    answers = []
    for number, source in enumerate((single(results), results, results.parent, archive)):
        assert is_nnunet(source)
        (made,) = import_nnunet(source, tmp_path / f"ours_{number}")
        assert made.folds == ("0", "all")
        answers.append(Predictor.load(made.folder, "cpu")(IMAGE, SPACING))
    assert len(np.unique(answers[0])) > 1
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


def test_archives_of_windows_and_of_macos(tmp_path: Path) -> None:
    """Backslashes between folders; and entries that are about files, such as `__MACOSX/MODEL/._plans.json`."""
    results = write_results(tmp_path / "results")
    for system in ("windows", "macos"):
        with zipfile.ZipFile(tmp_path / f"{system}.zip", "w") as archive:
            for file in (path for path in sorted(results.rglob("*")) if path.is_file()):
                entry = zipfile.ZipInfo()
                entry.filename = str(file.relative_to(results.parent)).replace("/", "\\" if system == "windows" else "/")
                archive.writestr(entry, file.read_bytes())
                if system == "macos":
                    archive.writestr(f"__MACOSX/{file.parent.relative_to(results.parent)}/._{file.name}", b"about it")
        assert is_nnunet(tmp_path / f"{system}.zip")
        (made,) = import_nnunet(tmp_path / f"{system}.zip", tmp_path / system)
        assert made.folds == ("0",)


def test_a_model_like_any_other(tmp_path: Path) -> None:
    """It is shared as a bundle, and searched for the size of the anatomy where this is forced."""
    made = imported(tmp_path, folds=(0, 1))
    manifest = export_bundle(made.folder, tmp_path / "bundle.zip")
    assert len(manifest.weights()) == 2 and not is_nnunet(tmp_path / "bundle.zip")
    import_bundle(tmp_path / "bundle.zip", tmp_path / "again")
    first, again = (Predictor.load(folder, "cpu")(IMAGE, SPACING) for folder in (made.folder, tmp_path / "again"))
    assert np.array_equal(first, again)
    options = PredictionOptions(search="always", mirror=False)
    assert Predictor.load(made.folder, "cpu", options=options)(IMAGE, SPACING).shape == IMAGE.shape[1:]


def test_logits_are_averaged_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    made = imported(tmp_path, folds=(0, 1))
    model = load_model(made.folder)
    assert average_of([model], PredictionOptions()) == "logits"
    assert average_of([model, model], PredictionOptions()) == "probabilities"
    assert average_of([model], PredictionOptions(average="probabilities")) == "probabilities"


def test_a_flat_model_sees_slices(tmp_path: Path) -> None:
    made = imported(tmp_path, "2d")
    configured, planned = made.plan.configuration, made.plan.network
    assert (configured.slice_axis, configured.spacing, configured.median_shape) == (0, (2.5, 1.0, 0.9), (1, 18, 19))
    assert (planned.patch_size, planned.mirror_axes) == ((1, 8, 8), (1, 2))


def test_a_cascade_brings_its_first_stage(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", ("3d_lowres", "3d_cascade_fullres"))
    for number, source in enumerate((single(results, "3d_cascade_fullres"), results, write_archive(results, tmp_path / "a.zip"))):
        made = import_nnunet(source, tmp_path / f"ours_{number}")
        assert {one.folder.name for one in made} == {"3d_lowres_nnunet", "3d_cascade_fullres_nnunet"}
        assert {one.plan.configuration.previous for one in made} == {None, "3d_lowres"}
    (tmp_path / "lone").mkdir()
    single(results, "3d_cascade_fullres").rename(tmp_path / "lone" / f"{TRAINER}__{PLANS_NAME}__3d_cascade_fullres")
    with pytest.raises(InputError, match="its first stage `3d_lowres` is missing"):
        import_nnunet(tmp_path / "lone", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_regions_and_an_ignore_label(tmp_path: Path) -> None:
    regions = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    made = imported(tmp_path, dataset={**DATASET, "labels": regions, "regions_class_order": [1, 2]})
    assert (made.plan.dataset.has_regions, made.plan.dataset.ignore_value) == (True, 3)
    assert made.plan.network.network.output_channels == 2


def test_plans_of_earlier_versions(tmp_path: Path) -> None:
    """Before version 2.4, plans stated the network in single settings."""
    settings = configuration()
    parts = settings.pop("architecture")["arch_kwargs"]
    settings |= {"UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 2, "unet_max_num_features": 3}
    settings |= {"n_conv_per_stage_encoder": [1, 2], "n_conv_per_stage_decoder": [1], "num_pool_per_axis": [1, 1, 1]}
    settings |= {"pool_op_kernel_sizes": parts["strides"], "conv_kernel_sizes": parts["kernel_sizes"]}
    whole = plans()
    whole["configurations"]["3d_fullres"] = settings
    made = imported(tmp_path, planned=whole)
    assert made.plan.network.network.features == (2, 3)


@pytest.mark.parametrize(
    ("scheme", "masked", "ours"),
    [("ZScoreNormalization", False, "zscore"), ("NoNormalization", False, "none"), ("RescaleTo01Normalization", True, "rescale"),
     ("RGBTo01Normalization", False, "rgb")],
)  # fmt: skip
def test_normalisations(tmp_path: Path, scheme: str, masked: bool, ours: str) -> None:
    planned = changed(normalization_schemes=[scheme, "CTNormalization"], use_mask_for_norm=[masked, False])
    made = imported(tmp_path, planned=planned)
    assert [one.scheme for one in made.plan.configuration.normalisation] == [ours, "ct"]


@pytest.mark.parametrize(
    ("reader", "of"),
    [("NibabelIO", "as-stored"), ("NibabelIOWithReorient", "canonical"), ("SimpleITKIOWithReorient", "canonical")],
)
def test_the_reader_decides_about_the_orientation(tmp_path: Path, reader: str, of: str) -> None:
    made = imported(tmp_path, planned=plans(image_reader_writer=reader))
    assert made.plan.orientation == AxisOrder(axes=(0, 1, 2), of=of)  # type: ignore[arg-type]
    overwritten = {**DATASET, "overwrite_image_reader_writer": "Tiff3DIO"}
    made = imported(tmp_path / "b", planned=plans(image_reader_writer=reader), dataset=overwritten)
    assert made.plan.orientation == AxisOrder(axes=(0, 1, 2), of=of), "nnU-Net predicts with the reader of its plans"  # type: ignore[arg-type]


def test_resampling_by_torch(tmp_path: Path) -> None:
    def functions(separate: bool | None) -> dict[str, Any]:
        options = {"force_separate_z": separate, "memefficient_seg_resampling": False}
        found: dict[str, Any] = {}
        for kind in ("data", "seg", "probabilities"):
            found[f"resampling_fn_{kind}"] = "resample_torch_fornnunet"
            found[f"resampling_fn_{kind}_kwargs"] = {**options, "is_seg": kind == "seg"}
        return found

    made = imported(tmp_path, planned=changed(**functions(False))).plan.configuration
    assert (made.resampling, made.separate_axis_ratio) == (Resampling(images="linear", back="nearest"), None)
    assert imported(tmp_path / "b", planned=changed(**functions(None))).plan.configuration.separate_axis_ratio == 3.0


def test_both_checkpoints(tmp_path: Path) -> None:
    made = imported(tmp_path, kinds=("final", "best"))
    assert sorted(path.name for path in (made.folder / "fold_0").iterdir()) == [
        "weights_best.safetensors",
        "weights_final.safetensors",
    ]
    load_model(made.folder, checkpoint="best")


def test_folds_that_a_user_may_miss_or_not_expect_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = write_results(tmp_path / "results", folds=(0, 1, 2), kinds=("final", "best"))
    for fold, lacking in ((1, ["final"]), (2, ["final", "best"])):
        for kind in lacking:
            path = single(results) / f"fold_{fold}" / f"checkpoint_{kind}.pth"
            path.rename(path.with_name("checkpoint_latest.pth"))
    (made,) = import_nnunet(results, tmp_path / "ours")
    told = [record.getMessage().split(": ")[-1] for record in caplog.records]
    assert made.folds == ("0",) and sorted(path.name for path in made.folder.glob("fold_*")) == ["fold_0", "fold_1"]
    assert told == [f"fold {fold} has no checkpoint_final.pth, so predictions leave it out" for fold in (1, 2)]
    caplog.clear()
    import_nnunet(write_results(tmp_path / "more", folds=(0, 1, "all")), tmp_path / "all")
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        "predictions average it with the other folds; nnU-Net takes those alone, as --folds 0 1 does"
    ]


def test_postprocessing_is_for_the_folds_that_it_was_chosen_for(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", folds=(0, 1, "all"))
    (single(results) / "crossval_results_folds_0_1").mkdir()
    step = "remove_all_but_largest_component_from_segmentation"
    description = {"postprocessing_fns": [step], "postprocessing_kwargs": [{"labels_or_regions": 1}]}
    (single(results) / "crossval_results_folds_0_1" / "postprocessing.json").write_text(json.dumps(description))
    (made,) = import_nnunet(results, tmp_path / "ours")
    assert made.selection is not None and Selection.read(made.selection).folds == ("0", "1")
    export_bundle(made.folder, tmp_path / "bundle.zip", folds=["1", "all"])
    import_bundle(tmp_path / "bundle.zip", tmp_path / "again")
    expected = Selection.read(made.selection).model_copy(update={"folds": ("1",)})
    assert Selection.read(tmp_path / "again" / "selection.json") == expected, "a bundle keeps it, for its folds"
    export_bundle(made.folder, tmp_path / "other.zip", folds=["all"])
    assert "selection.json" not in verify_bundle(tmp_path / "other.zip").files


def test_pictures_are_segmented_as_their_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nnU-Net's `NaturalImage2DIO`, which reads the colours of a picture as channels of one slice."""
    colours = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": DATASET["labels"], "file_ending": ".png"}
    flat = configuration(2, normalization_schemes=["RGBTo01Normalization"] * 3, use_mask_for_norm=[False] * 3, spacing=[1.0, 1.0])
    spacing = [999.0, 1.0, 1.0]
    planned = plans(
        image_reader_writer="NaturalImage2DIO", original_median_spacing_after_transp=spacing, configurations={"2d": flat}
    )
    made = imported(tmp_path, "2d", planned=planned, dataset=colours)
    picture = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(picture).save(tmp_path / "images" / "case_0000.png")
    words = [
        "se_predict",
        "-i",
        str(tmp_path / "images"),
        "-o",
        str(tmp_path / "found"),
        "-m",
        str(made.folder),
        "--device",
        "cpu",
    ]
    monkeypatch.setattr("sys.argv", words)
    assert se_predict() == 0
    found = np.asarray(Image.open(tmp_path / "found" / "case.png"))
    expected = Predictor.load(made.folder, "cpu")(picture.transpose(2, 0, 1)[:, None].astype(np.float32), tuple(spacing))
    assert np.array_equal(found, expected[0]) and len(np.unique(found)) > 1


def test_intensities_of_earlier_plans(tmp_path: Path) -> None:
    whole = plans()
    whole["foreground_intensity_properties_by_modality"] = whole.pop("foreground_intensity_properties_per_channel")
    made = imported(tmp_path, planned=whole).plan.configuration.normalisation[0]
    assert made.statistics is not None and made.statistics.percentile_99_5 == 7.0


def test_a_model_of_nnunet_that_was_not_imported(tmp_path: Path) -> None:
    """Every command that takes a model says so, instead of naming a file that is missing."""
    folder = single(write_results(tmp_path / "results"))
    for use in (load_model, lambda path: export_bundle(path, tmp_path / "a.zip")):
        with pytest.raises(InputError, match=r"this is a model of nnU-Net\. Import it first: se_bundle import") as caught:
            use(folder)
        assert len(caught.value.faults) == 1


def test_postprocessing_is_followed(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", folds=(0, 1))
    chosen = single(results) / "crossval_results_folds_0_1"
    chosen.mkdir()
    step = "remove_all_but_largest_component_from_segmentation"
    description = {
        "postprocessing_fns": [step, step],
        "postprocessing_kwargs": [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 2, "background_label": 0}],
    }
    (chosen / "postprocessing.json").write_text(json.dumps(description))
    (chosen / "postprocessing.pkl").write_bytes(b"cos\nsystem\n(S'touch exploited'\ntR.")
    (made,) = import_nnunet(results, tmp_path / "ours")
    assert made.selection == tmp_path / "ours" / "selection.json"
    selection = Selection.read(made.selection)
    assert selection.postprocessing == Postprocessing(largest_of=((1, 2), (2,)))
    assert selection.model_folders(made.selection) == [made.folder] and selection.folds == ("0", "1")


def test_the_largest_of_a_set_of_labels(tmp_path: Path) -> None:
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[1:3, 1:3, 1:3], labels[1:3, 3:4, 1:3], labels[4, 8, 8] = 1, 2, 2
    description = imported(tmp_path).plan.dataset
    cleaned = postprocess(labels, 1.0, Postprocessing(largest_of=((1, 2),)), description)
    assert cleaned[4, 8, 8] == 0 and (cleaned == labels).sum() == labels.size - 1
    labels[4, 8, 8], labels[0, 8, 8] = 0, 2
    tied = postprocess(np.where(labels == 1, 0, labels)[:, 4:], 1.0, Postprocessing(largest_of=((2,),)), description)
    assert (tied == 2).sum() == 1
    assert np.array_equal(postprocess(labels * 0, 1.0, Postprocessing(largest_of=((1,),)), description), labels * 0)


@pytest.mark.parametrize(
    "name",
    ["nnUNetTrainer", "nnUNetTrainer_4000epochs_NoMirroring", "nnUNetTrainerDA5ord0", "nnUNetTrainer_onlyMirror01_1500ep",
     "nnUNetTrainerVanillaAdam1en3", "nnUNet_Trainer_BS8", "nnUNetTrainer_probabilisticOversampling_033",
     "nnUNetTrainerDiceCELoss_noSmooth", "nnUNetTrainerBenchmark_5epochs_noDataLoading", "nnUNetTrainerNoDeepSupervision"],
)  # fmt: skip
def test_trainers_that_leave_the_network(name: str) -> None:
    assert trainer_fault("model", name) is None


@pytest.mark.parametrize(
    "name",
    ["nnUNetTrainerBN", "nnUNet_Primus_M_Trainer", "nnUNetTrainerUMambaBot", "STUNetTrainer_large", "", "nnUNetTrainer_MyNet"],
)
def test_other_trainers_are_refused_by_name(tmp_path: Path, name: str) -> None:
    results = write_results(tmp_path / "results", trainer_name=name)
    with pytest.raises(InputError, match=f"the trainer `{name}` is not one that is known") as caught:
        import_nnunet(results, tmp_path / "ours")
    assert "--trust-trainer" in str(caught.value) and not (tmp_path / "ours").exists()
    assert import_nnunet(results, tmp_path / "ours", trust_trainer=True)


def test_the_trainer_of_a_first_stage_counts_too(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", ("3d_lowres", "3d_cascade_fullres"))
    unknown = torch.load(single(results, "3d_lowres") / "fold_0" / "checkpoint_final.pth", weights_only=True)
    torch.save({**unknown, "trainer_name": "Mine"}, single(results, "3d_lowres") / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(InputError, match="the trainer `Mine` is not one that is known"):
        import_nnunet(single(results, "3d_cascade_fullres"), tmp_path / "ours")


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "note").write_text("mine")
    with pytest.raises(InputError, match="the folder already exists"):
        import_nnunet(results, tmp_path / "ours")
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["note"]


def test_files_that_are_not_of_nnunet(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("manifest.json", "{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "plan.json").write_text("{}")
    (tmp_path / "text").write_text("text")
    assert not any(is_nnunet(tmp_path / name) for name in ("other.zip", "model", "text", "missing"))
    assert DATASET_NAME.startswith("Dataset")
