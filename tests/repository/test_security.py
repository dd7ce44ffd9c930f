"""No file runs code, nothing leaves the machine, names are text: in the source, and while the commands run."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from tests.preprocessing.datasets import image, labels, save, write_json
from tests.repository.test_imports import PACKAGES, ROOT

FORBIDDEN_MODULES = {
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "yaml",
    "urllib",
    "http",
    "requests",
    "socket",
    "ftplib",
    "smtplib",
}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "joblib.load",
    "pd.read_pickle",
    "pickle.load",
    "pickle.loads",
}
HARMLESS = {("pickle", "UnpicklingError"), ("urllib.parse", "quote")}


def dangers(source: str) -> list[str]:
    """What source code must not contain."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES | {"pickle"}]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [(node.module, alias.name) for alias in node.names]
            top = node.module.split(".")[0]
            found += [".".join(name) for name in names if top in FORBIDDEN_MODULES | {"pickle"} and name not in HARMLESS]
        elif isinstance(node, ast.Call):
            found += _dangerous_call(node)
    return found


def _dangerous_call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    restricted = options.get("weights_only") == "True"
    unsafe = name == "torch.load" and not restricted
    unsafe |= options.get("shell", "False") != "False" or options.get("allow_pickle", "False") != "False"
    return [f"{name}(...)"] if unsafe or name in FORBIDDEN_CALLS else []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_source_unpickles_connects_or_starts_a_shell(package: str) -> None:
    found = {str(path): dangers(path.read_text(encoding="utf-8")) for path in (ROOT / package).rglob("*.py")}
    assert not {path: what for path, what in found.items() if what}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml",
        "from urllib.request import urlopen",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "eval(text)",
    ],
)
def test_the_guard_sees_what_it_looks_for(source: str) -> None:
    assert dangers(source)


def test_the_guard_lets_the_rest_pass() -> None:
    sources = ("torch.load(p, weights_only=True)", "from pickle import UnpicklingError", "np.load(p)", "subprocess.run(['a'])")
    assert not any(map(dangers, sources))


# Run in a process of its own, as an audit hook cannot be taken off. `found` gets what pickles read, shells and connections there were.
WATCH = """
import sys, tempfile
from pathlib import Path

POOLS = ("joblib/externals/loky", "joblib/externals/cloudpickle", "multiprocessing/")  # workers' own pipes
found = []

def watch(event, arguments):
    if event == "pickle.find_class":
        frame, files = sys._getframe(1), []
        while frame is not None:
            files.append(frame.f_code.co_filename.replace("\\\\", "/"))
            frame = frame.f_back
        if not any(pool in file for file in files for pool in POOLS):
            found.append(f"{event} {arguments[:2]} in {files[:4]}")
    elif event in ("os.system", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        found.append(f"{event} {arguments}")
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        found.append(f"{event} {arguments[1]}")
    elif event == "subprocess.Popen" and any(str(word) in ("sh", "/bin/sh", "bash") for word in [arguments[0], *arguments[1][:1]]):
        found.append(f"{event} {arguments[1]}")

sys.addaudithook(watch)
"""
ALL_COMMANDS = """
from tests.faults.commands import COMMANDS
with tempfile.TemporaryDirectory() as name:
    for command in COMMANDS:
        source, target = Path(name) / command.name / "in", Path(name) / command.name / "out"
        source.mkdir(parents=True)
        target.mkdir()
        command.prepare(source, target)
        sys.argv = list(command.words(source, target))
        if command.main() != 0:
            sys.exit(f"{command.name} failed")
        print(command.name)
print(found)
"""
NEGATIVE = """
import io, pickle, socket, subprocess
from fractions import Fraction
pickle.loads(pickle.dumps(Fraction(1, 2)))
subprocess.run(["sh", "-c", "true"])
try:
    socket.create_connection(("127.0.0.1", 9), timeout=0.1)
except OSError:
    pass
print(found)
"""


def watched(program: str) -> list[str]:
    """Run under the hook. Returns what was printed."""
    done = subprocess.run([sys.executable, "-c", WATCH + program], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_commands_read_no_pickle_start_no_shell_and_connect_to_nothing() -> None:
    *names, found = watched(ALL_COMMANDS)
    assert {"plan", "preprocess, 2 processes", "train, 1 loader", "predict", "bundle import", "evaluate"} <= set(names)
    assert found == "[]"


def test_the_hook_sees_what_it_looks_for() -> None:
    (found,) = watched(NEGATIVE)
    assert "pickle.find_class ('fractions', 'Fraction')" in found and "subprocess.Popen" in found and "socket.connect" in found


@pytest.mark.slow
def test_names_that_are_html_or_shell_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    label, channel = "<script>alert(1)</script>", "$(touch pwned)"
    cases = ["a;touch pwned", "<img src=x onerror=alert(2)>", "`touch pwned`", "-rf", "a b&c"]
    data = tmp_path / "data"
    data.mkdir()
    write_json(data, labels={"background": 0, label: 1, "&<b>\"'": 2}, channel_names={"0": channel})
    for index, case in enumerate(cases):
        save(data / "imagesTr" / f"{case}_0000.nii.gz", image(index))
        save(data / "labelsTr" / f"{case}.nii.gz", labels())
    options = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",))
    plan = plan_and_preprocess(data, tmp_path / "work", options, jobs=1)
    assert plan.dataset.labels[label] == 1 and plan.dataset.channels == (channel,)
    made = {path.name.removesuffix("_labels.b2nd") for path in (tmp_path / "work").rglob("*_labels.b2nd")}
    assert made == set(cases), "names of cases are names of files, letter by letter"
    page = (tmp_path / "work/data/report.html").read_text(encoding="utf-8")
    assert label not in page and "<img src=x" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert json.loads((tmp_path / "work/data/dataset.json").read_text())["labels"][label] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "work"], "nothing was run"
