"""The plan: every decision that preprocessing, training and prediction need, each with its reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError
from configs.files import Value
from configs.fingerprint import Directions, IntensityStatistics, Shape, Spacing
from configs.named_parts import PATTERN
from configs.network import NetworkConfig
from configs.outputs import name_faults

Normalisation = Literal["ct", "zscore", "zscore_in_mask", "rescale", "rgb", "none"]
NORMALISATIONS: dict[str, Normalisation] = {  # name in lower case, as people and nnU-Net write it
    "ct": "ct",
    "zscore": "zscore",
    "zscore_in_mask": "zscore_in_mask",
    "rescale": "rescale",
    "rescale_to_0_1": "rescale",
    "rescale_0_1": "rescale",
    "rgb": "rgb",
    "rgb_to_0_1": "rgb",
    "none": "none",
    "nonorm": "none",
}
NETWORKS = ("se", "baseline")  # planned where none are named
PUBLISHED = ("wimmer2023", "wimmer2023_baseline")  # of Wimmer et al. 2023, planned on request
_OF_NNUNET = "plans.json"  # in the folder of a model of nnU-Net


class SliceFrame(Value):
    """Orientation for thick slices that run across different axes of the patient: slices lie in the plane of Y and X.

    An image with thick slices is turned so that Z runs across them, any other image in any way. Of the turns that are left, the one is
    taken whose axes come nearest to the reference. Turns never mirror the anatomy.
    """

    reference: Directions  # directions of the axes x, y and z that images are turned towards
    thick: float = Field(default=1.5, ge=1)  # ratio of the coarsest spacing to the next one from which slices are thick


class AxisOrder(Value):
    """Orientation for another order of axes: axis i inside is axis `axes[i]` of (Z, Y, X), in one of the two other orientations."""

    axes: tuple[int, int, int]
    of: Literal["canonical", "as-stored"] = "as-stored"

    @model_validator(mode="after")
    def _axes_are_a_permutation(self) -> "AxisOrder":
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError(f"the axes must be 0, 1 and 2 in any order, not {self.axes}")
        return self


Orientation = Literal["canonical", "as-stored"] | SliceFrame | AxisOrder
Average = Literal["probabilities", "logits"]


class Resampling(Value):
    """How images come to the planned grid, and class scores back. The defaults are ours; imported models of nnU-Net have its ways.

    Attributes:
        images: splines between the voxels of images.
        clamp: where slices are thick, resampled intensities stay within the range of the `volume`, or of their own `slice`.
        back: class scores across thick slices: `interpolated` between the slices that the network saw, or those of the `nearest` slice.
    """

    images: Literal["cubic", "linear"] = "cubic"
    clamp: Literal["volume", "slice"] = "volume"
    back: Literal["interpolated", "nearest"] = "interpolated"


class LabelRange(Value):
    """Sizes of one label as a whole to expect in new cases: diameters of a ball of its volume."""

    diameter: float = Field(gt=0)  # mm, geometric mean of the training cases
    # largest distance of a new case from it; None where one case tells nothing
    octaves: float | None = Field(default=None, ge=0, le=64)


class SizeRange(Value):
    """Sizes of the anatomy to expect in new cases, as factors of the median size in training."""

    low: float = Field(ge=1 / 8, le=1)
    high: float = Field(ge=1, le=8)
    label: str | None = None  # label whose sizes vary most, or None where no label occurs in two cases
    labels: dict[str, LabelRange] = Field(default_factory=dict)  # labels that occur in training, each as a whole


class ChannelNormalisation(Value):
    """How one channel is brought to a common range.

    Attributes:
        channel: name of the channel.
        scheme: `ct` clips to the dataset's 0.5 and 99.5 foreground percentiles and standardises with its foreground mean
            and standard deviation; `zscore` standardises each image; `zscore_in_mask` does so inside the nonzero mask and
            leaves 0 outside; `rescale` maps each image to 0..1; `rgb` divides values from 0 to 255 by 255; `none` leaves it.
        statistics: intensity statistics of the dataset's foreground, needed by `ct`.
    """

    channel: str
    scheme: Normalisation
    statistics: IntensityStatistics | None = None

    @model_validator(mode="after")
    def _ct_has_statistics(self) -> "ChannelNormalisation":
        if self.scheme == "ct" and self.statistics is None:
            raise ValueError(f"channel `{self.channel}`: scheme `ct` needs foreground statistics")
        return self


class NetworkPlan(Value):
    """One network at one configuration.

    Attributes:
        network: the network itself.
        patch_size: voxels at the planned spacing; divisible by the network's total stride.
        batch_size: patches per training step.
        batch_dice: Dice over the batch as one volume, rather than per sample.
        mirror_axes: axes of (Z, Y, X) = (0, 1, 2) that may be mirrored in training and prediction.
        scaling_range: factors of random scaling in training, below 1 the anatomy grows.
        scaling_probability: share of the patches that are scaled.
        network_class: a user's own network, `package.module:Class`, made from `network`; None is `se_unet.build_network`.
        reasons: reason of each decision, a sentence with its numbers.
    """

    network: NetworkConfig
    patch_size: Shape
    batch_size: int = Field(ge=1)
    batch_dice: bool = False
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    scaling_range: tuple[float, float] = (0.7, 1.4)
    scaling_probability: float = Field(default=0.2, ge=0, le=1)
    network_class: str | None = Field(default=None, pattern=PATTERN)
    reasons: dict[str, str] = Field(default_factory=dict)

    @property
    def reflections(self) -> int:
        """Number of reflections that prediction averages; along an axis with one voxel there is none."""
        return int(2 ** sum(self.patch_size[axis] > 1 for axis in self.mirror_axes))

    @model_validator(mode="before")
    @classmethod
    def _without_test_scales(cls, data: Any) -> Any:
        """Plans of earlier versions name scales of prediction, (1.0,) unless someone changed them."""
        if not isinstance(data, dict) or "test_scales" not in data:
            return data
        if list(data["test_scales"]) != [1]:
            raise ValueError("test_scales is no longer part of a plan; give the scales to se_predict with --scales")
        return {name: value for name, value in data.items() if name != "test_scales"}

    @model_validator(mode="after")
    def _patch_and_axes_are_usable(self) -> "NetworkPlan":
        total = self.network.total_stride
        if any(size < 1 for size in self.patch_size):
            raise ValueError(f"patch_size must be positive, not {self.patch_size}")
        if any(size % stride for size, stride in zip(self.patch_size, total, strict=True)):
            raise ValueError(f"the patch {self.patch_size} is not divisible by the total stride {total}")
        if len(set(self.mirror_axes)) != len(self.mirror_axes) or not set(self.mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"mirror_axes must be distinct axes among 0, 1 and 2, not {self.mirror_axes}")
        return self


class ConfigurationPlan(Value):
    """One way to prepare the data (a resolution), and the networks planned for it.

    Attributes:
        spacing: spacing of the grid that all cases are resampled to, in mm; see `grid_spacing` for slices.
        median_shape: number of voxels of the median case on that grid.
        normalisation: normalisation of each channel.
        separate_axis_ratio: images whose coarsest spacing exceeds the finest by more than this are resampled slice by
            slice, with nearest neighbours across the coarse axis. None for no image.
        resampling: how images come to this grid, and class scores back.
        average: quantity that is averaged over folds and resampled to the image, where the user does not choose.
        slice_axis: axis of (Z, Y, X) = (0, 1, 2) across slices, for networks that see single slices: patches have one voxel
            along it, kernels and strides are 1, and cases keep their own spacing there. None for volumes.
        previous: configuration whose segmentation the second network of a cascade also sees: one channel for each
            class but the background (`DatasetDescription.cascade_channels`), behind those of the image.
        cases_of: the configuration whose preprocessed cases are used, where this one has none of its own.
        networks: networks by name, such as `se` and `baseline`.
        reasons: reason of each decision, a sentence with its numbers.
    """

    spacing: Spacing
    median_shape: Shape
    normalisation: tuple[ChannelNormalisation, ...] = Field(min_length=1)
    separate_axis_ratio: float | None = 3.0
    resampling: Resampling = Resampling()
    average: Average = "probabilities"
    slice_axis: int | None = Field(default=None, ge=0, le=2)
    previous: str | None = None
    cases_of: str | None = None
    networks: dict[str, NetworkPlan] = Field(default_factory=dict)
    reasons: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _slices_are_flat(self) -> "ConfigurationPlan":
        if self.slice_axis is None:
            return self
        for name, planned in self.networks.items():
            sizes = [planned.patch_size, *planned.network.kernels, *planned.network.strides]
            if any(size[self.slice_axis] != 1 for size in sizes):
                raise ValueError(f"network `{name}`: patch, kernels and strides must be 1 along the slice axis {self.slice_axis}")
        return self

    def grid_spacing(self, spacing: Spacing) -> Spacing:
        """Spacing in mm (Z, Y, X) that a case in the plan's orientation is resampled to: the planned one, but its own across slices."""
        kept = [
            own if axis == self.slice_axis else planned
            for axis, (own, planned) in enumerate(zip(spacing, self.spacing, strict=True))
        ]
        return kept[0], kept[1], kept[2]


class Plan(Value):
    """Everything that preprocessing and prediction need.

    Attributes:
        version: version of this format.
        dataset: channels and labels.
        orientation: `canonical` brings every image to the orientation RAS inside and back on output; `as-stored` never
            reorients; a `SliceFrame` brings thick slices into one plane; an `AxisOrder` exchanges axes.
        sizes: sizes of the anatomy to expect in new cases; None in plans of earlier versions.
        configurations: configurations by name, such as `3d_fullres`.
    """

    version: Literal[1] = 1
    dataset: DatasetDescription
    orientation: Orientation = "canonical"
    sizes: SizeRange | None = None
    configurations: dict[str, ConfigurationPlan] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_stay_in_their_folder(self) -> "Plan":
        others = [
            name
            for one in self.configurations.values()
            for name in (*one.networks, one.previous, one.cases_of)
            if name is not None
        ]
        faults = [*name_faults("name", [*self.configurations, *others])]
        if faults:
            raise ValueError("; ".join(f"{fault.where}: {fault.problem}" for fault in faults))
        return self

    def configuration(self, name: str) -> ConfigurationPlan:
        """Raises `InputError` where the plan has no such configuration."""
        if name not in self.configurations:
            raise InputError(_unknown("configuration", name, self.configurations))
        return self.configurations[name]

    def network(self, configuration: str, network: str) -> NetworkPlan:
        """Raises `InputError` where the plan has no such configuration or network."""
        networks = self.configuration(configuration).networks
        if network not in networks:
            raise InputError(_unknown("network", network, networks))
        return networks[network]

    def only(self, configuration: str, network: str, replacement: NetworkPlan | None = None) -> "ModelPlan":
        """Return the plan of one model: one configuration with one network, which `replacement` may replace."""
        kept = replacement or self.network(configuration, network)
        chosen = self.configuration(configuration).model_copy(update={"networks": {network: kept}})
        return ModelPlan(self.model_copy(update={"configurations": {configuration: chosen}}))


def refuse_nnunet(path: Path) -> None:
    """Raise `InputError` where a plan file is missing because its folder is a model of nnU-Net, which must be imported first."""
    if not path.is_file() and path.with_name(_OF_NNUNET).is_file():
        remedy = f"Import it first: se_bundle import {path.parent} -o MODEL"
        raise InputError(Fault(str(path.parent), "this is a model of nnU-Net", remedy))


@dataclass(frozen=True)
class ModelPlan:
    """Plan of one model: exactly one configuration with one network.

    Raises:
        ValueError: the plan holds more than one network, or none.
    """

    whole: Plan  # the plan as its file states it

    def __post_init__(self) -> None:
        counts = [len(configuration.networks) for configuration in self.whole.configurations.values()]
        if counts != [1]:
            raise ValueError(f"{sum(counts)} networks in {len(counts)} configurations, but a model has one network")

    @classmethod
    def read(cls, path: Path) -> "ModelPlan":
        """Read the plan file of a model.

        Raises:
            InputError: the file cannot be read, or does not hold exactly one network; or the folder is a model of nnU-Net.
        """
        refuse_nnunet(path)
        plan = Plan.read(path)
        try:
            return cls(plan)
        except ValueError as error:
            raise InputError(
                Fault(str(path), f"it plans {error}", "Give the folder of one model, such as models/3d_fullres_se")
            ) from error

    def write(self, path: Path) -> None:
        """Write the plan file."""
        self.whole.write(path)

    def changes_to(self, other: "ModelPlan") -> list[str]:
        """Return in words what another plan decides otherwise; reasons decide nothing."""
        return list(_changes("", self.whole.model_dump(mode="json"), other.whole.model_dump(mode="json")))

    @property
    def dataset(self) -> DatasetDescription:
        """Channels and labels."""
        return self.whole.dataset

    @property
    def orientation(self) -> Orientation:
        """Orientation of images inside the software; see `Plan`."""
        return self.whole.orientation

    @property
    def configuration_name(self) -> str:
        """Name of the configuration, such as `3d_fullres`."""
        return next(iter(self.whole.configurations))

    @property
    def configuration(self) -> ConfigurationPlan:
        """How images are prepared."""
        return self.whole.configurations[self.configuration_name]

    @property
    def network_name(self) -> str:
        """Name of the network, such as `se`."""
        return next(iter(self.configuration.networks))

    @property
    def network(self) -> NetworkPlan:
        """The network with its patch, batch and test-time settings."""
        return self.configuration.networks[self.network_name]


def _unknown(kind: str, name: str, known: dict[str, ConfigurationPlan] | dict[str, NetworkPlan]) -> Fault:
    return Fault(f"{kind} `{name}`", f"the plan holds {', '.join(known) or 'none'}", "Choose one of these or plan again")


def _changes(where: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            if name != "reasons" or not where.startswith("configurations"):
                yield from _changes(f"{where}.{name}".lstrip("."), before.get(name), now.get(name))
    elif before != now:
        yield f"{where} was {before}, now {now}"
