"""A tiny dataset, made without the planner: a bright ball and a dark one in noise."""

from pathlib import Path

import numpy as np

from configs.dataset import DatasetDescription
from configs.network import NetworkConfig
from configs.plan import ChannelNormalisation, ConfigurationPlan, NetworkPlan, Plan, SizeRange
from preprocessing.dataset.raw import CaseFiles
from preprocessing.formats.images import write_labels, write_scalar
from preprocessing.geometry.affine import Geometry
from preprocessing.locations import find_class_locations
from preprocessing.pipeline import preprocess
from preprocessing.run import staleness_key
from preprocessing.store import CaseStore

DESCRIPTION = DatasetDescription(name="Balls", channels=("MR",), labels={"background": 0, "bright": 2, "dark": 5})
SPACING = (2.0, 1.0, 1.0)
CASES = 6


def tiny_plan() -> Plan:
    """Patches of 8 voxels, two or three stages of two channels."""
    network = NetworkConfig(
        family="plain",
        input_channels=1,
        output_channels=3,
        features=(2, 4, 4),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernels=((3, 3, 3),) * 3,
        encoder_blocks=(1, 1, 1),
        decoder_blocks=(1, 1),
    )
    networks = {"baseline": NetworkPlan(network=network, patch_size=(8, 8, 8), batch_size=2)}
    normalisation = (ChannelNormalisation(channel="MR", scheme="zscore"),)
    configuration = ConfigurationPlan(
        spacing=(1.0, 1.0, 1.0), median_shape=(16, 14, 12), normalisation=normalisation, networks=networks
    )
    return Plan(dataset=DESCRIPTION, sizes=SizeRange(low=1, high=1), configurations={"3d_fullres": configuration})


def write_work(folder: Path) -> Path:
    """A WORK folder with one planned and prepared dataset, `Balls`; its files lie beside it."""
    plan = tiny_plan()
    plan.write(folder / "Balls" / "plan.json")
    store = CaseStore(folder / "Balls" / "preprocessed" / "3d_fullres")
    for index in range(CASES):
        write_case(folder.parent / "raw", store, f"case_{index}", plan, np.random.default_rng(index))
    return folder


def write_case(raw: Path, store: CaseStore, identifier: str, plan: Plan, random: np.random.Generator) -> None:
    """Image and label files of one case, and the prepared case."""
    shape = (8, 14, 12)
    geometry = Geometry.from_spacing(shape, SPACING)
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.int16)
    labels[(2 * (z - 4)) ** 2 + (y - 4) ** 2 + (x - 5) ** 2 < 9] = 1
    labels[(2 * (z - 4)) ** 2 + (y - 10) ** 2 + (x - 6) ** 2 < 8] = 2
    image = (random.normal(10, 0.5, shape) + np.array([0, 4, -4])[labels]).astype(np.float32)
    image_path, label_path = raw / "imagesTr" / f"{identifier}_0000.nii.gz", raw / "labelsTr" / f"{identifier}.nii.gz"
    write_scalar(image_path, image, geometry)
    write_labels(label_path, np.array([0, 2, 5])[labels], geometry)
    prepared = preprocess(image[None], labels, geometry, plan.configuration("3d_fullres"))
    locations = find_class_locations(prepared.labels, identifier)
    key = staleness_key(CaseFiles((image_path,), label_path), plan, "3d_fullres")
    store.write(identifier, prepared, locations, key=key, images=(str(image_path),), labels=str(label_path))
