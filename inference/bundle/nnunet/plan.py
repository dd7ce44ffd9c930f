"""The plan of a trained model of nnU-Net in our terms."""

from collections.abc import Iterator
from pathlib import Path

from configs.dataset import DatasetDescription
from configs.errors import Fault, raise_faults
from configs.folders import dataset_name
from configs.plan import Plan
from inference.bundle.nnunet.source import REMEDY
from preprocessing.dataset.description import read_description
from se_unet.nnunet.checkpoint import NNUNetCheckpoint
from se_unet.nnunet.plan import configuration_of, orientation_of, understood


def plan_of(checkpoint: NNUNetCheckpoint, where: str) -> Plan:
    """Return the plan of one configuration with one network, whose name is `nnunet`.

    Raises:
        InputError: nnU-Net's plans state something that this software does not do, or are damaged; all faults are listed.
    """
    with understood(where):
        plans, name = checkpoint.plans, checkpoint.configuration
        folder = Path(dataset_name(Path(str(plans.get("dataset_name", "nnU-Net")))))
        description = read_description(folder, {"file_ending": ".nii.gz", **checkpoint.dataset})
        origin = f"A network that nnU-Net trained with `{checkpoint.trainer}`."
        axes = checkpoint.mirror_axes or ()
        configuration = configuration_of(plans, name, description.channels, checkpoint.network, axes, origin)
        raise_faults(_channel_faults(checkpoint, description, configuration.previous is not None))
        orientation = orientation_of(plans)
        return Plan(dataset=description, orientation=orientation, configurations={name: configuration})


def _channel_faults(checkpoint: NNUNetCheckpoint, description: DatasetDescription, has_previous: bool) -> Iterator[Fault]:
    inputs, outputs = checkpoint.network.input_channels, checkpoint.network.output_channels
    expected = len(description.channels) + (description.cascade_channels if has_previous else 0)
    if inputs != expected:
        yield Fault("weights", f"the network has {inputs} input channels, but the dataset asks for {expected}", REMEDY)
    if outputs != description.output_channels:
        problem = f"the network has {outputs} outputs, but the labels ask for {description.output_channels}"
        yield Fault("weights", problem, REMEDY)
