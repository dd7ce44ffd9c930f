"""Files in, files out: exact geometry, each case by itself."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from configs.errors import InputError
from inference import PredictionOptions, Predictor, predict_cases
from inference.outputs.preview import montage
from inference.prediction.predict_files import Extras, plan_outputs
from tests.inference.models import threshold_model

REAL = Path(__file__).parents[4] / "shared" / "data" / "Dataset050_SpinalCordMix" / "imagesTr"
GEOMETRY_FIELDS = (
    *("dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(threshold_model(), "cpu", PredictionOptions(mirror=False, scales=(1.0,)))


def image(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).choice(np.array([0.4, 1.5, 2.6], np.float32), (18, 21, 13))


def write_nifti(path: Path, values: NDArray[np.float32]) -> Path:
    affine = np.array([[0, 0, -1, 3.3], [1, 0, 0, 4.7], [0, -1, 0, 0.1], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(values.T, affine), path)
    return path


def test_segmentations_of_files(tmp_path: Path, predictor: Predictor) -> None:
    cases = {case: (write_nifti(tmp_path / f"{case}_0000.nii.gz", image(seed)),) for seed, case in enumerate("ab")}
    outputs = plan_outputs(cases, tmp_path / "out")
    assert outputs == {case: tmp_path / "out" / f"{case}.nii.gz" for case in "ab"}
    assert predict_cases(predictor, cases, outputs) == {}
    for seed, case in enumerate("ab"):
        written = nib.load(outputs[case])
        expected = np.select([image(seed) > 2, image(seed) > 1], [7, 3], 0)
        np.testing.assert_array_equal(np.asanyarray(written.dataobj).T, expected)
        assert written.get_data_dtype() == np.uint8


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_formats_keep_their_geometry(tmp_path: Path, predictor: Predictor, ending: str) -> None:
    source = SimpleITK.GetImageFromArray(image())
    source.SetOrigin((12.34, -56.78, 9.1))
    source.SetSpacing((0.7, 1.1, 1.3))
    source.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    SimpleITK.WriteImage(source, str(tmp_path / f"a{ending}"))
    outputs = plan_outputs({"a": (tmp_path / f"a{ending}",)}, tmp_path / "out")
    assert predict_cases(predictor, {"a": (tmp_path / f"a{ending}",)}, outputs) == {}
    read, written = (SimpleITK.ReadImage(str(path)) for path in (tmp_path / f"a{ending}", outputs["a"]))
    for name in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(written, name)() == getattr(read, name)()
    assert written.GetPixelID() == SimpleITK.sitkUInt8


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_real_images_of_many_orientations_keep_their_geometry(tmp_path: Path, predictor: Predictor) -> None:
    cases = {path.name.removesuffix("_0000.nii.gz"): (path,) for path in sorted(REAL.glob("*.nii.gz"))}
    outputs = plan_outputs(cases, tmp_path)
    predictor.options = PredictionOptions(mirror=False, scales=(1.0,), step=1.0)
    assert predict_cases(predictor, cases, outputs) == {}
    turns = set()
    for case, (source,) in cases.items():
        before, after = nib.load(source), nib.load(outputs[case])
        turns.add(nib.aff2axcodes(before.affine))
        assert after.get_data_dtype().kind in "iu" and after.shape == before.shape[:3]
        np.testing.assert_array_equal(after.affine, before.affine)
        for field in GEOMETRY_FIELDS:
            np.testing.assert_array_equal(after.header[field], before.header[field], err_msg=f"{case} {field}")
    assert len(turns) > 1


def test_a_case_that_fails_leaves_the_others_alone(tmp_path: Path, predictor: Predictor) -> None:
    cases = {case: (write_nifti(tmp_path / f"{case}.nii.gz", image()),) for case in ("good", "cut", "nan", "last")}
    content = cases["cut"][0].read_bytes()
    cases["cut"][0].write_bytes(content[: len(content) // 2])
    broken = image()
    broken[0, 0, 0] = np.nan
    write_nifti(cases["nan"][0], broken)
    outputs = plan_outputs(cases, tmp_path / "out")
    failures = predict_cases(predictor, cases, outputs)
    assert sorted(failures) == ["cut", "nan"]
    assert "cut.nii.gz: the file cannot be read" in str(failures["cut"])
    assert "case `nan`: 1 of 4914 voxels" in str(failures["nan"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.nii.gz", "last.nii.gz"]


def test_an_error_in_the_network_is_a_case_that_fails(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(predictor, "segment_prepared", broken)
    cases = {"a": (write_nifti(tmp_path / "a.nii.gz", image()),)}
    failures = predict_cases(predictor, cases, plan_outputs(cases, tmp_path / "out"))
    assert str(failures["a"]) == "a bug" and not (tmp_path / "out").exists()


def test_what_else_can_be_written(tmp_path: Path, predictor: Predictor) -> None:
    cases = {"a": (write_nifti(tmp_path / "a_0000.nii.gz", image()),)}
    outputs = plan_outputs(cases, tmp_path / "mine.nii.gz")
    assert predict_cases(predictor, cases, outputs, Extras(probabilities=True, preview=True)) == {}
    with np.load(tmp_path / "mine_probabilities.npz", allow_pickle=False) as content:
        assert content["names"].tolist() == ["background", "grey", "bright"]
        chosen = np.array([0, 3, 7])[content["probabilities"].argmax(0)]
    np.testing.assert_array_equal(chosen, np.asanyarray(nib.load(outputs["a"]).dataobj).T)
    assert (tmp_path / "mine_preview.png").read_bytes().startswith(b"\x89PNG")


def test_outputs_that_cannot_be() -> None:
    several = {"a": (Path("in/a_0000.nii.gz"),), "b": (Path("in/b_0000.nii.gz"),)}
    with pytest.raises(InputError, match="one file cannot hold the segmentations of 2 cases"):
        plan_outputs(several, Path("out.nii.gz"))
    with pytest.raises(InputError, match="would replace the image"):
        plan_outputs({"a": (Path("in/a.nii.gz"),)}, Path("in"))
    assert plan_outputs({"a": (Path("in/a.mhd"),)}, Path("out")) == {"a": Path("out/a.mha")}


def test_montage(tmp_path: Path) -> None:
    values = image()
    labels = np.zeros(values.shape, np.uint8)
    labels[4:9, 5:12, 4:10] = 1
    labels[6:12, :3, :3] = 40
    path = tmp_path / "picture.png"
    montage(values, [labels, np.zeros_like(labels)], path, ["truth", "nothing"], spacing=(3, 1, 1), names={1: "box"})
    picture = path.read_bytes()
    assert picture.startswith(b"\x89PNG")
    montage(values, [labels, labels], path, ["truth", "truth"], spacing=(3, 1, 1), names={1: "box"})
    assert path.read_bytes() != picture
    with pytest.raises(ValueError, match="must have the image's shape"):
        montage(values, labels[1:], path)
    with pytest.raises(ValueError, match="1 titles for 2"):
        montage(values, [labels, labels], path, ["one"])


@pytest.mark.parametrize("ending", ["_entropy", "_disagreement"])
def test_extra_outputs_do_not_replace_the_segmentation_of_another_case(ending: str) -> None:
    cases = {name: (Path(f"in/{name}_0000.nii.gz"),) for name in ("a", f"a{ending}")}
    with pytest.raises(InputError, match=f"case `a{ending}`: case `a` writes its extra output"):
        plan_outputs(cases, Path("out"), Extras(uncertainty=True))
    assert len(set(plan_outputs(cases, Path("out"), Extras(probabilities=True)).values())) == 2
