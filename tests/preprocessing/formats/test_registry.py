"""Formats are found by ending; a user's own one takes part in everything, but only where the user names it."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from configs.errors import InputError
from configs.plan import Plan
from inference import Predictor, evaluate
from inference.prediction.predict_files import predict_cases
from planners import PlanningOptions, plan_and_preprocess
from preprocessing import Format, Geometry, open_dataset, read_image, read_labels, use_format, write_labels
from preprocessing.dataset.raw import find_cases
from preprocessing.formats import registry
from preprocessing.formats.images import read_header, write_scalar
from preprocessing.store import CaseStore
from tests.inference.models import LABELS, write_model
from tests.preprocessing.datasets import SHAPE, image, labels, make_dataset, save

HERE = "tests.preprocessing.formats.own_format"
OWN = f"{HERE}:Archive"


@pytest.fixture(autouse=True)
def no_formats_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_own", {})


def convert(folder: Path, **changes: object) -> Path:
    """Rewrite the images of a dataset in the own format."""
    use_format(OWN)
    for path in sorted(folder.rglob("*.nii.gz")):
        array, geometry = read_image([path])
        new = path.with_name(path.name.replace(".nii.gz", ".vox"))
        if path.parent.name == "imagesTr":
            write_scalar(new, array[0], geometry)
        else:
            write_labels(new, array[0].astype(np.int64), geometry)
        path.unlink()
    content = json.loads((folder / "dataset.json").read_text()) | {"file_ending": ".vox"} | changes
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_every_built_in_format_is_one_and_states_its_endings() -> None:
    for name, endings in registry._BUILT_IN.items():
        made = registry._make(name)
        assert isinstance(made, Format) and made.endings == endings
        assert all(registry.format_of(Path(f"a{ending}")) is made for ending in endings)


def test_an_own_format_is_planned_prepared_predicted_and_evaluated_as_nifti_is(tmp_path: Path) -> None:
    """Arrays, plan and scores are those of the same dataset in NIfTI, with worker processes."""
    options = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",), patch_size=(8, 8, 8))
    made = {}
    for kind in ("nifti", "own"):
        data = make_dataset(tmp_path / kind / "Toy", labels=dict(LABELS.labels))
        for path in (data / "labelsTr").iterdir():
            save(path, np.array([0, 3, 7], np.uint8)[labels()])
        data = convert(data) if kind == "own" else data
        plan = plan_and_preprocess(data, tmp_path / kind / "work", options, jobs=2)
        store = CaseStore(tmp_path / kind / "work/Toy/preprocessed/3d_fullres")
        arrays = [np.asarray(getattr(store.read(case), part)[:]) for case in store.identifiers() for part in ("image", "labels")]
        predictor = Predictor.load(write_model(tmp_path / kind / "model", ("0",)), device="cpu")
        cases = find_cases(data / "imagesTr", LABELS)
        ending = ".vox" if kind == "own" else ".nii.gz"
        targets = {case: tmp_path / kind / f"out/{case}{ending}" for case in cases}
        assert predict_cases(predictor, cases, targets) == {}
        scores = evaluate(tmp_path / kind / "out", data / "labelsTr", plan.dataset, jobs=2)
        made[kind] = plan, arrays, [read_labels(target)[0] for target in targets.values()], scores
    (plan, arrays, segmented, scores), (own_plan, own_arrays, own_segmented, own_scores) = made.values()
    assert isinstance(plan, Plan) and plan.configurations == own_plan.configurations
    assert (
        len(arrays) == 6 and all(map(np.array_equal, arrays, own_arrays)) and all(map(np.array_equal, segmented, own_segmented))
    )
    assert scores.means == own_scores.means and {score.dice for score in scores.cases["case_0"].values()} != {1.0}


def test_an_own_format_goes_before_the_built_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{HERE}.Archive.endings", (".nii.gz",))
    path = save(tmp_path / "a.nii.gz", image())
    array, geometry = read_image([path])
    registry._make.cache_clear()
    use_format(OWN)
    write_scalar(tmp_path / "b.nii.gz", array[0], geometry)
    assert read_header(tmp_path / "b.nii.gz") == (1, geometry)
    with pytest.raises(nib.filebasedimages.ImageFileError):
        nib.load(tmp_path / "b.nii.gz")


def test_a_dataset_runs_no_code_that_the_user_does_not_name(tmp_path: Path) -> None:
    data = convert(make_dataset(tmp_path / "Toy"), image_format=OWN)
    assert len(open_dataset(data).cases) == 3
    registry._own.clear()
    with pytest.raises(InputError, match=rf"runs only with --image-format.*add --image-format {OWN}"):
        open_dataset(data)


def test_unknown_endings_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    data = convert(make_dataset(tmp_path / "Toy"))
    registry._own.clear()
    geometry = Geometry.from_spacing(SHAPE, (1, 1, 1))
    for refused in (
        lambda: open_dataset(data),
        lambda: read_labels(data / "labelsTr/case_0.vox"),
        lambda: write_labels(tmp_path / "a.vox", labels(), geometry),
    ):
        with pytest.raises(InputError, match=r"\.nii\.gz, \.nrrd.*\.tiff, or name a format of your own"):
            refused()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system", "the name must have the form MODULE:CLASS"),
        ("no_such_module:Format", "the module cannot be imported"),
        (f"{HERE}:Missing", "has no `Missing`"),
        (f"{HERE}:Nameless", "a tuple of endings"),
        (f"{HERE}:Unfinished", "cannot be created"),
        (f"{HERE}:Stranger", "it is not a preprocessing.formats.format.Format"),
    ],
)
def test_what_is_no_format_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        use_format(name)
    assert registry.known_endings() == tuple(ending for endings in registry._BUILT_IN.values() for ending in endings)
