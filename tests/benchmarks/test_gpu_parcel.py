"""What travels to a GPU machine without a network: wheels of what the check needs and of nothing else."""

from importlib.metadata import distribution
from pathlib import Path

import pytest

from benchmarks.gpu import parcel


def names(*present: str) -> set[str]:
    return {requirement.split("==")[0] for requirement in parcel.needed("se-unet", {*present, *parcel.UNUSED}, "3.12")}


def test_all_that_is_needed_directly_or_through_others_is_named_once() -> None:
    found = list(parcel.needed("se-unet", parcel.UNUSED, "3.12"))
    assert len(found) == len(set(found))
    assert {"nibabel", "batchgenerators", "pydantic", "pydantic-core"} <= {one.split("==")[0] for one in found}
    assert f"nibabel=={distribution('nibabel').version}" in found


def test_what_is_present_stays_out_with_what_it_alone_needs() -> None:
    assert "pydantic-core" in names()
    assert not names("pydantic") & {"pydantic", "pydantic-core"}
    assert not names() & {"simpleitk", "torch", "unittest2", "pytest"}, "extras are not needed"


@pytest.mark.parametrize("line", ["Scikit_Image==0.25", "scikit-image 0.25.2", "scikit.image>=0.2", "scikit-image"])
def test_the_list_of_the_other_machine_may_have_any_form(line: str) -> None:
    assert parcel._name(line) == "scikit-image"


def test_the_parcel_holds_wheels_and_training_cases_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / "data" / part).mkdir(parents=True)
        (tmp_path / "data" / part / "case.nii.gz").write_bytes(b"image")
    (tmp_path / "data" / "dataset.json").write_text("{}")
    (tmp_path / "present.txt").write_text("numpy==2.0\n\n# a comment\n")
    fetched: list[str] = []
    monkeypatch.setattr(parcel, "fetch", lambda requirement, python, wheels: fetched.append(requirement))
    words = [str(tmp_path / "present.txt"), "--folder", str(tmp_path / "parcel"), "--data", str(tmp_path / "data")]
    assert parcel.main(words) == 0
    assert sorted(path.name for path in (tmp_path / "parcel" / "data").iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    assert any(one.startswith("scipy==") for one in fetched) and not any(one.startswith("numpy==") for one in fetched)
    assert f"PYTHONPATH={tmp_path / 'parcel'}/site:." in capsys.readouterr().out
    monkeypatch.setattr(parcel, "MOST_BYTES", 3)
    assert parcel.main(words) == 1, "it is too large"


def test_a_distribution_without_a_wheel_of_pure_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="there is no wheel of no-such-distribution-of-ours==1"):
        parcel.fetch("no-such-distribution-of-ours==1", "3.12", tmp_path)
