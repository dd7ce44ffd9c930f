"""Which files of a folder are cases, and what their values mean where two descriptions speak of them."""

from pathlib import Path

import numpy as np
import pytest

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.files import write_json
from inference import evaluate
from inference.engine.assemble import Segmentation
from inference.evaluation.label_files import find_description
from inference.evaluation.label_meanings import contradictions
from inference.prediction.outputs import Extras, write_case
from inference.sizes.quality import Quality
from preprocessing.dataset.by_products import BY_PRODUCTS, without_by_products
from preprocessing.dataset.raw import scan_dataset
from preprocessing.formats.images import write_labels, write_scalar
from preprocessing.geometry.affine import Geometry

SHAPE = (4, 8, 8)
GEOMETRY = Geometry.from_spacing(SHAPE, (2.0, 1.0, 1.0))
ORGAN = DatasetDescription(name="toy", channels=("CT",), labels={"background": 0, "organ": 1})


def labels() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[1:3, 2:6, 2:6] = 1
    return found


def predict_with_everything(folder: Path, case: str, like: Path) -> None:
    """Write a segmentation and all that may stand beside it."""
    volume = np.random.default_rng(0).random(SHAPE, np.float32)
    everything = Segmentation(labels(), np.stack([volume, 1 - volume]), volume, volume, quality=Quality({}, 1.0, ()))
    extras = Extras(probabilities=True, uncertainty=True, preview=True, statistics=True, features=True)
    write_case(folder / f"{case}.nii.gz", everything, volume[None], GEOMETRY, like, ORGAN, extras)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    references.mkdir()
    for case in "ab":
        write_labels(references / f"{case}.nii.gz", labels(), GEOMETRY)
        predict_with_everything(predictions, case, references / f"{case}.nii.gz")
    return predictions, references


def test_by_products_of_prediction_are_no_cases(folders: tuple[Path, Path]) -> None:
    assert {"a_entropy.nii.gz", "a_disagreement.nii.gz", "a_probabilities.npz"} <= {path.name for path in folders[0].iterdir()}
    result = evaluate(*folders, ORGAN)
    assert list(result.cases) == ["a", "b"] and result.mean_foreground_dice == 1


def test_by_products_in_both_folders_are_no_cases(folders: tuple[Path, Path]) -> None:
    result = evaluate(folders[0], folders[0], ORGAN)
    assert list(result.cases) == ["a", "b"] and not result.without_prediction


def test_by_products_of_an_interrupted_prediction_are_no_cases(folders: tuple[Path, Path]) -> None:
    """The segmentation is written last."""
    (folders[0] / "b.nii.gz").unlink()
    result = evaluate(*folders, ORGAN)
    assert list(result.cases) == ["a"] and result.without_prediction == ("b",)


def test_a_case_may_have_the_name_of_a_by_product(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        write_labels(folder / "image_entropy.nii.gz", labels(), GEOMETRY)
    assert list(evaluate(*folders, ORGAN).cases) == ["a", "b", "image_entropy"]


def test_every_output_of_prediction_is_known(folders: tuple[Path, Path]) -> None:
    """What stands beside a segmentation is one of the named by-products, whatever its ending."""
    stems = {path.name.partition(".")[0] for path in folders[0].iterdir()}
    assert stems == {"a", "b", *(f"{case}{ending}" for case in "ab" for ending in BY_PRODUCTS)}
    assert list(without_by_products(dict.fromkeys(sorted(stems), 0))) == ["a", "b"]


def test_by_products_among_the_labels_of_a_dataset_are_no_cases(tmp_path: Path) -> None:
    """Predictions may be copied to labelsTr to train on them."""
    raw = {"channel_names": {"0": "CT"}, "labels": ORGAN.labels, "numTraining": 1, "file_ending": ".nii.gz"}
    write_json(tmp_path / "dataset.json", raw)
    (tmp_path / "imagesTr").mkdir()
    write_scalar(tmp_path / "imagesTr/a_0000.nii.gz", np.ones(SHAPE, np.float32), GEOMETRY)
    predict_with_everything(tmp_path / "labelsTr", "a", tmp_path / "imagesTr/a_0000.nii.gz")
    dataset = scan_dataset(tmp_path)
    assert list(dataset.cases) == ["a"] and not dataset.faults
    write_labels(tmp_path / "labelsTr/b.nii.gz", labels(), GEOMETRY)
    assert "label file" in str(scan_dataset(tmp_path).faults)


def described(**values: int | tuple[int, ...]) -> DatasetDescription:
    regions = [value if isinstance(value, int) else value[0] for value in values.values()]
    has_regions = any(isinstance(value, tuple) for value in values.values())
    order = tuple(regions) if has_regions else None
    return DatasetDescription(name="toy", channels=("CT",), labels={"background": 0, **values}, regions_class_order=order)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (described(liver=1, spleen=2), described(liver=2, spleen=1), "`liver` is value 1 in one and value 2"),
        (described(liver=1, spleen=2), described(liver=1, spleen=3), "`spleen` is value 2 in one and value 3"),
        (described(kidney=1), described(tumour=1), "value 1 is `kidney` in one and `tumour` in the other"),
        (described(whole=(1, 2), core=(2,)), described(whole=(1, 2, 3), core=(2,)), "`whole` is values 1, 2 in one"),
        (described(whole=(1, 2), core=(2,)), described(whole=(1, 2), rim=(2,)), "`core` in one and `rim` in the other"),
        (described(whole=(1, 2), core=(2,)), described(edema=2, core=1), "`core` is value 2 in one and value 1"),
        (described(liver=1, lesion=2), described(liver=1, ignore=2), "`lesion` in one and `ignore` in the other"),
    ],
)
def test_contradicting_descriptions(one: DatasetDescription, other: DatasetDescription, said: str) -> None:
    assert said in "; ".join(contradictions(one, other))
    assert contradictions(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (described(liver=1, spleen=2), described(spleen=2, liver=1)),
        (described(liver=1), described(liver=1, spleen=2)),
        (described(liver=1), described(Liver=1)),
        (described(liver=1, ignore=2), described(liver=1)),
        (described(kidney=(1, 2), tumour=(2,)), described(kidney=1, tumour=2)),
        (described(whole=(1, 2), core=(2,)), described(edema=1, core=2)),
    ],
)
def test_descriptions_that_agree(one: DatasetDescription, other: DatasetDescription) -> None:
    assert contradictions(one, other) == contradictions(other, one) == []


def test_two_files_that_contradict_each_other_are_a_fault(folders: tuple[Path, Path], tmp_path: Path) -> None:
    swapped = described(organ=2, vessel=1)
    write_json(folders[0] / "prediction.json", {"model": "x", "dataset": described(organ=1, vessel=2).model_dump(mode="json")})
    swapped.write(folders[1] / "dataset.json")
    with pytest.raises(InputError, match=r"prediction\.json: it contradicts .*dataset\.json.*--labels"):
        evaluate(*folders)
    assert evaluate(*folders, swapped).means["vessel"]["dice"].value == 1, "what --labels names decides"
    described(organ=1).write(folders[1] / "dataset.json")
    assert evaluate(*folders).means["organ"]["dice"].value == 1


def test_another_description_that_cannot_be_read_is_named(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    ORGAN.write(folders[0] / "dataset.json")
    (folders[1] / "dataset.json").write_text("{")
    assert find_description(*folders) == ORGAN
    assert "references/dataset.json is not compared" in caplog.text
