"""What a dataset is: its channels and labels, as `dataset.json` states them."""

from pydantic import Field, field_validator, model_validator

from configs.files import Value

BACKGROUND = "background"
IGNORE = "ignore"
_LARGEST_VALUE = 2**31 - 1  # what label files are written with


class DatasetDescription(Value):
    """Names and label values of a dataset. Inside the framework, labels are class indices; files hold label values.

    Attributes:
        name: a short name, used for folders.
        channels: channel names in file order (`_0000`, `_0001`, ...).
        labels: label name -> value, or -> values that make up a region. `background` is 0; `ignore` marks voxels
            that are left out of training and evaluation.
        file_ending: of images and labels, with the leading dot.
        regions_class_order: for regions, the value painted for each region, later ones over earlier ones.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")
    channels: tuple[str, ...] = Field(min_length=1)
    labels: dict[str, int | tuple[int, ...]]
    file_ending: str = Field(default=".nii.gz", pattern=r"^\.[a-z0-9.]+$")
    regions_class_order: tuple[int, ...] | None = None

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
        if any(value < 0 for values in labels.values() for value in _as_tuple(values)):
            raise ValueError("label values must not be negative")
        if any(value > _LARGEST_VALUE for values in labels.values() for value in _as_tuple(values)):
            raise ValueError(f"label values must be at most {_LARGEST_VALUE}")
        return labels

    @model_validator(mode="after")
    def _regions_have_an_order(self) -> "DatasetDescription":
        if len(set(self.channels)) != len(self.channels):
            raise ValueError(f"channel names must differ, not {self.channels}")
        if self.has_regions:
            painted = len(self.regions_class_order or ())
            if painted != len(self.foreground):
                expected = len(self.foreground)
                raise ValueError(
                    f"with regions, `regions_class_order` must name one value for each of {expected} regions, not {painted}"
                )
        if self.ignore_value is not None and self.ignore_value in self.values:
            raise ValueError(f"the ignore value {self.ignore_value} is also a label's value")
        return self

    @property
    def has_regions(self) -> bool:
        """True where a label is made of several values: outputs then overlap and are sigmoids."""
        return any(isinstance(value, tuple) for value in self.labels.values())

    @property
    def ignore_value(self) -> int | None:
        """The stored value of ignored voxels, or None."""
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
        """All stored values but the ignore value, ascending. A voxel's class index is its value's position here."""
        kept = (values for name, values in self.labels.items() if name != IGNORE)
        return tuple(sorted({value for values in kept for value in _as_tuple(values)}))

    @property
    def ignore_index(self) -> int | None:
        """Class index of ignored voxels (one above the last class), or None."""
        return None if self.ignore_value is None else len(self.values)

    @property
    def output_channels(self) -> int:
        """Number of network outputs: classes with background, or regions."""
        return len(self.foreground) if self.has_regions else len(self.values)

    @property
    def cascade_channels(self) -> int:
        """Channels by which the second network of a cascade sees the first one's segmentation: class indices 1, 2, ... one-hot."""
        return len(self.values) - 1

    def class_indices(self, name: str) -> tuple[int, ...]:
        """Class indices that make up a label or region."""
        return tuple(self.values.index(value) for value in _as_tuple(self.labels[name]))


def _as_tuple(values: int | tuple[int, ...]) -> tuple[int, ...]:
    return values if isinstance(values, tuple) else (values,)
