"""Run nnU-Net's own planner with a Python that has nnU-Net; `benchmarks.nnunet.planner_parity` starts it.

It imports nothing of this project.

    python peer_planner.py JOBS RESULTS

JOBS is a JSON list of {name, planner, dataset (content of dataset.json), fingerprint or folder}; RESULTS becomes {name: plans}.
The environment variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results name folders to work in.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Plan every job."""
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    results = {}
    for index, job in enumerate(jobs, start=1):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            results[job["name"]] = plan(index, job)
        print(f"nnU-Net planned {job['name']}", file=sys.stderr, flush=True)
    Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")


def plan(number: int, job: dict[str, Any]) -> dict[str, Any]:
    """Return nnU-Net's plans of one job."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (  # type: ignore[import-not-found]
        DatasetFingerprintExtractor,
    )
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class  # type: ignore[import-not-found]

    import nnunetv2  # type: ignore[import-not-found]  # isort: skip

    name = f"Dataset{number:03d}_Parity"
    raw = Path(os.environ["nnUNet_raw"]) / name  # noqa: SIM112
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / name  # noqa: SIM112
    preprocessed.mkdir(parents=True)
    if "folder" in job:
        raw.symlink_to(job["folder"], target_is_directory=True)
        DatasetFingerprintExtractor(name, 1).run()
    else:
        (raw / "imagesTr").mkdir(parents=True)
        (raw / "dataset.json").write_text(json.dumps(job["dataset"]), encoding="utf-8")
        (raw / "imagesTr" / "case_0000.nii.gz").touch()
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(job["fingerprint"]), encoding="utf-8")
    folder = Path(nnunetv2.__path__[0]) / "experiment_planning"
    planner = recursive_find_python_class(str(folder), job["planner"], current_module="nnunetv2.experiment_planning")
    plans = planner(name).plan_experiment()
    return json.loads(json.dumps(plans, default=float))


if __name__ == "__main__":
    main()
