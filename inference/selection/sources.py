"""Original files of the prepared cases, which are predicted again and compared again."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.files import list_folder
from preprocessing.store import CaseStore


@dataclass(frozen=True)
class Source:
    """Files of one case: its images, one for each channel or one with all of them, and its reference labels."""

    images: tuple[Path, ...]
    labels: Path


def find_sources(dataset: Path, cases: Iterable[str]) -> dict[str, Source]:
    """The files that the prepared cases were made from.

    Raises:
        InputError: a case is not prepared any more, or its files have gone; every fault is listed.
    """
    stores = [CaseStore(path) for path in list_folder(dataset / "preprocessed", "*") if path.is_dir()]
    sources, faults = {}, []
    for case in cases:
        store = next((store for store in stores if (store.folder / f"{case}.json").is_file()), None)
        if store is None:
            faults.append(Fault(f"case `{case}`", f"it is not in {dataset / 'preprocessed'}", "Run se_plan_and_preprocess"))
            continue
        properties = store.read(case).properties
        if properties.labels is None:
            faults.append(Fault(f"case `{case}`", "it has no label file", "Add it and run se_plan_and_preprocess"))
            continue
        source = Source(tuple(Path(image) for image in properties.images), Path(properties.labels))
        gone = [path for path in (*source.images, source.labels) if not path.is_file()]
        faults += [Fault(f"case `{case}`", f"its file {path} has gone", "Bring it back") for path in gone]
        sources[case] = source
    raise_faults(faults)
    if not sources:
        raise InputError(Fault(str(dataset), "there are no cases", "Run se_plan_and_preprocess"))
    return sources
