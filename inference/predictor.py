"""A trained model ready to segment images in memory: the way to embed it in other software."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.dataset import DatasetDescription
from configs.errors import raise_faults
from configs.progress import Progress
from inference.decision import decision_rule
from inference.device import choose_device
from inference.ensemble import predict_ensemble
from inference.model import Model, load_model
from inference.options import PredictionOptions
from inference.volumes import open_volume
from preprocessing.geometry import Geometry
from preprocessing.pipeline import Trace, preprocess, restore_scores
from preprocessing.validation import image_faults

_LABEL_TYPES = (np.uint8, np.int16, np.int32)


@dataclass(frozen=True)
class Segmentation:
    """The answer for one image, on the image's own grid.

    Attributes:
        labels: (Z, Y, X) label values as the dataset names them, of the smallest fitting type among uint8, int16, int32.
        probabilities: (K, Z, Y, X) float32 of classes or regions, where they were asked for.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32] | None


class Predictor:
    """A model with its weights on a device.

        predictor = Predictor.load("se_work/Hippocampus/models/3d_fullres_se")
        labels = predictor(array, spacing=(1.0, 1.0, 1.0))  # an array in, an array out
        labels = predictor(nibabel.load("image.nii.gz"))  # a nibabel image in, a nibabel image out

    Nothing is written anywhere and nothing changes in a call: threads may share one predictor.
    """

    def __init__(self, model: Model, device: torch.device | str | None = None, options: PredictionOptions | None = None):
        """Args: model: with at least one network. device: None takes the best there is. options: None takes the plan's."""
        self.model = model
        self.device = choose_device(device)
        self.options = options or PredictionOptions()
        self._networks = [network.to(self.device).eval() for network in model.networks.values()]
        self._decide = decision_rule(model.plan.dataset)

    @classmethod
    def load(
        cls,
        model_folder: Path | str,
        device: torch.device | str | None = None,
        folds: Sequence[int | str] | None = None,
        checkpoint: str = "final",
        options: PredictionOptions | None = None,
    ) -> "Predictor":
        """Read a model folder.

        Args:
            model_folder: with plan.json and fold_*/weights_*.safetensors.
            device: such as "cuda:1"; None takes the best there is.
            folds: such as [0, 1]; None averages over all that are trained.
            checkpoint: `final` or `best`.
            options: of sliding window and ensembling; None takes the plan's.

        Raises:
            InputError: the folder or the device cannot be used.
        """
        return cls(load_model(Path(model_folder), folds, checkpoint), device, options)

    @property
    def description(self) -> DatasetDescription:
        """Channels that the model needs, and labels that it gives."""
        return self.model.plan.dataset

    def __call__(self, image: Any, spacing: Sequence[float] | None = None) -> Any:
        """Segment one image.

        Args:
            image: array (Z, Y, X) or (C, Z, Y, X), nibabel image or SimpleITK image, or a list of one per channel.
            spacing: mm (Z, Y, X), for arrays only.

        Returns:
            Label values on the image's grid: an array (Z, Y, X), a nibabel or a SimpleITK image, as the input.

        Raises:
            InputError: another number of channels than the model's, or values that are not finite.
            TypeError, ValueError: an image of another kind or shape; see `open_volume`.
        """
        volume = open_volume(image, spacing)
        return volume.wrap(self.segment(volume.image, volume.geometry).labels)

    def segment(
        self,
        image: NDArray[np.float32],
        geometry: Geometry,
        *,
        keep_probabilities: bool = False,
        where: str = "the image",
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment one image given as stored on disk.

        Args:
            image: (C, Z, Y, X) float32.
            geometry: of it.
            keep_probabilities: also bring the class probabilities to the image's grid.
            where: names the image in errors.
            progress: shows the tiles done.

        Raises:
            InputError: another number of channels than the model's, or values that are not finite.
        """
        raise_faults(image_faults(where, image, self.description))
        prepared = preprocess(image, None, geometry, self.model.configuration, self.model.plan.orientation)
        probabilities = self.probabilities(torch.from_numpy(prepared.image), progress)
        return Segmentation(
            self.restore(probabilities, prepared.trace),
            restore_probabilities(probabilities, prepared.trace, self.description) if keep_probabilities else None,
        )

    def probabilities(self, image: Tensor, progress: Progress | None = None) -> Tensor:
        """Class probabilities of a preprocessed image.

        Args:
            image: (C, Z, Y, X) float32 at the planned spacing, normalised.
            progress: shows the tiles done.

        Returns:
            (K, Z, Y, X) float32 on the predictor's device.
        """
        return predict_ensemble(
            self._networks,
            image.to(self.device),
            self.model.network_plan,
            mirror=self.options.mirror,
            scales=self.options.scales,
            regions=self.description.has_regions,
            step=self.options.step,
            tile_batch=self.options.tile_batch,
            device=self.device,
            progress=progress,
        )

    def restore(self, probabilities: Tensor, trace: Trace) -> NDArray[np.integer]:
        """Label values (Z, Y, X) on the image's own grid, from probabilities (K, Z, Y, X) at the planned spacing."""
        highest = max(self.description.values)
        kind = next((kind for kind in _LABEL_TYPES if highest <= np.iinfo(kind).max), np.int64)
        return restore_scores(probabilities, trace, self._decide).astype(kind, copy=False)


def restore_probabilities(probabilities: Tensor, trace: Trace, description: DatasetDescription) -> NDArray[np.float32]:
    """Probabilities (K, Z, Y, X) on the image's own grid, from those at the planned spacing; background outside the crop."""
    whole = restore_scores(probabilities, trace, lambda slab: slab).astype(np.float32, copy=False)
    if not description.has_regions:
        whole[0][whole.sum(0) == 0] = 1  # only outside the crop do no classes share the probability
    return whole
