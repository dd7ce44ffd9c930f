import os
import shutil
from functools import partial

import numpy as np
import pytest

from configs.errors import InputError
from configs.outputs import held
from configs.plan import ChannelNormalisation, ConfigurationPlan, Plan
from preprocessing.dataset.raw import CaseFiles, open_dataset
from preprocessing.formats.images import write_labels
from preprocessing.geometry.affine import Geometry
from preprocessing.run import changed_cases, preprocess_dataset, require_prepared, staleness_key
from preprocessing.store import CaseStore
from tests.preprocessing.datasets import image, labels, make_dataset, save
from tests.trainers.balls import tiny_plan

NETWORK = tiny_plan().network("3d_fullres", "baseline")


def plan_for(dataset, spacing=(1.0, 1.0, 1.0), scheme="zscore"):
    channels = tuple(ChannelNormalisation(channel=name, scheme=scheme) for name in dataset.description.channels)
    configuration = ConfigurationPlan(spacing=spacing, median_shape=(14, 12, 10), normalisation=channels)
    return Plan(dataset=dataset.description, configurations={"3d_fullres": configuration})


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(make_dataset(tmp_path / "data"))


def written(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}


def test_a_rerun_makes_only_what_is_missing_or_stale(tmp_path, dataset):
    folder = tmp_path / "store"
    run = partial(preprocess_dataset, dataset, configuration="3d_fullres", folder=folder)
    store = run(plan=plan_for(dataset))
    assert store.identifiers() == list(dataset.cases)
    first = written(folder)
    run(plan=plan_for(dataset))
    assert written(folder) == first

    (folder / "case_0.b2nd").unlink()
    save(dataset.cases["case_1"].images[0], image(77))
    run(plan=plan_for(dataset))
    second = written(folder)
    assert sorted(name for name in first if second[name] != first[name]) == ["case_0.json", "case_1.json"]

    run(plan=plan_for(dataset, spacing=(1.0, 1.0, 1.25)))
    third = written(folder)
    assert all(third[name] != second[name] for name in second)
    run(plan=plan_for(dataset, spacing=(1.0, 1.0, 1.25)), overwrite=True)
    assert all(written(folder)[name] != third[name] for name in third)


def test_content_decides_not_names_and_times(tmp_path, dataset):
    run = partial(preprocess_dataset, dataset, plan_for(dataset), "3d_fullres", tmp_path / "store")
    run()
    first = written(tmp_path / "store")
    image_file, label_file = dataset.cases["case_0"].images[0], dataset.cases["case_1"].labels
    os.utime(image_file, ns=(10**18, 10**18))
    run()
    assert written(tmp_path / "store") == first
    times, swapped = label_file.stat(), labels()
    swapped[labels() == 1], swapped[labels() == 2] = 2, 1
    save(label_file, swapped)
    os.utime(label_file, ns=(times.st_atime_ns, times.st_mtime_ns))
    run()
    second = written(tmp_path / "store")
    assert {name for name in second if second[name] != first[name]} == {"case_1.json"}


@pytest.mark.parametrize("changes", [{"spacing": (1.0, 1.0, 1.25)}, {"scheme": "none"}])
def test_cases_of_another_plan_are_found_without_their_files(tmp_path, dataset, changes):
    store = preprocess_dataset(dataset, plan_for(dataset), "3d_fullres", tmp_path / "store")
    model, other = (plan_for(dataset, **given).only("3d_fullres", "baseline", NETWORK) for given in ({}, changes))
    shutil.rmtree(dataset.folder)
    require_prepared(store, dataset.cases, model)
    with pytest.raises(InputError, match=r"prepared 3 cases \(case_0, case_1, case_2\)"):
        require_prepared(store, dataset.cases, other)
    with pytest.raises(InputError, match="case `case_9`: not in"):
        require_prepared(store, ["case_9"], model)


def test_changed_cases_are_those_with_other_settings_or_damage(tmp_path, dataset):
    store = preprocess_dataset(dataset, plan_for(dataset), "3d_fullres", tmp_path / "store")
    find = partial(changed_cases, dataset, configuration="3d_fullres", folder=store.folder)
    assert find(plan_for(dataset)) == []
    assert find(plan_for(dataset, spacing=(1.0, 1.0, 1.25))) == list(dataset.cases)
    (store.folder / "case_1.json").write_text("{")
    assert find(plan_for(dataset)) == ["case_1"]


def test_what_a_training_reads_is_not_prepared_anew(tmp_path, dataset):
    run = partial(preprocess_dataset, dataset, configuration="3d_fullres", folder=tmp_path / "store")
    run(plan=plan_for(dataset))
    before = written(tmp_path / "store")
    with held(tmp_path / "store", to_read=True):
        run(plan=plan_for(dataset))
        with pytest.raises(InputError, match="another process is working in it"):
            run(plan=plan_for(dataset, spacing=(1.0, 1.0, 1.25)))
        with pytest.raises(InputError, match="another process is working in it"):
            run(plan=plan_for(dataset), overwrite=True)
    assert written(tmp_path / "store") == before


@pytest.mark.parametrize(("ending", "companion"), [(".tif", ".json"), (".mhd", ".zraw")])
def test_files_beside_an_image_count_as_its_content(tmp_path, ending, companion):
    geometry = Geometry.from_spacing((14, 12, 10), (3, 1, 1))
    write_labels(tmp_path / f"case{ending}", labels().T, geometry)
    dataset = open_dataset(make_dataset(tmp_path / "data", cases=1))
    files = CaseFiles((tmp_path / f"case{ending}",), None)
    before = staleness_key(files, plan_for(dataset), "3d_fullres")
    assert staleness_key(files, plan_for(dataset), "3d_fullres") == before
    (tmp_path / f"case{companion}").write_bytes(b"other")
    assert staleness_key(files, plan_for(dataset), "3d_fullres") != before


def test_cases_that_left_the_dataset_leave_the_store(tmp_path, dataset):
    preprocess_dataset(dataset, plan_for(dataset), "3d_fullres", tmp_path / "store")
    for path in (*dataset.cases["case_2"].images, dataset.cases["case_2"].labels):
        path.unlink()
    store = preprocess_dataset(open_dataset(dataset.folder), plan_for(dataset), "3d_fullres", tmp_path / "store")
    assert store.identifiers() == ["case_0", "case_1"]
    assert not list((tmp_path / "store").glob("case_2*"))


def test_failing_cases_are_named_and_the_others_finish(tmp_path, dataset):
    dataset.cases["case_1"].images[0].write_bytes(b"")
    with pytest.raises(InputError, match=r"case `case_1`.*cannot be read"):
        preprocess_dataset(dataset, plan_for(dataset), "3d_fullres", tmp_path / "store")
    assert CaseStore(tmp_path / "store").identifiers() == ["case_0", "case_2"]
    save(dataset.cases["case_1"].images[0], image(1, (5, 5, 5)))
    with pytest.raises(
        InputError, match=r"case `case_1`, .*case_1.nii.gz: the label file has the shape \(14, 12, 10\) and the image \(5, 5, 5\)"
    ):
        preprocess_dataset(dataset, plan_for(dataset), "3d_fullres", tmp_path / "store")
    save(dataset.cases["case_1"].images[0], image(1))
    store = preprocess_dataset(dataset, plan_for(dataset), "3d_fullres", tmp_path / "store")
    assert store.identifiers() == list(dataset.cases)


def test_processes_give_the_same_arrays(tmp_path, dataset):
    plan = plan_for(dataset)
    alone = preprocess_dataset(dataset, plan, "3d_fullres", tmp_path / "alone", jobs=1)
    together = preprocess_dataset(dataset, plan, "3d_fullres", tmp_path / "together", jobs=2)
    for identifier in dataset.cases:
        one, two = alone.read(identifier), together.read(identifier)
        assert np.array_equal(one.image[:], two.image[:]) and np.array_equal(one.labels[:], two.labels[:])
        assert one.properties == two.properties
