"""Presets, their overrides, and the faults of both."""

from pathlib import Path

import pytest

from configs.errors import InputError
from configs.files import write_json, write_text
from configs.training import TrainingConfig, load_training_config, preset_names


def test_every_preset_can_be_loaded() -> None:
    assert {"default", "quick"} <= set(preset_names())
    for name in preset_names():
        assert load_training_config(name).steps >= 1


def test_the_default_preset_is_the_default() -> None:
    assert load_training_config("default") == TrainingConfig()


def test_overrides_win_over_the_preset() -> None:
    quick = load_training_config("quick")
    changed = load_training_config("quick", {"epochs": 3, "seed": 7})
    assert changed == quick.model_copy(update={"epochs": 3, "seed": 7})
    assert changed.steps == 3 * quick.iterations


def test_file_is_a_preset(tmp_path: Path) -> None:
    write_json(tmp_path / "mine.json", {"optimiser": "adamw"})
    assert load_training_config(str(tmp_path / "mine.json")) == TrainingConfig(optimiser="adamw")


def test_json_round_trip(tmp_path: Path) -> None:
    config = load_training_config("quick", {"batch_size": None, "learning_rate": 0.1 + 0.2})
    config.write(tmp_path / "training.json")
    assert TrainingConfig.read(tmp_path / "training.json") == config


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        load_training_config("default", {"epochs": 0, "epoch": 5, "optimiser": "lion", "learning_rate": "fast"})
    told = [str(fault) for fault in caught.value.faults]
    assert sorted(fault.where for fault in caught.value.faults) == [
        "setting `epoch`",
        "setting `epochs`",
        "setting `learning_rate`",
        "setting `optimiser`",
    ]
    assert any("(received 'lion')" in line for line in told)
    assert all("The settings are epochs, iterations," in line for line in told)


def test_unknown_preset_is_told_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"preset `slow`: unknown preset\. Choose one of adamw, default, finetune, quick"):
        load_training_config("slow")


def test_missing_file_and_other_json_are_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file does not exist"):
        load_training_config(str(tmp_path / "none.json"))
    write_text(tmp_path / "list.json", "[1]")
    with pytest.raises(InputError, match="not a JSON object"):
        load_training_config(str(tmp_path / "list.json"))
