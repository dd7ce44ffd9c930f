"""Formats are found by ending; a user's own one takes part in everything, but only where the user names it."""

import json
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import inference.evaluation.cli
import inference.prediction.cli
import planners.cli
from configs.errors import InputError
from configs.plan import Plan
from preprocessing import Format, Geometry, open_dataset, read_image, read_labels, use_format, write_labels
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


@pytest.fixture
def toys(tmp_path: Path) -> dict[str, Path]:
    """The same dataset in both formats: ending -> folder for it, with the same model."""
    for ending in (".nii.gz", ".vox"):
        data = make_dataset(tmp_path / ending / "Toy", labels=dict(LABELS.labels))
        for path in (data / "labelsTr").iterdir():
            save(path, np.array([0, 3, 7], np.uint8)[labels()])
        write_model(tmp_path / ending / "model", ("0",))
    convert(tmp_path / ".vox/Toy")
    registry._own.clear()
    return {ending: tmp_path / ending for ending in (".nii.gz", ".vox")}


def test_an_own_format_is_planned_prepared_predicted_and_evaluated_as_nifti_is(
    toys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the commands and in worker processes: arrays, segmentations and scores are the same."""
    small = ("--network", "baseline", "--configurations", "3d_fullres", "--patch-size", "8", "8", "8")
    found = []
    for ending, folder in toys.items():
        named = ("--image-format", OWN) if ending == ".vox" else ()
        run, data, out = partial(run_command, monkeypatch, *named), folder / "Toy", folder / "out"
        assert run(planners.cli.main, data, "--work", folder / "work", *small, "--jobs", "2") == 0
        assert run(inference.prediction.cli.main, "-i", data / "imagesTr", "-o", out, "-m", folder / "model") == 0
        assert run(inference.evaluation.cli.main, out, data / "labelsTr", "-o", folder / "scores.json", "--jobs", "2") == 0
        store = CaseStore(folder / "work/Toy/preprocessed/3d_fullres")
        arrays = [np.asarray(getattr(store.read(case), part)[:]) for case in store.identifiers() for part in ("image", "labels")]
        arrays += [read_labels(folder / f"out/case_{case}{ending}")[0] for case in range(3)]
        configurations = Plan.read(folder / "work/Toy/plan.json").configurations
        found.append((arrays, configurations, (folder / "scores.csv").read_text()))
    (arrays, configurations, scores), (own_arrays, own_configurations, own_scores) = found
    assert len(arrays) == 9 and all(map(np.array_equal, arrays, own_arrays))
    assert configurations == own_configurations and scores == own_scores


def run_command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command whose function is among the words, with the other words."""
    (main,) = (word for word in words if callable(word))
    monkeypatch.setattr("sys.argv", ["se_command", *(str(word) for word in words if word is not main), "--quiet"])
    return main()


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
        with pytest.raises(InputError, match=r"\.nii\.gz, \.nrrd.*\.bmp, or name a format of your own"):
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
