"""Results do not depend on the time zone, the locale, the hash seed, the order of cases, or the run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference import PredictionOptions, Predictor, predict_cases
from inference.prediction.outputs import plan_outputs
from tests.inference.models import write_model
from tests.preprocessing.datasets import save

ROOT = Path(__file__).parents[2]
EVERY_COMMAND = """
import json, shutil, sys
from pathlib import Path
from tests.faults.commands import COMMANDS
from tests.faults.judge import contents

found = {}
for command in COMMANDS:
    place = Path(sys.argv[1])
    shutil.rmtree(place, ignore_errors=True)  # the same paths each time: some results name them
    source, target = place / "in", place / "out"
    source.mkdir(parents=True)
    target.mkdir()
    command.prepare(source, target)
    words = list(command.words(source, target))
    sys.argv[:] = [words[0], *words[1:], *(["--deterministic"] if words[0] == "se_train" else [])]
    if command.main() != 0:
        sys.exit(f"{command.name} failed")
    sys.argv[1:] = [str(place)]
    found[command.name] = contents(target)
print(json.dumps(found))
"""


def results(place: Path, **environment: str) -> dict[str, dict[str, str]]:
    """Command -> file -> digest."""
    words = [sys.executable, "-c", EVERY_COMMAND, str(place)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=290, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.thorough
def test_time_zone_locale_and_hashes_change_no_file(tmp_path: Path) -> None:
    """Nor do two runs differ: weights of training with --deterministic are the same to the bit."""
    usual = results(tmp_path / "place", TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    other = results(tmp_path / "place", TZ="Pacific/Kiritimati", PYTHONHASHSEED="2", **ascii_only)
    assert usual == other
    weights = "work/Balls/models/3d_fullres_baseline/fold_0/weights_final.safetensors"
    assert weights in usual["train"] and usual["train"][weights] == usual["train, 1 loader"][weights]
    prepared = {name: digest for name, digest in usual["preprocess"].items() if "preprocessed" in name}
    assert prepared and all(usual["preprocess, 2 processes"][name] == digest for name, digest in prepared.items())


def test_the_order_of_cases_changes_no_segmentation(tmp_path: Path) -> None:
    cases = {}
    for case in "abc":
        path = save(
            tmp_path / "images" / f"{case}_0000.nii.gz", np.random.default_rng(ord(case)).random((18, 21, 13), np.float32)
        )
        cases[case] = (path,)
    predictor = Predictor.load(write_model(tmp_path / "model"), "cpu", options=PredictionOptions(mirror=False))
    for name, order in (("forth", cases), ("back", dict(reversed(cases.items())))):
        assert predict_cases(predictor, order, plan_outputs(order, tmp_path / name)) == {}
    for case in cases:
        assert (tmp_path / "forth" / f"{case}.nii.gz").read_bytes() == (tmp_path / "back" / f"{case}.nii.gz").read_bytes()
