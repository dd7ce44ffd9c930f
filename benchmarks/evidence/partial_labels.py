"""Train with cases that lack the annotation of some labels: stated, or as if the missing labels were background.

    python -m benchmarks.evidence.partial_labels DATASET WORK --csv FILE [--seeds 0 1 2] [--steps 300] [--networks se] [--rare SHARE]

Of each training case of fold 0, one label is removed at random (by the seed). With `--rare`, the last label is removed from all but this
share of the cases, as where a small dataset with one more label joins a large one. `full` trains on all labels, `stated` says in
`dataset.json` which labels a case has, `background` does not. The validation cases of the fold keep all labels; Dice is that of whole
volumes. Preset `quick`; finished trainings in WORK are kept.
"""

import argparse
import sys
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.common.tables import show_table
from benchmarks.common.trainings import SPREAD, link, run, spread, trained
from configs.files import read_json, write_json
from configs.folders import DatasetFolder
from preprocessing.dataset.raw import RawDataset, open_dataset
from preprocessing.dataset.splits import make_splits, write_splits

WAYS = ("full", "stated", "background")
COLUMNS = {"network": "{}", "training": "{}", "rare": "{:g}"} | SPREAD


def main() -> int:
    """Train what is missing, print and write the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="raw dataset with at least two labels")
    parser.add_argument("work", type=Path, help="datasets and models are kept here")
    parser.add_argument("--networks", nargs="+", default=["se"], help="networks of the plan")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rare", type=float, help="share of the cases that keep the last label; the other labels stay")
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    given = parser.parse_args()
    raw = open_dataset(given.dataset)
    found: dict[tuple[str, str], list[float]] = {}
    for seed in given.seeds:
        for way in WAYS:
            work = prepared(raw, given.work, way, seed, given.rare)
            for network in given.networks:
                found.setdefault((network, way), []).append(dice_of(work, network, seed, given.steps))
                print(f"{network}, {way}, seed {seed}: {found[network, way][-1]:.4f}", file=sys.stderr, flush=True)
    rows = [
        {"network": network, "training": way, "rare": given.rare} | spread(given.steps, dice)
        for (network, way), dice in sorted(found.items())
    ]
    show_table(rows, COLUMNS, given.csv)
    return 0


def prepared(raw: RawDataset, work: Path, way: str, seed: int, rare: float | None = None) -> Path:
    """Write a dataset whose training cases have the labels of a way, plan and preprocess it, and return its planned folder."""
    folder = work / (f"{way}_{seed}" if way != "full" else way)
    planned = folder / "work" / "Partial"
    if not (planned / "splits.json").is_file():
        missing = {} if way == "full" else removed_labels(raw, seed, rare)
        write_dataset(raw, folder / "Partial", missing, stated=way == "stated")
        words = [folder / "Partial", "--work", planned.parent, "--configurations", "3d_fullres", "--jobs", "1", "--quiet"]
        run("se_plan_and_preprocess", *words)
        write_splits(DatasetFolder(planned).splits, make_splits(list(raw.cases)))
    return planned


def removed_labels(raw: RawDataset, seed: int, rare: float | None = None) -> dict[str, str]:
    """Return for training cases of fold 0 the label that they lose: any one, or the last one of all but a share of `rare` of the cases."""
    random, names = np.random.default_rng(seed), raw.description.foreground
    if rare is not None:
        cases = random.permutation(make_splits(list(raw.cases))[0].training).tolist()
        return dict.fromkeys(cases[round(rare * len(cases)) :], names[-1])
    return {case: names[random.integers(len(names))] for case in make_splits(list(raw.cases))[0].training}


def write_dataset(raw: RawDataset, folder: Path, missing: dict[str, str], stated: bool) -> None:
    """Write a raw dataset with links to the images, and label files without the missing labels."""
    for case, files in raw.cases.items():
        if files.labels is None:
            continue
        for kind in ("imagesTr", "labelsTr"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for image in files.images:
            link(folder / "imagesTr" / image.name, image)
        target = folder / "labelsTr" / files.labels.name
        if case in missing:
            image = nibabel.load(files.labels)
            labels = np.asanyarray(image.dataobj).copy()
            labels[labels == raw.description.labels[missing[case]]] = 0
            nibabel.save(nibabel.Nifti1Image(labels, image.affine, image.header), target)
        else:
            link(target, files.labels)
    description = read_json(raw.folder / "dataset.json")
    if stated:
        names = raw.description.foreground
        description["annotated"] = {case: [name for name in names if name != lost] for case, lost in missing.items()}
    write_json(folder / "dataset.json", description)


def dice_of(planned: Path, network: str, seed: int, steps: int) -> float:
    """Train a network unless that is done, and return the mean Dice of its validation cases."""
    found = trained(DatasetFolder(planned), network, f"{steps}_{seed}", "quick", steps, seed)
    return float(found.mean_foreground_dice or 0.0)


if __name__ == "__main__":
    sys.exit(main())
