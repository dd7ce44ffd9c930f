"""Segment images in memory with trained models, for use in other software."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.dataset import DatasetDescription
from configs.errors import Fault, raise_faults
from configs.plan import ConfigurationPlan
from configs.progress import Progress
from inference.cascade import cascade_channels, find_first_stage
from inference.device import choose_device
from inference.engine.assemble import Segmentation, Wanted, collect
from inference.engine.capacity import Capacity, within
from inference.engine.ensemble import Blending, Member, make_members
from inference.engine.sums import diameters_of, dice_of
from inference.model import Model, load_models
from inference.options import PredictionOptions, Variants, average_of
from inference.sizes.calibration import Evidence
from inference.sizes.finder import SizeFinder, with_affordable_reflections
from inference.sizes.quality import Quality, judge
from inference.sizes.search import FoundSize
from preprocessing.dataset.labels import to_class_indices
from preprocessing.dataset.validation import image_faults
from preprocessing.formats.in_memory import open_volume
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.resampled_grid import find_separate_axis, spacing_doubt
from preprocessing.pipeline import Trace, preprocess
from preprocessing.resample import LABEL_ORDER, Matrices, resampling_matrices, returning_matrices
from se_unet.cpu.layers import for_cpu

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """An image preprocessed for each of the models."""

    images: tuple[Tensor, ...]  # one tensor (C, Z, Y, X) float32 on the CPU for each model
    traces: tuple[Trace, ...]  # geometry traces of the images
    first_stage: "Prepared | None" = None  # the image preprocessed for the first network of a cascade, or None
    where: str = "the image"  # name of the image in messages


@dataclass(frozen=True)
class _Attempt:
    """One attempt to segment an image, with what the device may hold."""

    images: tuple[Tensor, ...]  # one tensor (C, Z, Y, X) for each model, on the capacity's device of volumes
    traces: tuple[Trace, ...]
    capacity: Capacity
    wanted: Wanted
    progress: Progress | None


class Predictor:
    """Segments images with one or more models on a device.

        predictor = Predictor.load("se_work/Hippocampus/models/3d_fullres_se")
        labels = predictor(array, spacing=(1.0, 1.0, 1.0))  # an array in, an array out
        labels = predictor(nibabel.load("image.nii.gz"))  # a nibabel image in, a nibabel image out

    It writes no files, and calls change no state but the number of tiles to try at a time, so threads may share a predictor.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        device: torch.device | str | None = None,
        options: PredictionOptions | None = None,
        first_stage: "Predictor | None" = None,
    ):
        """Move the models to the device.

        Args:
            model: model with at least one network, or several models.
            device: device of the networks; None takes the best available.
            options: prediction options; None takes the plan's.
            first_stage: predictor of a cascade's first stage, whose segmentation models of the second stage also see.
        """
        self.models = (model,) if isinstance(model, Model) else tuple(model)
        self.device = choose_device(device)
        self.options = options or PredictionOptions()
        placed = [[network.to(self.device).eval() for network in one.networks.values()] for one in self.models]
        self.networks = [[for_cpu(one) for one in some] for some in placed] if self.device.type == "cpu" else placed
        self.first_stage = first_stage
        self._capacity = Capacity.of(self.device, self.options.tile_batch)

    @classmethod
    def load(
        cls,
        model_folder: Path | str | Sequence[Path | str],
        device: torch.device | str | None = None,
        folds: Sequence[int | str] | None = None,
        checkpoint: str = "final",
        options: PredictionOptions | None = None,
        network_class: str | None = None,
    ) -> "Predictor":
        """Load a model folder, or several to be averaged.

        Args:
            model_folder: path to a folder with plan.json and fold_*/weights_*.safetensors, or several.
            device: device such as "cuda:1"; None takes the best available.
            folds: folds to average, such as [0, 1]; None takes all that are trained.
            checkpoint: `final` or `best`.
            options: options of sliding window and ensembling; None takes the plan's.
            network_class: `package.module:Class` of a custom network to import; see `inference.model.make_network`.

        Raises:
            InputError: a folder or the device cannot be used.
        """
        folders = [model_folder] if isinstance(model_folder, (str, Path)) else model_folder
        return cls(load_models([Path(folder) for folder in folders], folds, checkpoint, network_class), device, options)

    @property
    def description(self) -> DatasetDescription:
        """Dataset description with the channels that the models need and the labels that they predict."""
        return self.models[0].plan.dataset

    @property
    def _blending(self) -> Blending:
        """Averaging options."""
        return Blending(
            regions=self.description.has_regions, average=average_of(self.models, self.options), step=self.options.step
        )

    def __call__(self, image: Any, spacing: Sequence[float] | None = None) -> Any:
        """Segment one image.

        Args:
            image: array (Z, Y, X) or (C, Z, Y, X), nibabel image or SimpleITK image, or a list with one per channel.
            spacing: spacing (Z, Y, X) in mm, for arrays only.

        Returns:
            Label values on the image's grid, as the same kind of image: array (Z, Y, X), nibabel or SimpleITK image.

        Raises:
            InputError: the image contradicts itself, as files may (docs/reference/contradictions.md); it is too large; the number of
                channels differs from the models', or values are not finite.
            TypeError, ValueError: the image has an unsupported type or shape; see `open_volume`.
        """
        volume = open_volume(image, spacing)
        return volume.wrap(self.segment(volume.image, volume.geometry).labels)

    def segment(
        self,
        image: NDArray[np.float32],
        geometry: Geometry,
        wanted: Wanted | None = None,
        *,
        where: str = "the image",
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: image (C, Z, Y, X) float32 as stored.
            geometry: geometry of the image.
            wanted: optional outputs besides the labels.
            where: name of the image in messages.
            progress: progress display over the tiles.

        Raises:
            InputError: the number of channels differs from the models', values are not finite, or the image is too large.
        """
        return self.segment_prepared(self.prepare(image, geometry, where), wanted, progress)

    def prepare(self, image: NDArray[np.float32], geometry: Geometry, where: str = "the image") -> Prepared:
        """Preprocess an image for `segment_prepared`. Arguments and errors are as for `segment`."""
        raise_faults(image_faults(where, image, self.description))
        made = [
            preprocess(image, None, geometry, model.plan.configuration, model.plan.orientation, where) for model in self.models
        ]
        doubt = spacing_doubt(made[0].trace.spacing, made[0].trace.resampled_spacing)
        if doubt is not None:
            logger.warning("%s", Fault(where, doubt, "Check the unit of lengths in its header"))
        first = None if self.first_stage is None else self.first_stage.prepare(image, geometry, where)
        return Prepared(tuple(torch.from_numpy(one.image) for one in made), tuple(one.trace for one in made), first, where)

    def segment_prepared(
        self, prepared: Prepared, wanted: Wanted | None = None, progress: Progress | None = None
    ) -> Segmentation:
        """Segment a preprocessed image. Arguments are as for `segment`.

        Raises:
            DeviceMemoryError: memory runs out even for a single tile.
            InputError: scores are not finite numbers.
        """
        images = self._with_first_stage(prepared)

        def attempt(capacity: Capacity) -> Segmentation:
            volumes = tuple(image.to(capacity.volumes_device) for image in images)
            return self._segment(_Attempt(volumes, prepared.traces, capacity, wanted or Wanted(), progress))

        return within(self._capacity, attempt, prepared.where)

    def _segment(self, attempt: _Attempt) -> Segmentation:
        """Find the size of the anatomy where a model is calibrated, and segment the image at this size."""
        finders = [
            SizeFinder.of(model, networks, self.options, self._blending, attempt.capacity)
            for model, networks in zip(self.models, self.networks, strict=True)
        ]
        if len(finders) == 1 and finders[0] is not None and not self._mirrors(0):
            return self._segment_first(attempt, finders[0])
        found = [
            None if finder is None else finder.find(image, trace.resampled_spacing)
            for finder, image, trace in zip(finders, attempt.images, attempt.traces, strict=True)
        ]
        answer = self._answer(attempt, [1.0 if one is None else one.factor for one in found])
        return replace(answer, quality=self._quality(found))

    def _segment_first(self, attempt: _Attempt, finder: SizeFinder) -> Segmentation:
        """Segment the image as it is, and again at another size only where that answer gives reason to search.

        Without reflections the answer itself shows what a first look would, at no cost.
        """
        answer = self._answer(replace(attempt, wanted=replace(attempt.wanted, sums=True)), [1.0])
        if answer.sums is None:
            raise RuntimeError("the answer has no sums")
        trace = attempt.traces[0]
        first = Evidence(dice_of(answer.sums), None, diameters_of(answer.sums, prod(trace.spacing), 1.0))
        found = finder.find(attempt.images[0], trace.resampled_spacing, first)
        if found.factor != 1:
            answer = self._answer(attempt, [found.factor])
        return replace(answer, quality=self._quality([found]))

    def _answer(self, attempt: _Attempt, factors: Sequence[float]) -> Segmentation:
        """Segment with each model at its factor of the image's size."""
        members = [
            member
            for position, (image, trace, factor) in enumerate(zip(attempt.images, attempt.traces, factors, strict=True))
            for member in self._members(position, image, trace, factor)
        ]
        return collect(
            members, attempt.traces[0], self.description, attempt.wanted, self._blending, attempt.capacity, attempt.progress
        )

    def _quality(self, found: Sequence[FoundSize | None]) -> Quality | None:
        """Return what the first calibrated model expects; None where none is calibrated."""
        for position, (model, one) in enumerate(zip(self.models, found, strict=True)):
            if model.calibration is not None and one is not None:
                return judge(model.calibration, one.evidence, one.factor, self._mirrors(position))
        return None

    def _mirrors(self, position: int) -> bool:
        """Return whether predictions of a model are averaged over reflections."""
        return self.options.mirror and self.models[position].plan.network.reflections > 1

    def _with_first_stage(self, prepared: Prepared) -> list[Tensor]:
        """Return the images, with the first stage's segmentation as additional channels for models of a second stage."""
        if self.first_stage is None or prepared.first_stage is None:
            return list(prepared.images)
        labels = self.first_stage.segment_prepared(prepared.first_stage).labels
        indices = to_class_indices(labels, self.description)
        images = []
        for image, trace, model in zip(prepared.images, prepared.traces, self.models, strict=True):
            if model.plan.configuration.previous is None:
                images.append(image)
                continue
            channels = cascade_channels(indices, trace, self.description)
            images.append(torch.cat([image, torch.from_numpy(channels)]))
        return images

    def _members(self, position: int, image: Tensor, trace: Trace, factor: float) -> list[Member]:
        """Return the ensemble members of one model, which predict on the cropped grid of the stored image."""
        model = self.models[position]
        onwards = _way_back(trace, model.plan.configuration)
        variants, planned = Variants.of(self.options), model.plan.network
        if factor != 1:
            variants = replace(variants, scales=(factor,), weights=None)
            planned = with_affordable_reflections(planned, factor)
        return make_members(self.networks[position], image, planned, variants, onwards)


def _way_back(trace: Trace, configuration: ConfigurationPlan) -> Matrices:
    """Return the matrices that bring class scores from the prepared grid back to that of the cropped image."""
    if configuration.resampling.back == "interpolated":
        return returning_matrices(trace.resampled_shape, trace.box.shape, trace.separate_axis)
    # as nnU-Net does, which looks for thick slices on the grid that it comes from first
    axis = find_separate_axis(trace.resampled_spacing, trace.spacing, configuration.separate_axis_ratio)
    return resampling_matrices(trace.resampled_shape, trace.box.shape, LABEL_ORDER, axis)


def load_first_stage(
    models: Sequence[Model],
    folders: Sequence[Path],
    device: torch.device | str | None,
    checkpoint: str,
    options: PredictionOptions | None,
) -> Predictor | None:
    """Return the predictor of a cascade's first stage, or None if no model needs one.

    Raises:
        InputError: the first stage's model is not beside the second's.
    """
    found = find_first_stage(models, folders)
    return None if found is None else Predictor.load(found, device, None, checkpoint, options)
