"""The page that se_predict writes beside a picture of slices: one case in three linked planes."""

from importlib import resources
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.files import write_text
from inference.outputs.viewer.planes import Layer, pack_planes
from preprocessing.dataset.labels import to_class_indices
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import find_turn
from preprocessing.pages.drawn_image import drawn_image
from preprocessing.pages.figures import label_colours
from preprocessing.pages.rendering import page_environment, script_source


def viewer_script() -> str:
    """Return the script of the viewer."""
    return resources.files("inference.outputs.viewer").joinpath("templates/planes.js").read_text(encoding="utf-8")


def write_viewer(
    path: Path,
    title: str,
    image: NDArray[np.float32],
    labels: NDArray[np.integer],
    geometry: Geometry,
    description: DatasetDescription,
    caption: str = "",
) -> None:
    """Write a page that shows a stored image (C, Z, Y, X) and its label values (Z, Y, X) in canonical orientation.

    The stored image and the label values have the same geometry. The caption is a sentence below the title, which is the name of the case.
    """
    turn, colours, script = find_turn(geometry, "canonical"), label_colours(len(description.foreground)), Markup(viewer_script())
    shown = drawn_image(turn.apply(image), description)[:, ::-1]
    layer = Layer("prediction", turn.apply(to_class_indices(labels, description))[:, ::-1], is_filled=True)
    planes = pack_planes(title, shown, [layer], turn.apply_geometry(geometry).spacing, description, colours)
    template = page_environment("inference.outputs.viewer").get_template("preview.html.j2")
    legend = list(zip(description.foreground, colours, strict=True))
    content = {"title": title, "caption": caption, "planes": planes, "legend": legend, "script": script}
    write_text(path, template.render(content, script_source=Markup(script_source(script)), description=description))
