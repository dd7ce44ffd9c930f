"""Weights of networks with other channels, labels or kernels: what the adapted network computes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.network import NetworkConfig
from configs.plan import AxisOrder
from configs.training import TrainingConfig, load_training_config
from inference.bundle.nnunet.install import import_nnunet
from se_unet import build_network
from se_unet.weights import save_weights
from tests.inference.bundle.nnunet.results import plans, write_results
from tests.inference.models import LABELS, write_model
from tests.trainers.balls import tiny_plan
from trainers.initial_weights.adapt import adapt_head, adapt_kernel, adapt_stem, turn_kernel
from trainers.initial_weights.initialise import initialise, read_source
from trainers.optimisation.optimiser import make_optimiser, set_learning_rate, trained_parameters

SMOOTH = {"family": "se", "scale_group": {"smallest_sigma": 0.8}}


def network(seed: int, **changes: object) -> nn.Module:
    config = tiny_plan().network("3d_fullres", "baseline").network
    torch.manual_seed(seed)
    return build_network(NetworkConfig.model_validate(config.model_dump() | changes))


@pytest.mark.parametrize(("before", "now"), [(1, 4), (2, 3), (4, 1), (3, 2)])
def test_equal_inputs_give_the_response_of_the_source(before: int, now: int) -> None:
    """Where fewer inputs are left, it is that of the source with the others at zero."""
    kernel = torch.randn(5, before, 3, 3, 3)
    adapted = adapt_stem(kernel, torch.zeros(5, now, 3, 3, 3))
    assert adapted is not None
    image = torch.randn(1, before, 6, 6, 6)
    if now < before:
        image[:, now:] = 0
    again = image[:, torch.arange(now) % before]
    expected = functional.conv3d(image, kernel)
    assert (functional.conv3d(again, adapted[0]) - expected).abs().max() < 1e-4


def test_segmentations_that_a_cascade_sees_are_no_images() -> None:
    """Their inputs come neither from images nor become images, although the numbers of inputs may agree."""
    theirs, fresh = torch.randn(5, 4, 3, 3, 3), torch.zeros(5, 4, 3, 3, 3)
    made, how = adapt_stem(theirs[:, :1], fresh, 1, 1) or (fresh, "")
    assert torch.equal(made[:, :1], theirs[:, :1]) and not made[:, 1:].any() and how == "inputs of the first segmentation fresh"
    made, how = adapt_stem(theirs, fresh, 1, 4) or (fresh, "")
    assert torch.allclose(made, theirs[:, [0] * 4] / 4) and how == "inputs repeated from 1 to 4"
    made, _ = adapt_stem(theirs, fresh, 4, 1) or (fresh, "")
    assert torch.equal(made[:, :1], theirs[:, :1]) and not made[:, 1:].any()
    assert adapt_stem(theirs, fresh, 1, 1) == (theirs, "")
    made, _ = adapt_stem(theirs, torch.zeros(5, 5, 3, 3, 3), 1, 2) or (fresh, "")
    assert torch.allclose(made, torch.cat([theirs[:, [0, 0]] / 2, theirs[:, 1:]], 1)), "as many labels"


def test_labels_are_matched_by_name() -> None:
    theirs, fresh = torch.arange(12.0).reshape(3, 4), torch.zeros(4, 4)
    made, how = adapt_head(theirs, fresh, ("background", "a", "b"), ("background", "b", "c", "a")) or (fresh, "")
    assert torch.equal(made, torch.stack([theirs[0], theirs[2], fresh[0], theirs[1]])) and how == "outputs of background, b, a"
    swapped, _ = adapt_head(theirs, fresh[:3], ("background", "a", "b"), ("background", "b", "a")) or (fresh, "")
    assert torch.equal(swapped, theirs[[0, 2, 1]]), "as many outputs, but in another order"
    alone, how = adapt_head(theirs, fresh, ("background", "a", "b"), ("background", "x", "y", "z")) or (theirs, "")
    assert torch.equal(alone, fresh) and "no label is shared" in how
    assert adapt_head(theirs, fresh, None, ("background", "b", "c", "a")) is None
    assert adapt_head(theirs, fresh[:3], None, ("background", "b", "a")) == (theirs, "")
    assert adapt_head(theirs, torch.zeros(3, 5), ("x", "y", "z"), ("x", "y", "z")) is None


def test_kernels_of_one_and_three_taps() -> None:
    kernel = torch.randn(2, 3, 3, 3, 3)
    flat, _ = adapt_kernel(kernel, torch.zeros(2, 3, 1, 3, 3)) or (kernel, "")
    image = torch.randn(1, 3, 1, 8, 8)
    assert (functional.conv3d(image, flat) - functional.conv3d(image.expand(1, 3, 3, 8, 8), kernel)).abs().max() < 1e-4
    deep, _ = adapt_kernel(flat, kernel * 0) or (kernel, "")
    volume = torch.randn(1, 3, 5, 8, 8)
    assert (functional.conv3d(volume, deep)[:, :, 0] - functional.conv3d(volume[:, :, 1:2], flat)[:, :, 0]).abs().max() < 1e-4
    assert adapt_kernel(kernel, torch.zeros(2, 3, 5, 3, 3)) is None and adapt_kernel(kernel, torch.zeros(4, 3, 1, 3, 3)) is None


def test_kernels_are_turned_with_the_axes_of_images() -> None:
    """An image whose axes are exchanged gives the response with its axes exchanged."""
    kernel, image = torch.randn(2, 3, 1, 3, 3), torch.randn(1, 3, 5, 6, 7)
    theirs, ours = (2, 0, 1), (1, 0, 2)
    expected = functional.conv3d(image.permute(0, 1, *(2 + axis for axis in theirs)), kernel)
    found = functional.conv3d(image.permute(0, 1, *(2 + axis for axis in ours)), turn_kernel(kernel, theirs, ours))
    assert (found.permute(0, 1, 3, 2, 4) - expected.permute(0, 1, 3, 4, 2)).abs().max() < 1e-4
    assert turn_kernel(kernel[:, 0, 0], theirs, ours).shape == (2, 3, 3)


def test_the_axes_of_the_source_are_known(tmp_path: Path) -> None:
    """nnU-Net puts the coarsest axis first; here, axes stay in their order unless the plan is nnU-Net's."""
    results = write_results(tmp_path / "theirs", planned=plans(transpose_forward=[2, 0, 1]))
    (made,) = import_nnunet(results, tmp_path / "ours")
    theirs = next(results.rglob("checkpoint_final.pth"))
    config, name = read_nnunet_config(theirs), "encoder.1.0.0.weight"
    for source in (theirs, made.folder):
        turned, same = build_network(config), build_network(config)
        initialise(turned, str(source))
        initialise(same, str(source), orientation=AxisOrder(axes=(2, 0, 1)))
        assert torch.equal(same.state_dict()[name], read_source(theirs).tensors[name])
        assert torch.equal(turned.state_dict()[name].permute(0, 1, 4, 2, 3), same.state_dict()[name])


@pytest.mark.parametrize("family", [{}, SMOOTH], ids=["baseline", "se"])
def test_other_channels_labels_and_depth_at_once(tmp_path: Path, family: dict[str, object]) -> None:
    source = network(0, **family)
    save_weights(source, tmp_path / "a.safetensors")
    config = source.config.model_dump()
    deeper = {
        "input_channels": 3,
        "features": (*config["features"], 8),
        "strides": (*config["strides"], (2, 2, 2)),
        "kernels": (*config["kernels"], (3, 3, 3)),
        "encoder_blocks": (*config["encoder_blocks"], 1),
        "decoder_blocks": (*config["decoder_blocks"], 1),
    }
    target = network(1, **family, **deeper)
    transfer = initialise(target, str(tmp_path / "a.safetensors"))
    assert list(transfer.adapted) == ["encoder.0.0.0.weight"] and not transfer.misshapen and not transfer.unused
    last = len(config["features"])
    assert all(f".{last}." in f".{name}" or f".{last - 1}." in f".{name}" for name in transfer.missing)
    assert "adapted, inputs repeated from 1 to 3: encoder.0.0.0.weight" in transfer.summary()
    image = torch.rand(1, 1, 16, 16, 16)
    first, again = (net.eval().encoder[0] for net in (source, target))
    with torch.no_grad():
        assert (again(image.expand(1, 3, 16, 16, 16)) - first(image)).abs().max() < 1e-4


def test_names_of_outputs_are_known_in_models(tmp_path: Path) -> None:
    write_model(tmp_path / "ours")
    weights = next((tmp_path / "ours").glob("fold_*/weights_final.safetensors"))
    assert read_source(weights).outputs == ("background", *LABELS.foreground)
    results = write_results(tmp_path / "theirs")
    checkpoint = next(results.rglob("checkpoint_final.pth"))
    assert read_source(checkpoint).outputs == ("background", "a", "b")
    (tmp_path / "lone").mkdir()
    weights.rename(tmp_path / "lone" / "x.safetensors")
    assert read_source(tmp_path / "lone" / "x.safetensors").outputs is None


def test_the_outputs_of_a_network_follow_its_labels(tmp_path: Path) -> None:
    results = write_results(tmp_path / "theirs")
    checkpoint = next(results.rglob("checkpoint_final.pth"))
    config = read_nnunet_config(checkpoint)
    other = DatasetDescription(name="x", channels=("x", "y"), labels={"background": 0, "b": 1, "a": 2})
    target = build_network(config)
    transfer = initialise(target, str(checkpoint), other)
    assert set(transfer.adapted.values()) == {"outputs of background, b, a"}
    theirs = read_source(checkpoint).tensors["heads.0.weight"]
    assert torch.equal(target.state_dict()["heads.0.weight"], theirs[[0, 2, 1]])


def read_nnunet_config(path: Path) -> NetworkConfig:
    from se_unet.nnunet.checkpoint import read_nnunet_checkpoint

    return read_nnunet_checkpoint(path).network


def steps(net: nn.Module, config: TrainingConfig) -> dict[str, Tensor]:
    """How much each parameter has changed after two steps."""
    before = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}
    optimiser = make_optimiser(trained_parameters(net, config), config)
    for _ in range(2):
        set_learning_rate(optimiser, 0.1)
        optimiser.zero_grad()
        scores = net.train()(torch.ones(1, 1, 16, 16, 16))
        sum((one**2).sum() + one.sum() for one in scores).backward()
        optimiser.step()
    return {name: (tensor.detach() - before[name]).abs().max() for name, tensor in net.named_parameters()}


def test_frozen_parts_stay(tmp_path: Path) -> None:
    moved = steps(network(0), TrainingConfig(freeze=("encoder",), momentum=0, weight_decay=0))
    assert all(float(change) == 0 for name, change in moved.items() if name.startswith("encoder."))
    assert any(float(change) > 0 for name, change in moved.items() if name.startswith("decoder."))
    with pytest.raises(InputError, match="freeze=heads: the network has no heads"):
        trained_parameters(nn.Linear(2, 2), TrainingConfig(freeze=("heads",)))
    with pytest.raises(InputError, match="nothing would be left to train"):
        trained_parameters(network(0), TrainingConfig(freeze=("encoder", "decoder", "heads")))


def test_the_encoder_has_its_share_of_the_rate() -> None:
    optimiser = make_optimiser(trained_parameters(network(0), TrainingConfig(encoder_rate=0.25)), TrainingConfig())
    set_learning_rate(optimiser, 0.4)
    assert [group["lr"] for group in optimiser.param_groups] == [0.4, pytest.approx(0.1)]
    alone = make_optimiser(trained_parameters(network(0), TrainingConfig()), TrainingConfig())
    assert len(alone.param_groups) == 1 and load_training_config("finetune").optimiser == "adamw"
