import subprocess
import sys

import pytest

from configs.errors import InputError
from configs.plan import Plan
from inference.bundle import install
from inference.bundle import onnx as exporter
from inference.bundle.cli import main
from inference.bundle.onnx import export_network
from inference.model import load_model
from tests.inference.models import write_model


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["se_bundle", *map(str, arguments)])
    return main()


def test_export_and_import(tmp_path, monkeypatch, capsys):
    folder = write_model(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "export", folder, "--folds", "1", "--licence", "MIT") == 0
    assert "toy.zip: 1 weights files" in capsys.readouterr().out
    (tmp_path / "toy").rename(tmp_path / "old")
    assert command(monkeypatch, "import", "toy.zip") == 0
    assert "model_card.md before use" in capsys.readouterr().out
    assert list(load_model(tmp_path / "toy").networks) == ["1"]
    assert command(monkeypatch, "import", "toy.zip") == 2
    assert "toy: the folder already exists" in capsys.readouterr().err


def test_wrong_input_ends_with_code_2(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "export", tmp_path / "none", "-o", tmp_path / "x.zip") == 2
    assert command(monkeypatch, "import", tmp_path / "none.zip", "-o", tmp_path / "x") == 2
    assert command(monkeypatch, "onnx", tmp_path / "none", "-o", tmp_path / "x.onnx") == 2
    assert list(tmp_path.iterdir()) == [] and "Traceback" not in capsys.readouterr().err


def test_quiet_stands_on_either_side_of_the_action(tmp_path, monkeypatch, capsys):
    folder = write_model(tmp_path / "toy")
    assert command(monkeypatch, "export", folder, "-o", tmp_path / "a.zip", "--quiet") == 0
    assert command(monkeypatch, "--quiet", "export", folder, "-o", tmp_path / "b.zip") == 0
    assert capsys.readouterr().out == ""


def test_a_disk_on_which_nothing_can_be_deleted_hides_no_error(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "export", write_model(tmp_path / "toy"), "-o", tmp_path / "a.zip") == 0

    def fail(what):
        def raise_it(*arguments, **settings):
            raise OSError(30, "Read-only file system", what)

        return raise_it

    monkeypatch.setattr(install, "_unpack", fail("the file"))
    monkeypatch.setattr(install.os, "rmdir", fail("the folder"))
    assert command(monkeypatch, "import", tmp_path / "a.zip", "-o", tmp_path / "new") == 1
    assert "Read-only file system: 'the file'" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_help_is_light():
    program = "import sys; from inference.bundle.cli import main; assert main() == 0"
    listing = "print(*{name.split('.')[0] for name in sys.modules})"
    code = f"try:\n    {program}\nexcept SystemExit:\n    {listing}"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pydantic", "jinja2"} & set(done.stdout.splitlines()[-1].split())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the exporter
def test_onnx_is_checked_against_pytorch(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    folder = write_model(tmp_path / "toy")
    assert command(monkeypatch, "onnx", folder, "-o", tmp_path / "network.onnx", "--fold", "1") == 0
    assert "fold 1, any number of patches of 1 x 16 x 16 x 16; differs from PyTorch by at most" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"toy", "network.onnx", "network.onnx.plan.json"}
    assert Plan.read(tmp_path / "network.onnx.plan.json") == load_model(folder).plan


def test_where_the_network_is_its_plan_is_too(tmp_path, monkeypatch):
    """The plan is written before the network gets its name."""
    pytest.importorskip("onnxruntime")
    folder, output = write_model(tmp_path / "toy"), tmp_path / "network.onnx"
    seen = []
    monkeypatch.setattr(exporter, "export_onnx", lambda network, path, shape: path.write_bytes(b"a network"))
    monkeypatch.setattr(exporter, "compare", lambda network, path, shape: (0.0, 1.0))
    monkeypatch.setattr(Plan, "write", lambda plan, path: seen.append((path.name, output.exists())))
    export_network(folder, output)
    assert seen == [("network.onnx.plan.json", False)] and output.is_file()


def test_onnx_that_differs_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    folder = write_model(tmp_path / "toy")
    monkeypatch.setattr(exporter, "export_onnx", lambda network, path, shape: path.write_bytes(b"a network"))
    monkeypatch.setattr(exporter, "compare", lambda *_: (2e-4, 1.5))
    with pytest.raises(RuntimeError, match=r"differs from PyTorch by 0\.0002, more than the limit of 0\.00015"):
        export_network(folder, tmp_path / "wrong.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"toy"}
    monkeypatch.setattr(exporter, "compare", lambda *_: (2e-4, 3.0))
    report = export_network(folder, tmp_path / "right.onnx")
    assert (report.fold, report.difference, report.largest) == ("0", 2e-4, 3.0)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(InputError, match="package `onnxscript`: not installed"):
        export_network(write_model(tmp_path / "toy"), tmp_path / "x.onnx")
