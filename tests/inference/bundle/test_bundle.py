"""Sound bundles come back as they were; every hostile kind is refused, and nothing is written then."""

import hashlib
import io
import json
import stat
import struct
import sys
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save

from configs.errors import InputError
from configs.training import TrainingConfig
from inference.bundle import install, new_folder
from inference.bundle.export import export_bundle
from inference.bundle.install import import_bundle
from inference.bundle.onnx import export_network
from inference.bundle.verify import verify_bundle
from inference.model import load_model
from tests.inference.models import plan, write_model

FOLD_0 = "fold_0/weights_final.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("models") / "toy")
    TrainingConfig(epochs=3).write(folder / "training.json")
    (folder / "fold_0/checkpoint_latest.pt").write_bytes(b"a pickle that must stay behind")
    return folder


@pytest.fixture(scope="module")
def contents(model, tmp_path_factory):
    """Name -> content of a sound bundle, the manifest left out."""
    path = tmp_path_factory.mktemp("bundles") / "toy.zip"
    export_bundle(model, path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}


def entry(name, mode=0o100644, compression=zipfile.ZIP_STORED):
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    made.compress_type = compression
    made.create_system = 3
    return made


def manifest_of(contents):
    listed = {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in contents.items()}
    return {"format": "se-unet model", "version": 1, "files": listed}


def bundle(path, contents, entries=(), manifest=None, *, compression=zipfile.ZIP_STORED):
    """Write a bundle whose manifest fits its contents, unless another is given; `entries` are added behind."""
    written = manifest_of(contents) if manifest is None else manifest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(entry(name, compression=compression), content)
            if written:
                archive.writestr(entry("manifest.json"), written if isinstance(written, bytes) else json.dumps(written))
            for added, content in entries:
                archive.writestr(added, content)
    return path


def refused(tmp_path, path, message):
    """The bundle must be refused with the message, and nothing be written."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message) as caught:
        import_bundle(path, tmp_path / "imported")
    assert sorted(tmp_path.rglob("*")) == before
    return caught.value


def test_round_trip(model, tmp_path):
    manifest = export_bundle(model, tmp_path / "toy.zip")
    import_bundle(tmp_path / "toy.zip", tmp_path / "new/imported")
    written = {path.relative_to(tmp_path / "new/imported").as_posix() for path in (tmp_path / "new/imported").rglob("*.*")}
    assert written == set(manifest.files)
    assert set(manifest.files) - {"dataset.json", "model_card.md"} == {
        "plan.json",
        "training.json",
        FOLD_0,
        "fold_1/weights_final.safetensors",
    }
    ours, theirs = load_model(model), load_model(tmp_path / "new/imported")
    assert ours.plan == theirs.plan and (tmp_path / "new/imported/training.json").read_text()
    for fold, network in ours.networks.items():
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, theirs.networks[fold].state_dict()[name])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["imported"]


def test_same_model_same_bytes(model, tmp_path):
    export_bundle(model, tmp_path / "a.zip")
    export_bundle(model, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_imported_model_is_exported_as_the_same_bundle(model, tmp_path):
    export_bundle(model, tmp_path / "a.zip", licence="CC-BY-4.0")
    import_bundle(tmp_path / "a.zip", tmp_path / "imported")
    export_bundle(tmp_path / "imported", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_folds_and_checkpoints_are_chosen(model, tmp_path):
    assert set(export_bundle(model, tmp_path / "one.zip", folds=[1]).weights()) == {("1", "final")}
    assert set(export_bundle(model, tmp_path / "all.zip", checkpoint="all").weights()) == {("0", "final"), ("1", "final")}
    with pytest.raises(InputError, match="no best weights"):
        export_bundle(model, tmp_path / "best.zip", folds=[0], checkpoint="best")
    assert not (tmp_path / "best.zip").exists()


def test_a_folder_that_exists_is_left_alone(model, tmp_path):
    export_bundle(model, tmp_path / "toy.zip")
    (tmp_path / "imported").mkdir()
    refused(tmp_path, tmp_path / "toy.zip", "the folder already exists")
    (tmp_path / "imported").rmdir()
    (tmp_path / "imported").symlink_to(tmp_path / "nowhere")
    refused(tmp_path, tmp_path / "toy.zip", "the folder already exists")


def test_sound_contents_pass(contents, tmp_path):
    verify_bundle(bundle(tmp_path / "sound.zip", contents))  # what the hostile ones below are made from


NAMES = {
    "/etc/cron.d/job": "is an absolute path",
    "C:\\Windows\\job": "is an absolute path",
    "\\\\server\\share": "is an absolute path",
    "../plan.json": "leads outside the folder",
    "fold_0/../../plan.json": "leads outside the folder",
    "fold_0\\..\\..\\x": "leads outside the folder",
    "weights.pkl": "is not a file of a model",
    "fold_0/checkpoint_latest.pt": "is not a file of a model",
    "fold_0/weights_final.safetensors.py": "is not a file of a model",
    "fold_0/weights_final.safetensors\n": "is not a file of a model",
    "PLAN.JSON": "is not a file of a model",
    "": "has no name",
    "./plan.json": "is not a file of a model",
    "fold_0/": "is not a regular file",
}


@pytest.mark.parametrize("name", NAMES)
def test_names(contents, tmp_path, name):
    hostile = bundle(tmp_path / "hostile.zip", contents, [(entry(name), b"")], manifest_of({**contents, name: b""}))
    refused(tmp_path, hostile, NAMES[name])


def test_zip_that_ends_a_name_at_a_null_byte(contents, tmp_path):
    path = bundle(tmp_path / "hostile.zip", contents, [(entry("plan.json#.py"), b"")])
    path.write_bytes(path.read_bytes().replace(b"plan.json#.py", b"plan.json\0.py"))
    refused(tmp_path, path, "the name 'plan.json' occurs 2 times|is not a file of a model|damaged")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_devices(contents, tmp_path, kind):
    kept = {name: content for name, content in contents.items() if name != "training.json"}
    hostile = bundle(
        tmp_path / "hostile.zip", kept, [(entry("training.json", kind | 0o777), contents["training.json"])], manifest_of(contents)
    )
    refused(tmp_path, hostile, "'training.json' is a link" if kind == stat.S_IFLNK else "'training.json' is not a regular file")


def test_repeated_names(contents, tmp_path):
    hostile = bundle(tmp_path / "hostile.zip", contents, [(entry("plan.json"), b"{}")])
    refused(tmp_path, hostile, "the name 'plan.json' occurs 2 times")


def test_compressed_bombs(contents, tmp_path):
    bomb = contents | {FOLD_0: bytes(50_000_000)}
    hostile = bundle(tmp_path / "hostile.zip", bomb, compression=zipfile.ZIP_DEFLATED)
    assert hostile.stat().st_size < 200_000
    refused(tmp_path, hostile, "is compressed, which is not allowed")


def test_sizes_that_overlap_or_lie(contents, tmp_path):
    path = bundle(tmp_path / "hostile.zip", contents)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")  # the first entry of the directory: both sizes
    struct.pack_into("<II", content, at + 20, 2**31, 2**31)
    path.write_bytes(content)
    refused(tmp_path, path, "the files claim 2147")


def test_texts_that_are_too_long(contents, tmp_path):
    hostile = bundle(tmp_path / "hostile.zip", contents | {"model_card.md": b"x" * (16 * 1024 * 1024 + 1)})
    refused(tmp_path, hostile, "more than 16777216")


def test_too_many_files(contents, tmp_path):
    many = {f"fold_{index}/weights_final.safetensors": b"" for index in range(1001)}
    refused(tmp_path, bundle(tmp_path / "hostile.zip", contents | many), "more than 1000")


def test_encrypted_entries(contents, tmp_path):
    path = bundle(tmp_path / "hostile.zip", contents)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(tmp_path, path, "is encrypted")


MANIFESTS = {
    "none": (b"", "manifest.json is missing"),
    "no JSON": (b"{", "manifest.json cannot be used"),
    "deep": (b"[" * 100_000, "manifest.json cannot be used"),
    "other format": (b'{"format": "other", "files": {}}', "manifest.json cannot be used: format"),
    "newer": (b'{"version": 2, "files": {}}', "manifest.json cannot be used: version"),
    "empty": (b'{"files": {}}', "'plan.json' is not in the manifest"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests(contents, tmp_path, name):
    manifest, message = MANIFESTS[name]
    if not manifest:
        path = tmp_path / "hostile.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("plan.json", contents["plan.json"])
        refused(tmp_path, path, message)
    else:
        refused(tmp_path, bundle(tmp_path / "hostile.zip", contents, manifest=manifest), message)


def test_a_file_that_is_no_bundle_is_refused_in_one_line(tmp_path):
    """PyTorch's own files are ZIP archives with many entries."""
    torch.save({name: torch.zeros(2) for name in "abcdef"}, tmp_path / "checkpoint_final.pth")
    with pytest.raises(InputError, match=r"not a bundle: manifest\.json is missing") as caught:
        import_bundle(tmp_path / "checkpoint_final.pth", tmp_path / "model")
    assert len(caught.value.faults) == 1


def test_checksums_sizes_and_lists_must_agree(contents, tmp_path):
    changed = contents | {FOLD_0: contents[FOLD_0][:-1] + b"\1"}
    refused(tmp_path, bundle(tmp_path / "a.zip", changed, manifest=manifest_of(contents)), "does not match its checksum")
    longer = contents | {FOLD_0: contents[FOLD_0] + b"\1"}
    refused(tmp_path, bundle(tmp_path / "b.zip", longer, manifest=manifest_of(contents)), "bytes, but the manifest says")
    fewer = {name: content for name, content in contents.items() if name != "training.json"}
    refused(
        tmp_path, bundle(tmp_path / "c.zip", fewer, manifest=manifest_of(contents)), "is in the manifest but not in the bundle"
    )
    refused(tmp_path, bundle(tmp_path / "d.zip", contents, manifest=manifest_of(fewer)), "is not in the manifest")


@pytest.mark.parametrize("missing", ["plan.json", "weights"])
def test_what_must_be_there(contents, tmp_path, missing):
    kept = {name: content for name, content in contents.items() if missing not in name}
    message = "plan.json is missing" if missing == "plan.json" else "weights are missing"
    refused(tmp_path, bundle(tmp_path / "hostile.zip", kept), message)


def test_a_selection_stays_in_its_bundle(contents, tmp_path):
    stated = {"models": ["."], "folds": ["0"], "checkpoint": "final", "postprocessing": {}, "command": "", "cases": 0}
    stated |= {"candidates": [], "gains": {}}
    wrong = {
        "names other models: ../other": {"models": ["../other"]},
        "names folds without final weights: 7": {"folds": ["0", "7"]},
        "the dataset has no label 99": {"postprocessing": {"largest_of": [[99]]}},
        "cannot be used": {"folds": []},
    }
    sound = bundle(tmp_path / "sound.zip", contents | {"selection.json": json.dumps(stated).encode()})
    assert "selection.json" in verify_bundle(sound).files
    for message, changes in wrong.items():
        hostile = bundle(tmp_path / "hostile.zip", contents | {"selection.json": json.dumps(stated | changes).encode()})
        refused(tmp_path, hostile, message)


def planned(**changes):
    """A plan.json whose network is changed."""
    data = json.loads(plan(scheme="zscore").model_dump_json())
    data["configurations"]["3d_fullres"]["networks"]["baseline"]["network"] |= changes
    return json.dumps(data).encode()


TEXTS = {
    "plan.json": [(b"\x80\x04N.", "cannot be used"), (b"{}", "'plan.json' cannot be used: dataset"), (b"[" * 100_000, "nested")],
    "training.json": [(b'{"epochs": -1}', "'training.json' cannot be used: epochs")],
    "calibration.json": [(b'{"labels": [], "always": [true]}', "'calibration.json' cannot be used")],
    "equivariance.json": [(b"[]", "'equivariance.json' cannot be used")],
    "dataset.json": [(b"{}", "'dataset.json' cannot be used")],
    "model_card.md": [(b"\xff\xfe", "is not a text file")],
}


@pytest.mark.parametrize(("name", "content", "message"), [(name, *case) for name, cases in TEXTS.items() for case in cases])
def test_texts_that_are_not_what_they_should_be(contents, tmp_path, name, content, message):
    refused(tmp_path, bundle(tmp_path / "hostile.zip", contents | {name: content}), message)


FORMER_CURVES = {
    "errors of fields": {"fold": "0", "factors": [0.8, 1.25], "errors": [0.1, 0.2]},
    "names of cases": {
        "method": 1,
        "fold": "0",
        "weights": "0" * 64,
        "factors": [0.8],
        "cases": ["patient_7"],
        "shape": [64, 64, 64],
        "on_cases": [0.1],
        "on_fields": [0.1],
    },
}


@pytest.mark.parametrize("curve", FORMER_CURVES.values(), ids=list(FORMER_CURVES))
def test_an_equivariance_error_of_another_version_is_left_out(contents, tmp_path, caplog, curve):
    path = bundle(tmp_path / "former.zip", contents | {"equivariance.json": json.dumps(curve).encode()})
    manifest = import_bundle(path, tmp_path / "imported")
    assert "equivariance.json was written by another version of this software and is left out" in caplog.text
    assert set(manifest.files) == set(contents)
    assert {name: (tmp_path / "imported" / name).read_bytes() for name in contents} == contents
    assert not (tmp_path / "imported/equivariance.json").exists()


@pytest.mark.parametrize("curve", FORMER_CURVES.values(), ids=list(FORMER_CURVES))
def test_an_equivariance_error_of_another_version_is_not_exported(tmp_path, caplog, curve):
    folder = write_model(tmp_path / "toy", folds=("0",))
    (folder / "equivariance.json").write_text(json.dumps(curve))
    assert "equivariance.json" not in export_bundle(folder, tmp_path / "toy.zip").files
    assert "equivariance.json is damaged or of another version and is left out" in caplog.text
    import_bundle(tmp_path / "toy.zip", tmp_path / "imported")


def test_dataset_of_another_plan(contents, tmp_path):
    other = contents["dataset.json"].replace(b"grey", b"gray")
    refused(
        tmp_path, bundle(tmp_path / "hostile.zip", contents | {"dataset.json": other}), "differs from the dataset of 'plan.json'"
    )


def header(text, data=b""):
    encoded = text.encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def tensor(**changes):
    described = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return json.dumps({"a": described})


WEIGHTS = {
    "pickle": (b"\x80\x04\x95" + bytes(100), "the header claims"),
    "empty": (b"", "the header claims"),
    "endless header": ((2**62).to_bytes(8, "little") + b"{}", "the header claims"),
    "no JSON": (header("{"), "is not a weights file"),
    "deep": (header("[" * 100_000), "nested too deeply"),
    "a list": (header("[]"), "is not a JSON object"),
    "twice": (header(f'{{"a": {tensor()}, "a": {tensor()}}}'), "an object has `a` twice"),
    "short": (header(tensor(), bytes(4)), "the tensors end at byte 8, but the file has 4"),
    "gap": (header(tensor(data_offsets=[4, 12]), bytes(12)), "begins at byte 4, but the one before it ends at 0"),
    "size": (header(tensor(shape=[3]), bytes(8)), "cannot have 8 bytes"),
    "type": (header(tensor(dtype="OBJECT"), bytes(8)), "unknown type 'OBJECT'"),
    "type of types": (header(tensor(dtype={}), bytes(8)), "unknown type {}"),
    "negative": (header(tensor(shape=[-2]), bytes(8)), "invalid sizes"),
    "boolean": (header(tensor(shape=[True, 2]), bytes(8)), "invalid sizes"),
    "undescribed": (header('{"a": 3}'), "is not described"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none(contents, tmp_path, name):
    content, message = WEIGHTS[name]
    refused(tmp_path, bundle(tmp_path / "hostile.zip", contents | {FOLD_0: content}), message)


HUGE = {
    "features": ({"features": [4, 10_000_000]}, "kernels have"),
    "blocks": ({"encoder_blocks": [1, 10**9]}, "blocks, but the file"),
    "kernels": ({"kernels": [[3, 3, 3], [9999, 9999, 9999]]}, "kernels have"),
    "outputs": ({"output_channels": 10**9}, "kernels have"),
    "sigma": (
        {"family": "se", "scale_group": {"smallest_sigma": 1e9, "step": 1.2, "number": 1}},
        "the widest kernel has a sigma of 1e",
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_plans_of_networks_that_would_fill_the_memory(contents, tmp_path, name):
    changes, message = HUGE[name]
    refused(tmp_path, bundle(tmp_path / "hostile.zip", contents | {"plan.json": planned(**changes)}), message)


def test_two_networks(contents, tmp_path):
    data = json.loads(contents["plan.json"])
    networks = data["configurations"]["3d_fullres"]["networks"]
    networks["other"] = networks["baseline"]
    hostile = bundle(tmp_path / "hostile.zip", contents | {"plan.json": json.dumps(data).encode()})
    refused(tmp_path, hostile, "plans 2 networks in 1 configurations, but a model has one network")


def test_weights_of_another_network_are_named_before_the_folder_appears(contents, tmp_path):
    other = save({"encoder.other": torch.zeros(10_000)} | {f"more.{index}": torch.zeros(1) for index in range(9)})
    hostile = bundle(tmp_path / "hostile.zip", contents | {FOLD_0: other})
    error = refused(tmp_path, hostile, "the file has this tensor, but the network does not")
    assert any("the network has this tensor, but the file does not" in str(fault) for fault in error.faults)
    assert all(".partial" not in str(fault) for fault in error.faults)


def test_a_bundle_that_changes_between_check_and_use(model, tmp_path, monkeypatch):
    path = tmp_path / "toy.zip"
    export_bundle(model, path)

    def verify_then_change(checked):
        manifest = verify_bundle(checked)
        content = checked.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            contents = {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}
        bundle(checked, contents | {FOLD_0: contents[FOLD_0][:-1] + b"\1"})
        return manifest

    monkeypatch.setattr(install, "verify_bundle", verify_then_change)
    refused(tmp_path, path, "the bundle changed while it was read")


def test_no_space(model, tmp_path, monkeypatch):
    export_bundle(model, tmp_path / "toy.zip")
    monkeypatch.setattr(new_folder.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    refused(tmp_path, tmp_path / "toy.zip", "bytes are needed, but only 10 are free")


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 100])
def test_files_that_are_no_bundle(tmp_path, content):
    (tmp_path / "hostile.zip").write_bytes(content)
    refused(tmp_path, tmp_path / "hostile.zip", "not a bundle")


def test_names_that_are_in_no_encoding(contents, tmp_path):
    """Flagged as UTF-8, which they are not: found by fuzzing that was guided by coverage."""
    path = bundle(tmp_path / "toy.zip", contents | {"nöte": b"x"})
    path.write_bytes(path.read_bytes().replace("nöte".encode(), b"n\xbe\xbete"))
    refused(tmp_path, path, r"not a bundle, or a damaged one \('utf-8' codec can't decode byte 0xbe")


def test_truncated_and_flipped(model, tmp_path):
    export_bundle(model, tmp_path / "toy.zip")
    whole = (tmp_path / "toy.zip").read_bytes()
    (tmp_path / "toy.zip").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, tmp_path / "toy.zip", "not a bundle")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (tmp_path / "toy.zip").write_bytes(flipped)
    refused(tmp_path, tmp_path / "toy.zip", "damaged|checksum")


def test_entries_that_begin_before_the_file(contents, tmp_path):
    path = bundle(tmp_path / "hostile.zip", contents)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, len(content) - 6, len(content))  # where the directory is said to begin
    path.write_bytes(content)
    refused(tmp_path, path, "not a bundle, or a damaged one")


def test_a_missing_file(tmp_path):
    refused(tmp_path, tmp_path / "none.zip", "the file does not exist")


def test_export_refuses_weights_that_could_not_be_imported(model, tmp_path):
    broken = write_model(tmp_path / "broken", folds=("0",))
    (broken / FOLD_0).write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(InputError, match="is not a weights file"):
        export_bundle(broken, tmp_path / "broken.zip")
    assert not (tmp_path / "broken.zip").exists()


def test_code_that_a_plan_names_is_not_imported(contents, tmp_path, monkeypatch, caplog):
    data = json.loads(contents["plan.json"])
    data["configurations"]["3d_fullres"]["networks"]["baseline"]["network_class"] = "hostile_module:Network"
    (tmp_path / "code").mkdir()
    (tmp_path / "code/hostile_module.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path / "code")
    path = bundle(tmp_path / "own.zip", contents | {"plan.json": json.dumps(data).encode()})
    import_bundle(path, tmp_path / "imported")
    assert "hostile_module" not in sys.modules
    assert "if you trust it, predict with --network-class hostile_module:Network" in caplog.text
    with pytest.raises(InputError, match="which is not imported here"):
        export_network(tmp_path / "imported", tmp_path / "x.onnx")
    export_bundle(tmp_path / "imported", tmp_path / "again.zip", licence="MIT")
    assert b"hostile_module:Network" in (tmp_path / "again.zip").read_bytes() and "hostile_module" not in sys.modules
