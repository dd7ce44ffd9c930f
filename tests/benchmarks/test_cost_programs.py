"""The programs that measure cost and equivariance: what their tables say, and that an ordinary convolution fails."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.cost import cost
from benchmarks.demo.phantoms import write_phantoms
from benchmarks.sizes import equivariance
from configs.files import read_json
from inference.evaluation.equivariance import case_errors
from se_unet.equivariance import PlaneWaves

ROOT = Path(__file__).parents[2]


def row(network: str, step: float, voxels: int, memory: float | None) -> dict:
    voxel = 1e6 * step / voxels
    return {
        "network": network, "parameters": 100, "multiply_adds_per_voxel": 10.0, "step_s": step, "step_us_per_voxel": voxel,
        "step_ratio": step, "step_memory_mb": memory, "prediction_memory_mb": memory, "prediction_ratio": 2.0,
    }  # fmt: skip


def test_ratios_are_to_the_baseline_also_where_patches_differ() -> None:
    rows = [row("baseline", 1.0, 1000, 20.0), row("se", 3.0, 2000, 30.0)]
    cost.add_ratios(rows)
    assert rows[1]["step_voxel_ratio"] == pytest.approx(1.5) and rows[1]["step_memory_ratio"] == 1.5
    assert rows[0]["step_voxel_ratio"] == rows[0]["parameters_ratio"] == 1


def test_memory_that_is_not_told_is_left_out(tmp_path: Path) -> None:
    rows = [row("baseline", 1.0, 1000, None), row("se", 3.0, 1000, None)]
    cost.add_ratios(rows)
    assert rows[1]["step_memory_ratio"] is None
    cost.draw(rows, tmp_path / "cost.svg")
    assert "training step" in (tmp_path / "cost.svg").read_text() and "memory" not in (tmp_path / "cost.svg").read_text()


def test_resident_memory_grows_with_what_is_held() -> None:
    """In a process of its own: one that keeps freed memory may hold the array already."""
    program = "from benchmarks.common.rounds import resident_bytes as now; before = now(); held = bytearray(2**26); print(*before, *now())"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    if "None" in told:
        pytest.skip("this system does not tell")
    before, _, after, most = map(int, told)
    assert most >= after > before + 2**25


@pytest.mark.slow
@pytest.mark.thorough
def test_cost_of_planned_networks(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "Tiny", training=2, unseen=0, side=24.0)
    words = ["--size", "small", "--gpu-memory", "0.05", "--batch", "1", "--rounds", "1", "--num-scales", "2", "--device", "cpu"]
    assert cost.main([str(tmp_path / "Tiny"), *words, "-o", str(tmp_path / "cost.json")]) == 0
    rows = {one["network"]: one for one in read_json(tmp_path / "cost.json")["rows"]}
    assert list(rows) == ["baseline", "se", "se, S = 2"] and rows["se, S = 2"]["scales"] == 2
    assert rows["baseline"]["step_ratio"] == rows["baseline"]["prediction_ratio"] == 1
    assert all(one["step_s"] > 0 and one["parameters"] > 0 and one["prediction_us_per_voxel"] > 0 for one in rows.values())
    assert (tmp_path / "cost.csv").is_file() and (tmp_path / "cost.svg").is_file()


def test_layers_are_equivariant_and_an_ordinary_convolution_is_not() -> None:
    errors = {name: equivariance.layer_error(name, 0.9, seed=0) for name in equivariance.LAYERS}
    assert max(errors["lifting"], errors["group convolution"]) < 1e-3 < errors["ordinary convolution"]


def test_mean_over_sizes_makes_a_network_more_equivariant() -> None:
    generator = torch.Generator().manual_seed(0)
    image = PlaneWaves(1, 3.0, generator).sample(32, 16, 1.0)[None]
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv3d(4, 2, 5, padding=2)).requires_grad_(False)
    assert torch.allclose(equivariance.mean_over_sizes(layers, [1.0], (4, 4, 4), image), layers(image))
    means = {
        number: partial(equivariance.mean_over_sizes, layers, [1.25 ** (k - number // 2) for k in range(number)], (4, 4, 4))
        for number in (1, 5)
    }
    single, several = (
        case_errors(means[number], [(image[0], (16, 16, 16))], (32, 32, 32), (16, 16, 16), (0.8, 1.25)) for number in means
    )
    assert sum(several) < 0.8 * sum(single)


def test_errors_on_images_and_fields_stand_apart(tmp_path: Path) -> None:
    key = {"kind": "layer", "name": "any", "settings": ""}
    rows = [key | {"on": on, "mean": 0.1, "errors": {"0.8": 0.1, "1.25": 0.2}} for on in ("fields", "images")]
    equivariance.draw(rows, tmp_path / "figure.svg")
    figure = (tmp_path / "figure.svg").read_text()
    assert "layer, fields" in figure and "layer, images" in figure


def test_models_of_other_seeds_are_one_row_and_those_of_several_scales_another() -> None:
    key = {"kind": equivariance.TRAINED, "on": "images", "mean": 0.0}
    models = [("D, se", "fold 0, a", 0.1), ("D, se", "fold 0, b", 0.3), ("D, se, 4 scales", "fold 0, c", 0.1)]
    rows = [key | {"name": name, "settings": settings, "errors": {"0.8": error}} for name, settings, error in models]
    one, several = equivariance.pooled(rows)
    assert (one["name"], one["models"], one["mean"]) == ("se", 2, pytest.approx(0.2))
    assert (several["name"], several["models"]) == ("se, 4 scales", 1)


def test_what_was_measured_is_not_measured_again_and_other_settings_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def layer_error(name: str, factor: float, seed: int) -> float:
        asked.append(factor)
        return factor / 10

    monkeypatch.setattr(equivariance, "layer_error", layer_error)
    monkeypatch.setattr(equivariance, "untrained", lambda features: {})
    output = tmp_path / "errors.json"
    for factor in ("0.8", "0.9", "0.8"):
        assert equivariance.main(["--factors", factor, "--weights", "1", "-o", str(output)]) == 0
    assert asked == [0.8] * len(equivariance.LAYERS) + [0.9] * len(equivariance.LAYERS)
    assert len(read_json(output)["rows"]) == 2 * len(equivariance.LAYERS)
    assert (tmp_path / "errors.csv").read_text().startswith("kind,name,on,settings,mean,0.8\n")
