"""Render the HTML pages from their templates, which hold all words of a page and the form of its numbers."""

import base64
import hashlib
from collections.abc import Iterator

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from configs.dataset import are_colours
from configs.errors import counted, times
from configs.plan import ConfigurationPlan, NetworkPlan
from preprocessing.pages.figures import in_figures


def page_environment(*packages: str) -> Environment:
    """Return an environment of the folders `templates` of packages, then the shared templates of this package. All text is escaped.

    Templates have the functions `counted` and `are_colours`, and the filters `times` and `in_figures` for numbers.
    """
    loader = ChoiceLoader([*map(PackageLoader, packages), PackageLoader("preprocessing.pages")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"are_colours": are_colours, "counted": counted, "stage_grids": stage_grids}
    environment.filters |= {"times": times, "in_figures": in_figures}
    return environment


def stage_grids(configuration: ConfigurationPlan, planned: NetworkPlan) -> Iterator[tuple[list[int], list[float]]]:
    """Yield the patch in voxels and its spacing in mm, (Z, Y, X), at each stage of a network, finest first."""
    grid, spacing = list(planned.patch_size), list(configuration.spacing)
    for stride in planned.network.strides:
        grid = [size // step for size, step in zip(grid, stride, strict=True)]
        spacing = [length * step for length, step in zip(spacing, stride, strict=True)]
        yield grid, spacing


def script_source(script: Markup) -> str:
    """Return the Content-Security-Policy source that allows only this inline script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
