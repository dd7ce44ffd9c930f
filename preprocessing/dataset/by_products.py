"""Names of the files that prediction writes beside a segmentation, so that folders of segmentations are read without them."""

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")
ENTROPY, DISAGREEMENT, PROBABILITIES, PREVIEW, STATISTICS, FEATURES, QUALITY = BY_PRODUCTS = (
    "_entropy",
    "_disagreement",
    "_probabilities",
    "_preview",
    "_statistics",
    "_features",
    "_quality",
)


def without_by_products(files: Mapping[str, T], others: Collection[str] = ()) -> dict[str, T]:
    """Return the files, by name without ending, that are no by-product of another case.

    A case may be called `liver_entropy`: it counts as a by-product only where a case `liver` is known, among the files or `others`.
    """
    cases = {*files, *others}
    return {case: file for case, file in files.items() if not is_by_product(case, cases)}


def is_by_product(name: str, cases: Collection[str]) -> bool:
    """Whether a file of this name, without its ending, is a by-product of one of the cases."""
    return any(name.endswith(ending) and name.removesuffix(ending) in cases for ending in BY_PRODUCTS)
