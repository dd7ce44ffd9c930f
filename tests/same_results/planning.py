"""What se_plan_and_preprocess computes: fingerprints, plans and preprocessed cases."""

import json
from pathlib import Path

from tests.same_results.commands import Commands
from tests.same_results.datasets import copy_cases
from tests.same_results.digests import Json, read_values, stored_digest, without

OWN_PATHS = frozenset({"key", "images", "labels"})  # of a preprocessed case: its inputs' digest and paths
OTHER_OPTIONS = {
    "Dataset109_SpleenCrop": {
        "large": ["--size", "large"],
        "spread": ["--num-scales", "spread"],
    },
    "Mixed": {
        "small": ["--size", "small", "--gpu-memory", "2"],
        "three_scales": ["--num-scales", "3", "--scale-step", "1.5", "--network", "se", "--spacing", "2", "1.5", "1.5"],
    },
}


def record_datasets(commands: Commands, data: Path, work: Path) -> dict[str, Json]:
    """Plan and preprocess every dataset of a folder with the default options."""
    recorded = {}
    for dataset in sorted(path for path in data.glob("Dataset*") if (path / "dataset.json").is_file()):
        commands.run("se_plan_and_preprocess", dataset, "--work", work, "--jobs", "1")
        recorded[dataset.name] = record_dataset(work / dataset.name)
    return recorded


def record_dataset(folder: Path) -> dict[str, Json]:
    """The fingerprint, the plan and all cases of a dataset that is planned and preprocessed."""
    return {
        "plan": read_values(folder / "plan.json"),
        "fingerprint": read_values(folder / "fingerprint.json", frozenset({"warnings"})),
        "cases": {store.name: record_cases(store) for store in sorted((folder / "preprocessed").iterdir())},
    }


def record_cases(store: Path) -> dict[str, Json]:
    """The digests of all arrays of a folder of preprocessed cases, and what is kept beside them."""
    arrays = {path.name.removesuffix(".b2nd"): stored_digest(path) for path in sorted(store.glob("*.b2nd"))}
    properties = {path.stem: _properties(path) for path in sorted(store.glob("*.json"))}
    return {"arrays": arrays, "properties": properties}


def record_other_plans(commands: Commands, data: Path, work: Path) -> dict[str, Json]:
    """The plans for other sizes, scale groups and spacings, of a few cases each with thick slices and with cubes."""
    spleen = data / "Dataset109_SpleenCrop"
    mixed = copy_cases(data / "Dataset050_SpinalCordMix", ("sct_t1", "sct_t2s"), work / "raw" / "Mixed")
    recorded: dict[str, Json] = {}
    for dataset in (spleen, mixed):
        for name, options in OTHER_OPTIONS[dataset.name].items():
            target = work / name
            commands.run("se_plan_and_preprocess", dataset, "--work", target, "--jobs", "1", "--plan-only", *options)
            recorded[f"{dataset.name} {name}"] = read_values(target / dataset.name / "plan.json")
    return recorded


def _properties(path: Path) -> Json:
    return without(json.loads(path.read_text(encoding="utf-8")), OWN_PATHS)
