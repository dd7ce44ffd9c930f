"""The plan of a model of nnU-Net in our terms: what it decided about images, patches and the network, as it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.fingerprint import IntensityStatistics
from configs.folders import dataset_name
from configs.plan import AxisOrder, ChannelNormalisation, ConfigurationPlan, NetworkPlan, Orientation, Plan, Resampling
from inference.bundle.nnunet.source import REMEDY
from preprocessing.dataset.description import read_description
from se_unet.nnunet.checkpoint import NNUNetCheckpoint

NETWORK = "nnunet"  # name of an imported network
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
_ONE_CHOICE = {"preprocessor_name": "DefaultPreprocessor", "label_manager": "LabelManager"}
_SPLINES, _TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
_THICK = 3.0  # nnU-Net's ratio of spacings from which slices are resampled one by one
_GARBLED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def plan_of(checkpoint: NNUNetCheckpoint, where: str) -> Plan:
    """Return the plan of one configuration with one network, whose name is `nnunet`.

    Raises:
        InputError: nnU-Net's plans state something that this software does not do, or are damaged; all faults are listed.
    """
    try:
        return _plan(checkpoint, where)
    except ValidationError as error:
        problems = {f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()}
        raise InputError(*(Fault(where, f"its plan cannot be used ({one})", REMEDY) for one in sorted(problems))) from error
    except InputError as error:
        raise InputError(*(fault.within(where) for fault in error.faults)) from error
    except _GARBLED as error:
        problem = f"its plan is damaged or of another version ({type(error).__name__}: {error})"
        raise InputError(Fault(where, problem, REMEDY)) from error


def _plan(checkpoint: NNUNetCheckpoint, where: str) -> Plan:
    plans, settings = checkpoint.plans, checkpoint.settings
    raise_faults(_unknown_parts(plans, settings, checkpoint.dataset))
    name = dataset_name(Path(str(plans.get("dataset_name", "nnU-Net"))))
    description = read_description(Path(name), {"file_ending": ".nii.gz", **checkpoint.dataset})
    network = checkpoint.network
    previous = settings.get("previous_stage")
    raise_faults(_channel_faults(network.input_channels, network.output_channels, description, previous is not None))
    flat = len(settings["patch_size"]) == 2
    across = plans["original_median_spacing_after_transp"][0] if flat else None  # mm, which slices keep
    planned = NetworkPlan(
        network=network,
        patch_size=_three(settings["patch_size"], 1),
        batch_size=settings.get("batch_size", 2),
        batch_dice=bool(settings.get("batch_dice", False)),
        mirror_axes=tuple(axis + flat for axis in checkpoint.mirror_axes or ()),
        reasons={"origin": f"A network that nnU-Net trained with `{checkpoint.trainer}`."},
    )
    resampling, ratio = _resampling(settings)
    configuration = ConfigurationPlan(
        spacing=_three(settings["spacing"], across),
        median_shape=_three([max(1, round(size)) for size in settings["median_image_size_in_voxels"]], 1),
        normalisation=_normalisation(plans, settings, description),
        separate_axis_ratio=ratio,
        resampling=resampling,
        average="logits",
        slice_axis=0 if flat else None,
        previous=previous,
        networks={NETWORK: planned},
        reasons={"origin": f"Imported from nnU-Net's plans `{plans.get('plans_name', 'nnUNetPlans')}`, as they are."},
    )
    return Plan(
        dataset=description,
        orientation=_orientation(plans, checkpoint.dataset),
        configurations={checkpoint.configuration: configuration},
    )


def _unknown_parts(plans: Mapping[str, Any], settings: Mapping[str, Any], dataset: Mapping[str, Any]) -> Iterator[Fault]:
    reader = _reader(plans, dataset)
    if reader not in _READERS:
        yield Fault("image_reader_writer", f"`{reader}` is unknown", f"Known are {', '.join(_READERS)}")
    for part, known in _ONE_CHOICE.items():
        named = settings.get(part, plans.get(part, known))
        if named != known:
            yield Fault(part, f"`{named}` is unknown", f"Known is {known}")
    for scheme in settings["normalization_schemes"]:
        if scheme not in _SCHEMES:
            yield Fault("normalization_schemes", f"`{scheme}` is unknown", f"Known are {', '.join(_SCHEMES)}")


def _reader(plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    return str(dataset.get("overwrite_image_reader_writer") or plans.get("image_reader_writer", "SimpleITKIO"))


def _orientation(plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> Orientation:
    z, y, x = plans["transpose_forward"]
    return AxisOrder(axes=(z, y, x), of=_READERS[_reader(plans, dataset)])


def _channel_faults(inputs: int, outputs: int, description: DatasetDescription, has_previous: bool) -> Iterator[Fault]:
    expected = len(description.channels) + (description.cascade_channels if has_previous else 0)
    if inputs != expected:
        yield Fault("weights", f"the network has {inputs} input channels, but the dataset asks for {expected}", REMEDY)
    if outputs != description.output_channels:
        problem = f"the network has {outputs} outputs, but the labels ask for {description.output_channels}"
        yield Fault("weights", problem, REMEDY)


def _normalisation(
    plans: Mapping[str, Any], settings: Mapping[str, Any], description: DatasetDescription
) -> tuple[ChannelNormalisation, ...]:
    measured = plans["foreground_intensity_properties_per_channel"]
    chosen = zip(description.channels, settings["normalization_schemes"], settings["use_mask_for_norm"], strict=True)
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
