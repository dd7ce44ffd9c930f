"""What happens to preprocessed cases when processes are killed or the disk is full; and on a cluster."""

import os
import resource
import signal
import subprocess

import numpy as np
import pytest

import preprocessing.run
import preprocessing.store
from configs.errors import InputError
from configs.progress import Silent
from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from preprocessing.dataset.raw import open_dataset
from preprocessing.parallel.for_each_case import for_each_case
from preprocessing.run import preprocess_dataset
from preprocessing.store import CaseStore
from tests.preprocessing.clusters import local_cluster
from tests.preprocessing.datasets import image, labels, make_dataset, save
from tests.preprocessing.test_run import plan_for, written

CONFIGURATION = "3d_fullres"
preprocess_case = preprocessing.run._preprocess_case
write_array = preprocessing.store._write_array


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(make_dataset(tmp_path / "data", cases=5))


def preprocess_and_die(identifier, files, **settings):
    """Kill the process when the image of `case_1` is written and its labels are half-written."""
    if identifier == "case_1":
        preprocessing.store._write_array = write_half
    return preprocess_case(identifier, files, **settings)


def write_half(path, array, patch):
    if not path.name.endswith("_labels.b2nd"):
        write_array(path, array, patch)
        return
    (path.parent / f".partial-x-{path.name}").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:A worker stopped")  # joblib warns of the killed worker as well
def test_a_killed_worker_costs_its_case_only_and_a_rerun_completes_it(tmp_path, dataset, monkeypatch):
    plan, folder = plan_for(dataset), tmp_path / "store"
    with monkeypatch.context() as patched:
        patched.setattr(preprocessing.run, "_preprocess_case", preprocess_and_die)
        with pytest.raises(RuntimeError, match="1 of 5 cases failed: case `case_1`: the worker process was killed twice"):
            preprocess_dataset(dataset, plan, CONFIGURATION, folder, jobs=2)
    store = CaseStore(folder)
    assert store.identifiers() == ["case_0", "case_2", "case_3", "case_4"]
    assert (folder / "case_1.b2nd").exists() and any("case_1" in path.name for path in folder.glob(".partial*"))
    first = written(folder)
    preprocess_dataset(dataset, plan, CONFIGURATION, folder, jobs=2)
    second = written(folder)
    assert store.identifiers() == list(dataset.cases) and not list(folder.glob(".partial*"))
    assert {name for name in second if second[name] != first.get(name)} == {"case_1.json"}
    whole = preprocess_dataset(dataset, plan, CONFIGURATION, tmp_path / "whole")
    assert_same(store, whole)


def assert_same(one, other):
    """Two stores hold the same, file by file and bit by bit."""
    assert sorted(path.name for path in one.folder.iterdir()) == sorted(path.name for path in other.folder.iterdir())
    for path in one.folder.iterdir():
        assert path.read_bytes() == (other.folder / path.name).read_bytes(), path.name


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here ({error})")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def large_cases(folder):
    """Noise that does not compress: two cases fill the small disk."""
    make_dataset(folder, cases=1)
    for index in range(5):
        save(folder / f"imagesTr/case_{index}_0000.nii.gz", image(index, (50, 50, 50)))
        save(folder / f"labelsTr/case_{index}.nii.gz", labels((50, 50, 50)))
    return open_dataset(folder)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_is_said_and_no_half_written_case_is_taken_for_a_whole_one(tmp_path, small_disk, jobs):
    dataset = large_cases(tmp_path / "data")
    folder = small_disk / "store"
    with pytest.raises(
        RuntimeError, match=r"the disk is full: case `case_\d`: OSError: \[Errno 28\].*free some space and run again"
    ):
        preprocess_dataset(dataset, plan_for(dataset), CONFIGURATION, folder, jobs)
    finished = CaseStore(folder).identifiers()
    assert 1 <= len(finished) < 5 and not list(folder.glob(".partial*"))
    whole = preprocess_dataset(dataset, plan_for(dataset), CONFIGURATION, tmp_path / "whole")
    for identifier in finished:
        assert np.array_equal(CaseStore(folder).read(identifier).image[:], whole.read(identifier).image[:])


def test_a_file_that_cannot_be_written_to_its_end_is_no_case(tmp_path):
    dataset = large_cases(tmp_path / "data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # bytes of a file
    try:
        with pytest.raises(RuntimeError, match=r"5 of 5 cases failed: case `case_0`: OSError: \[Errno 27\] File too large"):
            preprocess_dataset(dataset, plan_for(dataset), CONFIGURATION, tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert CaseStore(tmp_path / "store").identifiers() == [] and not list((tmp_path / "store").glob(".partial*"))
    assert preprocess_dataset(dataset, plan_for(dataset), CONFIGURATION, tmp_path / "store").identifiers() == list(dataset.cases)


@pytest.fixture
def cluster():
    """A Dask cluster of two processes on this machine."""
    with local_cluster(2) as address:
        yield address


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the cluster's own making
def test_a_cluster_gives_the_same_bits(tmp_path, dataset, cluster):
    options = PlanningOptions(spacing=(1.3, 0.8, 0.9))
    plan_and_preprocess(dataset.folder, tmp_path / "here", options, jobs=2)
    plan_and_preprocess(dataset.folder, tmp_path / "there", options, scheduler=cluster)
    here, there = tmp_path / "here/data", tmp_path / "there/data"
    for name in ("dataset.json", "fingerprint.json", "plan.json"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    for configuration in (folder.name for folder in (here / "preprocessed").iterdir()):
        stores = [CaseStore(made / "preprocessed" / configuration) for made in (here, there)]
        assert_same(*stores)
        assert stores[0].identifiers() == list(dataset.cases)
    dataset.cases["case_2"].images[0].write_bytes(b"")
    with pytest.raises(InputError, match=r"case `case_2`.*cannot be read"):
        plan_and_preprocess(dataset.folder, tmp_path / "there", options, scheduler=cluster)


def kill(identifier, value):
    if identifier == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the cluster's own making
def test_a_case_that_kills_the_clusters_workers_ends_the_run(cluster):
    with pytest.raises(RuntimeError, match=r"Testing: the cluster gave up \(KilledWorker: .*Unfinished cases: .*`b`"):
        list(for_each_case(kill, dict.fromkeys("abc", 1), 1, Silent(), "Testing", scheduler=cluster))
