"""Starting from another model: what fits is taken, the rest is named."""

from pathlib import Path

import pytest
import torch
from torch import nn

from configs.errors import InputError
from configs.network import NetworkConfig
from configs.training import TrainingConfig
from inference.bundle.export import export_bundle
from se_unet import build_network
from se_unet.weights import save_weights
from tests.inference.models import write_model
from tests.trainers.balls import tiny_plan
from trainers import train
from trainers.initial_weights.initialise import find_initial_weights, initialise
from trainers.initial_weights.rescale import rescale_before_norms, sizes_before_norms
from trainers.monitoring.history import History


def network(seed: int, **changes: object) -> nn.Module:
    config = tiny_plan().network("3d_fullres", "baseline").network
    torch.manual_seed(seed)
    return build_network(NetworkConfig.model_validate(config.model_dump() | changes))


def test_layers_that_fit_are_taken_and_others_named(tmp_path: Path) -> None:
    source, target = network(0, output_channels=2), network(1)
    save_weights(source, tmp_path / "weights_final.safetensors")
    fresh = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    transfer = initialise(target, str(tmp_path))
    heads = ("heads.0.weight", "heads.0.bias", "heads.1.weight", "heads.1.bias")
    assert (transfer.misshapen, transfer.missing, transfer.unused) == (heads, (), ())
    assert "fresh, of another shape: heads.0.weight" in transfer.summary()
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, fresh[name] if name in heads else source.state_dict()[name])


def test_missing_and_unused_layers_are_named(tmp_path: Path) -> None:
    save_weights(network(0, encoder_blocks=(2, 1, 1)), tmp_path / "a.safetensors")
    transfer = initialise(network(1), str(tmp_path / "a.safetensors"))
    assert transfer.unused == tuple(f"encoder.0.1.{name}" for name in ("0.bias", "0.weight", "1.bias", "1.weight"))
    save_weights(network(0), tmp_path / "b.safetensors")
    transfer = initialise(network(1, encoder_blocks=(2, 1, 1)), str(tmp_path / "b.safetensors"))
    assert set(transfer.missing) == {f"encoder.0.1.{name}" for name in ("0.bias", "0.weight", "1.bias", "1.weight")}


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 2), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="none of the convolutions among the 2 tensors fits"):
        initialise(network(0), str(tmp_path / "other.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="weights cannot be read"):
        initialise(network(0), str(tmp_path / "broken.safetensors"))


@pytest.mark.parametrize("changes", [{"family": "se", "scale_group": {"smallest_sigma": 0.8}}, {"features": (16, 32, 64)}])
def test_norms_and_offsets_alone_are_no_start(tmp_path: Path, changes: dict[str, object]) -> None:
    """Networks of the other family, or of other features, share names and shapes of small tensors."""
    save_weights(network(0), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"none of the convolutions among the \d+ tensors fits"):
        initialise(network(1, **changes), str(tmp_path / "a.safetensors"))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    source.state_dict()["decoder.0.0.0.weight"][0] = torch.nan
    save_weights(source, tmp_path / "a.safetensors")
    before = [parameter.clone() for parameter in target.parameters()]
    with pytest.raises(InputError, match=r"numbers in decoder\.0\.0\.0\.weight are not finite"):
        initialise(target, str(tmp_path / "a.safetensors"))
    assert all(map(torch.equal, before, target.parameters()))


def test_files_from_which_weights_must_be_taken_first(tmp_path: Path) -> None:
    torch.save({"network": network(0).state_dict()}, tmp_path / "checkpoint_latest.pt")
    export_bundle(write_model(tmp_path / "model"), tmp_path / "bundle.zip")
    for name, remedy in (("checkpoint_latest.pt", r"Give .*weights_final\.safetensors, "), ("bundle.zip", "se_bundle import")):
        with pytest.raises(InputError, match=remedy):
            initialise(network(0), str(tmp_path / name))


def test_where_weights_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights found"):
        find_initial_weights(str(tmp_path))
    for fold in (0, 1):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}" / "weights_final.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="several folds"):
        find_initial_weights(str(tmp_path))
    assert find_initial_weights(str(tmp_path / "fold_1")) == tmp_path / "fold_1" / "weights_final.safetensors"


def test_a_training_starts_from_them_and_resumes_without(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))
    source = network(5)
    save_weights(source, tmp_path / "start.safetensors")
    tiny_steps = {"epochs": 1, "learning_rate": 1e-9, "init_weights": str(tmp_path / "start.safetensors")}
    changed = config.model_copy(update=tiny_steps)
    fold = train("Balls", work, "baseline", config=changed, device="cpu")
    assert f"starting from {tmp_path / 'start.safetensors'}" in caplog.text
    trained = torch.load(fold / "checkpoint_latest.pt", weights_only=True)["network"]
    rescale_before_norms(source, sizes_before_norms(network(config.seed)))
    assert all(torch.allclose(trained[name], tensor, atol=1e-6) for name, tensor in source.state_dict().items())
    (tmp_path / "start.safetensors").unlink()
    train("Balls", work, "baseline", config=changed.model_copy(update={"epochs": 2}), device="cpu", resume=True)
