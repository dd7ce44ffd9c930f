"""The description of a dataset: its channels and labels, as in `dataset.json`."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from configs.files import Value

BACKGROUND = "background"
IGNORE = "ignore"
_COLOURS = (("r", "g", "b"), ("red", "green", "blue"), ("rgb_to_0_1",) * 3)
_LARGEST_VALUE = 2**31 - 1  # label files have at most 32 bits


class Code(Value):
    """A concept of a coding scheme such as SNOMED CT, within the lengths that DICOM admits."""

    value: str = Field(min_length=1, max_length=16)  # code, such as 78961009
    scheme: str = Field(min_length=1, max_length=16)  # designator of the scheme, such as SCT
    meaning: str = Field(min_length=1, max_length=64)  # words for people, such as Spleen


class LabelCode(Code):
    """What a label is: its type, and the category of that type."""

    # such as a morphologically altered structure; the default is an anatomical structure
    category: Code = Code(value="123037004", scheme="SCT", meaning="Anatomical Structure")


class DatasetDescription(Value):
    """Channel names and label values of a dataset. Files hold label values; arrays in this package hold class indices.

    Attributes:
        name: short name, used for folders.
        channels: names of the channels in file order (`_0000`, `_0001`, ...); several may have the same name.
        labels: label name -> value, or -> values that make up a region. `background` is 0; `ignore` marks voxels that training and
            evaluation leave out.
        file_ending: ending of image and label files, with the leading dot.
        regions_class_order: value written for each region, where labels are regions; later regions overwrite earlier ones. Each
            value must come back in the same regions.
        annotated: sets of labels that were annotated in some cases, where not all were; see `partial_index`.
        codes: codes of labels for DICOM segmentations. Files leave the field out where it is empty.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")
    channels: tuple[str, ...] = Field(min_length=1)
    labels: dict[str, int | tuple[int, ...]]
    file_ending: str = Field(default=".nii.gz", pattern=r"^\.[a-z0-9.]+$")
    regions_class_order: tuple[int, ...] | None = None
    annotated: tuple[tuple[str, ...], ...] = ()
    codes: dict[str, LabelCode] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_empty_codes(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files without codes stay those of earlier versions."""
        fields = write(self)
        return fields if self.codes else {name: value for name, value in fields.items() if name != "codes"}

    @field_validator("labels")
    @classmethod
    def _labels_are_usable(cls, labels: dict[str, int | tuple[int, ...]]) -> dict[str, int | tuple[int, ...]]:
        if labels.get(BACKGROUND) != 0:
            raise ValueError(f"`{BACKGROUND}` must be 0, not {labels.get(BACKGROUND)}")
        if isinstance(labels.get(IGNORE, 0), tuple):
            raise ValueError(f"`{IGNORE}` must be one value, not the region {labels[IGNORE]}")
        if len(labels) - (IGNORE in labels) < 2:
            raise ValueError("there must be at least one label besides the background")
        plain = [value for name, value in labels.items() if isinstance(value, int) and name != IGNORE]
        if len(set(plain)) != len(plain):
            raise ValueError(f"two labels share a value: {sorted(plain)}")
        if () in labels.values():
            raise ValueError("a region must have at least one value")
        if any(value < 0 for values in labels.values() for value in _as_tuple(values)):
            raise ValueError("label values must not be negative")
        if any(value > _LARGEST_VALUE for values in labels.values() for value in _as_tuple(values)):
            raise ValueError(f"label values must be at most {_LARGEST_VALUE}")
        return labels

    @model_validator(mode="after")
    def _regions_have_an_order(self) -> "DatasetDescription":
        if self.ignore_value is not None and self.ignore_value in self.values:
            raise ValueError(f"the ignore value {self.ignore_value} is also a label's value")
        if self.has_regions:
            painted = len(self.regions_class_order or ())
            if painted != len(self.foreground):
                expected = len(self.foreground)
                raise ValueError(
                    f"with regions, `regions_class_order` must name one value for each of {expected} regions, not {painted}"
                )
            self._check_painting()
        return self

    @model_validator(mode="after")
    def _annotated_labels_exist(self) -> "DatasetDescription":
        unknown = sorted({name for names in self.annotated for name in names} - set(self.foreground))
        if unknown:
            raise ValueError(f"`annotated` has names that are not labels: {', '.join(unknown)}")
        if self.annotated and self.has_regions:
            raise ValueError("`annotated` is for labels, and this dataset has regions, whose voxels lie in several of them")
        if not all(self.annotated) or len(set(self.annotated)) != len(self.annotated):
            raise ValueError("the sets in `annotated` must be distinct and have a label each")
        return self

    @model_validator(mode="after")
    def _codes_are_of_labels(self) -> "DatasetDescription":
        unknown = sorted(set(self.codes) - set(self.foreground))
        if unknown:
            raise ValueError(f"`codes` has names that are not labels: {', '.join(unknown)}")
        return self

    def _check_painting(self) -> None:
        """Paint each value through its own regions as prediction does: what is painted must lie in the same regions."""
        painted = {value: self._painted(value) for value in self.values if value}
        lost = [value for value, found in painted.items() if self._regions_of(found) != self._regions_of(value)]
        if lost:
            changes = "; ".join(
                f"value {value} ({', '.join(self._regions_of(value))}) becomes {painted[value]} "
                f"({', '.join(self._regions_of(painted[value])) or 'no region'})"
                for value in lost
            )
            raise ValueError(
                f"`regions_class_order` {list(self.regions_class_order or ())} loses values when the regions "
                f"{', '.join(self.foreground)} are painted in this order: {changes}"
            )

    def _regions_of(self, value: int) -> tuple[str, ...]:
        return tuple(name for name in self.foreground if value in _as_tuple(self.labels[name]))

    def _painted(self, value: int) -> int:
        """Return the value that a voxel of this value gets when all its regions are painted, later ones over earlier ones."""
        order = zip(self.foreground, self.regions_class_order or (), strict=True)
        return [paint for name, paint in order if value in _as_tuple(self.labels[name])][-1]

    @property
    def channel_titles(self) -> tuple[str, ...]:
        """Names of the channels for people; see `titles`."""
        return titles(self.channels)

    @property
    def has_regions(self) -> bool:
        """Whether some label has several values. The outputs of networks then overlap and are sigmoids."""
        return any(isinstance(value, tuple) for value in self.labels.values())

    @property
    def ignore_value(self) -> int | None:
        """Label value of ignored voxels, or None."""
        value = self.labels.get(IGNORE)
        return value if isinstance(value, int) else None

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the labels (or regions) besides background and ignore, in the order of the network's outputs."""
        names = [name for name in self.labels if name not in (BACKGROUND, IGNORE)]
        if self.has_regions:
            return tuple(names)
        return tuple(sorted(names, key=lambda name: _as_tuple(self.labels[name])))

    @property
    def values(self) -> tuple[int, ...]:
        """All label values except the ignore value, ascending. The class index of a voxel is the position of its value here."""
        kept = (values for name, values in self.labels.items() if name != IGNORE)
        return tuple(sorted({value for values in kept for value in _as_tuple(values)}))

    @property
    def ignore_index(self) -> int | None:
        """Class index of ignored voxels (one above the last class), or None."""
        return None if self.ignore_value is None else len(self.values)

    def partial_index(self, annotated: Sequence[str]) -> int:
        """Return the class index of voxels that may be background or any label that was not annotated, in cases with this set of labels.

        Raises:
            ValueError: the set is not one of `annotated`.
        """
        return len(self.values) + 1 + self.annotated.index(tuple(annotated))

    @property
    def output_channels(self) -> int:
        """Number of network outputs: classes including background, or regions."""
        return len(self.foreground) if self.has_regions else len(self.values)

    @property
    def cascade_channels(self) -> int:
        """Number of channels for the segmentation in a cascade: class indices 1, 2, ... one-hot."""
        return len(self.values) - 1

    def class_indices(self, name: str) -> tuple[int, ...]:
        """Return the class indices of a label or region."""
        return tuple(self.values.index(value) for value in _as_tuple(self.labels[name]))


def possible_classes(description: DatasetDescription) -> dict[int, tuple[int, ...]]:
    """Return the class indices that voxels of each `partial_index` may have: 0, and those of the labels that were not annotated."""
    return {
        description.partial_index(names): (
            0,
            *(description.class_indices(name)[0] for name in description.foreground if name not in names),
        )
        for names in description.annotated
    }


def titles(channels: Sequence[str]) -> tuple[str, ...]:
    """Return names of channels for people; a name that several channels share is followed by the channel's number."""
    return tuple(name if channels.count(name) == 1 else f"{name} (channel {index})" for index, name in enumerate(channels))


def are_colours(channels: Sequence[str]) -> bool:
    """Whether channels are red, green and blue, by their names."""
    return tuple(name.casefold() for name in channels) in _COLOURS


def label_values(description: DatasetDescription, name: str) -> tuple[int, ...]:
    """Return the values in files of a label or region."""
    return _as_tuple(description.labels[name])


def _as_tuple(values: int | tuple[int, ...]) -> tuple[int, ...]:
    return values if isinstance(values, tuple) else (values,)
