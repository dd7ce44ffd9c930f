"""nnU-Net's plan of a configuration in our terms: what it decided about images, patches and the network, as it is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import ValidationError

from configs.errors import Fault, InputError, raise_faults
from configs.fingerprint import IntensityStatistics
from configs.network import NetworkConfig
from configs.plan import AxisOrder, ChannelNormalisation, ConfigurationPlan, NetworkPlan, Orientation, Resampling
from se_unet.nnunet.architecture import settings_of

NETWORK = "nnunet"  # name of a network of nnU-Net's in our plans
_SCHEMES = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
}
_READERS: dict[str, Literal["canonical", "as-stored"]] = {
    "SimpleITKIO": "as-stored",
    "NibabelIO": "as-stored",
    "Tiff3DIO": "as-stored",
    "NaturalImage2DIO": "as-stored",
    "NibabelIOWithReorient": "canonical",
    "SimpleITKIOWithReorient": "canonical",
}
_INTENSITIES = ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")  # now and before
_ONE_CHOICE = {"preprocessor_name": "DefaultPreprocessor", "label_manager": "LabelManager"}
_SPLINES, _TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
_THICK = 3.0  # nnU-Net's ratio of spacings from which slices are resampled one by one
_GARBLED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
_REMEDY = "Get the plan again from nnU-Net"


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Turn errors about plans that are damaged, or state what this software does not do, into faults of `where`.

    Raises:
        InputError: the block raised such an error; all faults are listed.
    """
    try:
        yield
    except ValidationError as error:
        problems = {f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()}
        raise InputError(*(Fault(where, f"its plan cannot be used ({one})", _REMEDY) for one in sorted(problems))) from error
    except InputError as error:
        raise InputError(*(fault.within(where) for fault in error.faults)) from error
    except _GARBLED as error:
        problem = f"its plan is damaged or of another version ({type(error).__name__}: {error})"
        raise InputError(Fault(where, problem, _REMEDY)) from error


def configuration_of(
    plans: Mapping[str, Any],
    name: str,
    channels: Sequence[str],
    network: NetworkConfig,
    mirror_axes: Sequence[int],
    origin: str,
) -> ConfigurationPlan:
    """Return the plan of a configuration with one network, whose name is `nnunet`.

    `mirror_axes` are axes of nnU-Net's patch, and `origin` is a sentence that says where the network is from.

    Raises:
        InputError, ValidationError, KeyError, TypeError, ValueError: see `understood`.
    """
    settings = settings_of(plans, name)
    raise_faults(_unknown_parts(plans, settings))
    flat = len(settings["patch_size"]) == 2
    across = plans["original_median_spacing_after_transp"][0] if flat else None  # mm, which slices keep
    planned = NetworkPlan(
        network=network,
        patch_size=_three(settings["patch_size"], 1),
        batch_size=settings.get("batch_size", 2),
        batch_dice=bool(settings.get("batch_dice", False)),
        mirror_axes=tuple(axis + flat for axis in mirror_axes),
        reasons={"origin": origin},
    )
    resampling, ratio = _resampling(settings)
    return ConfigurationPlan(
        spacing=_three(settings["spacing"], across),
        median_shape=_three([max(1, round(size)) for size in settings["median_image_size_in_voxels"]], 1),
        normalisation=_normalisation(plans, settings, channels),
        separate_axis_ratio=ratio,
        resampling=resampling,
        average="logits",
        slice_axis=0 if flat else None,
        previous=settings.get("previous_stage"),
        networks={NETWORK: planned},
        reasons={"origin": f"As nnU-Net's plans `{plans.get('plans_name', 'nnUNetPlans')}` have it."},
    )


def orientation_of(plans: Mapping[str, Any]) -> Orientation:
    """Return the order of axes that nnU-Net chose, of images as its reader turns them.

    nnU-Net reads images as its plans say, whatever `overwrite_image_reader_writer` in `dataset.json` says since they were made.

    Raises:
        InputError, ValidationError, KeyError, TypeError, ValueError: see `understood`.
    """
    reader = str(plans["image_reader_writer"])
    if reader not in _READERS:
        raise InputError(Fault("image_reader_writer", f"`{reader}` is unknown", f"Known are {', '.join(_READERS)}"))
    z, y, x = plans["transpose_forward"]
    order = AxisOrder(axes=(z, y, x), of=_READERS[reader])
    back = plans.get("transpose_backward")
    if back is not None and [order.axes[axis] for axis in back] != [0, 1, 2]:
        raise InputError(Fault("transpose_backward", f"{back} does not undo {list(order.axes)}", _REMEDY))
    return order


def _unknown_parts(plans: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Fault]:
    for part, known in _ONE_CHOICE.items():
        named = settings.get(part, plans.get(part, known))
        if named != known:
            yield Fault(part, f"`{named}` is unknown", f"Known is {known}")
    for scheme in settings["normalization_schemes"]:
        if scheme not in _SCHEMES:
            yield Fault("normalization_schemes", f"`{scheme}` is unknown", f"Known are {', '.join(_SCHEMES)}")


def _normalisation(
    plans: Mapping[str, Any], settings: Mapping[str, Any], channels: Sequence[str]
) -> tuple[ChannelNormalisation, ...]:
    schemes, count = settings["normalization_schemes"], len(channels)
    if len(schemes) != count:
        problem = f"{len(schemes)} normalisations are planned, but there are {count} channels ({', '.join(channels)})"
        raise InputError(Fault("normalization_schemes", problem, "Use plans and images of the same kind"))
    measured = plans[next((name for name in _INTENSITIES if name in plans), _INTENSITIES[0])]
    chosen = zip(channels, schemes, settings["use_mask_for_norm"], strict=True)
    return tuple(
        _of_channel(channel, _SCHEMES[scheme], bool(masked), measured.get(str(index), {}))
        for index, (channel, scheme, masked) in enumerate(chosen)
    )


def _of_channel(channel: str, scheme: str, masked: bool, measured: Mapping[str, Any]) -> ChannelNormalisation:
    statistics = {name: measured[name] for name in IntensityStatistics.model_fields if name in measured}
    if scheme == "zscore" and masked:
        scheme = "zscore_in_mask"
    return ChannelNormalisation.model_validate(
        {"channel": channel, "scheme": scheme, "statistics": statistics if scheme == "ct" else None}
    )


def _resampling(settings: Mapping[str, Any]) -> tuple[Resampling, float | None]:
    """Return how images, labels and class scores are resampled, and the ratio of spacings from which slices are thick."""
    image, image_options = _function(settings, "data")
    label, label_options = _function(settings, "seg")
    score, score_options = _function(settings, "probabilities")
    ratios = {_ratio(options) for options in (image_options, label_options, score_options)}
    if len(ratios) > 1:
        raise InputError(Fault("resampling", "images, labels and scores treat thick slices differently", _LIKE_NNUNET))
    images = _choice("data", image, image_options, {(_SPLINES, 3): "cubic", (_SPLINES, 1): "linear", (_TORCH, 1): "linear"})
    _choice("seg", label, label_options, {(_SPLINES, 1): "linear", (_TORCH, 1): "linear"})
    _choice("probabilities", score, score_options, {(_SPLINES, 1): "linear", (_TORCH, 1): "linear"})
    clamp = "slice" if image == _SPLINES else "volume"
    return Resampling.model_validate({"images": images, "clamp": clamp, "back": "nearest"}), ratios.pop()


_LIKE_NNUNET = "Only resampling as nnU-Net plans it is supported"
_DEFAULTS = {"data": 3, "seg": 1, "probabilities": 1}


def _function(settings: Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    options = {"order": _DEFAULTS[kind], **(settings.get(f"resampling_fn_{kind}_kwargs") or {})}
    return str(settings.get(f"resampling_fn_{kind}", _SPLINES)), options


def _choice(kind: str, function: str, options: Mapping[str, Any], known: Mapping[tuple[str, int], str]) -> str:
    order = 1 if function == _TORCH else options["order"]
    usual = {"order_z": 0, "mode": "linear", "aniso_axis_mode": "nearest-exact", "is_seg": kind == "seg"}
    usual |= {"memefficient_seg_resampling": False}
    unusual = [f"{name} = {options[name]}" for name, value in usual.items() if options.get(name, value) != value]
    if (function, order) not in known or unusual:
        problem = f"`{function}` with {', '.join(unusual) or f'order {order}'} is unknown"
        raise InputError(Fault(f"resampling_fn_{kind}", problem, _LIKE_NNUNET))
    return known[function, order]


def _ratio(options: Mapping[str, Any]) -> float | None:
    forced = options.get("force_separate_z")
    if forced is True:
        raise InputError(Fault("resampling", "`force_separate_z` is true", _LIKE_NNUNET))
    return None if forced is False else float(options.get("separate_z_anisotropy_threshold", _THICK))


def _three(values: Any, first: Any) -> Any:
    return (first, *values) if len(values) == 2 else tuple(values)
