"""Typed values that all packages share: dataset, fingerprint, network, plan, training settings, folders, and errors."""

from typing import TYPE_CHECKING

from configs.named_parts import import_on_use

if TYPE_CHECKING:
    from configs.dataset import DatasetDescription
    from configs.errors import Fault, InputError
    from configs.fingerprint import Fingerprint
    from configs.network import NetworkConfig, ScaleGroup
    from configs.plan import ChannelNormalisation, ConfigurationPlan, NetworkPlan, Plan
    from configs.progress import Progress
    from configs.training import TrainingConfig, load_training_config

__all__ = [
    "ChannelNormalisation",
    "ConfigurationPlan",
    "DatasetDescription",
    "Fault",
    "Fingerprint",
    "InputError",
    "NetworkConfig",
    "NetworkPlan",
    "Plan",
    "Progress",
    "ScaleGroup",
    "TrainingConfig",
    "load_training_config",
]

__getattr__ = import_on_use(
    __name__,
    {
        "ChannelNormalisation": "configs.plan",
        "ConfigurationPlan": "configs.plan",
        "DatasetDescription": "configs.dataset",
        "Fault": "configs.errors",
        "Fingerprint": "configs.fingerprint",
        "InputError": "configs.errors",
        "NetworkConfig": "configs.network",
        "NetworkPlan": "configs.plan",
        "Plan": "configs.plan",
        "Progress": "configs.progress",
        "ScaleGroup": "configs.network",
        "TrainingConfig": "configs.training",
        "load_training_config": "configs.training",
    },
)
