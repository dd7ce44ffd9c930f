"""Make models with nnU-Net and predict with them; `benchmarks.nnunet.import_parity` starts it with a Python that has nnU-Net.

It imports nothing of this project.

    python peer_models.py JOBS.json

JOBS is a list of objects with the entries of `import_parity.job_of`. For each, nnU-Net plans the raw dataset, its trainer initialises each
configuration's network for each fold from a seed of its own and saves it as a finished training, and nnU-Net's own code predicts the
images, with sums in float32 where it would take half precision. The environment variables nnUNet_raw, nnUNet_preprocessed and
nnUNet_results name folders to work in.
"""

import json
import os
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any


def main() -> None:
    """Make and predict every job."""
    # nnU-Net imports all of its trainers to find one; those of Primus need a torchvision built for this PyTorch, and none of them is used.
    sys.modules["nnunetv2.training.nnUNetTrainer.primus.primus_trainers"] = ModuleType("primus_trainers")
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        place = make(job)
        for mirror in job["mirror"]:
            previous = None
            for configuration in job["configurations"]:
                output = Path(job["output"]) / f"{configuration}_{'mirrored' if mirror else 'plain'}"
                predict(place, configuration, job, output, mirror, previous)
                previous = output
        print(f"nnU-Net predicted {job['name']}", file=sys.stderr, flush=True)


def folder_of(job: dict[str, Any], configuration: str) -> Path:
    """Return the folder of a model."""
    return Path(os.environ["nnUNet_results"]) / job["dataset"] / f"{job['trainer']}__{job['plans']}__{configuration}"  # noqa: SIM112


def make(job: dict[str, Any]) -> Path:
    """Plan, and save networks with their initial weights as finished trainings."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # type: ignore[import-not-found]
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class  # type: ignore[import-not-found]

    import nnunetv2  # type: ignore[import-not-found]  # isort: skip

    plans, dataset = plan(job)
    prepared = Path(os.environ["nnUNet_preprocessed"]) / job["dataset"]  # noqa: SIM112
    package = str(Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer")
    trainer_class = recursive_find_python_class(package, job["trainer"], "nnunetv2.training.nnUNetTrainer") or nnUNetTrainer
    for settings in plans["configurations"].values():
        if "data_identifier" in settings:
            (prepared / settings["data_identifier"]).mkdir(exist_ok=True)
            (prepared / settings["data_identifier"] / "none.b2nd").touch()  # the trainer looks there for the kind of files
    for configuration in job["configurations"]:
        folder = folder_of(job, configuration)
        for number, fold in enumerate(job["folds"]):
            torch.manual_seed(job["seed"] + number)
            given = deepcopy(plans) | {"continue_training": False}
            trainer = trainer_class(given, configuration, fold, dataset, device=torch.device("cpu"))
            trainer.initialize()
            train(trainer, job)
            # Its data loaders would set the axes of mirroring, which some trainers change.
            axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[3]
            trainer.inference_allowed_mirroring_axes = axes
            (folder / f"fold_{fold}" / "validation").mkdir(parents=True, exist_ok=True)
            (folder / f"fold_{fold}" / "validation" / "summary.json").write_text("{}")
            (folder / f"fold_{fold}" / "progress.png").touch()
            trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
        for file, content in (("plans.json", plans), ("dataset.json", dataset), ("dataset_fingerprint.json", {})):
            (folder / file).write_text(json.dumps(content))
    return folder_of(job, job["configurations"][0])


def train(trainer: Any, job: dict[str, Any]) -> None:
    """Take some steps on whole training cases, cut to the patch, so that labels have other margins than those of initial weights."""
    import torch
    from torch.nn.functional import cross_entropy

    if not job["steps"]:
        return
    raw = Path(os.environ["nnUNet_raw"]) / job["dataset"]  # noqa: SIM112
    label = sorted((raw / "labelsTr").iterdir())[0]
    images = sorted((raw / "imagesTr").glob(f"{label.name.split('.')[0]}_*"))
    settings = trainer.configuration_manager
    preprocessor = settings.preprocessor_class(verbose=False)
    data, labels, _ = preprocessor.run_case(
        list(map(str, images)), str(label), trainer.plans_manager, settings, trainer.dataset_json
    )
    optimiser = torch.optim.Adam(trainer.network.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(job["seed"])
    for _ in range(job["steps"]):
        place = [slice(None)]
        for size, patch in zip(data.shape[1:], settings.patch_size, strict=True):
            start = int(torch.randint(max(1, size - patch + 1), (1,), generator=generator))
            place.append(slice(start, start + patch))
        image, target = (torch.from_numpy(array[tuple(place)].copy()) for array in (data, labels))
        sizes = zip(image.shape[:0:-1], settings.patch_size[::-1], strict=True)
        padding = [part for size, patch in sizes for part in (0, max(0, patch - size))]
        image, target = torch.nn.functional.pad(image, padding), torch.nn.functional.pad(target.clamp(min=0), padding)
        scores = trainer.network(image[None])
        loss = cross_entropy(scores[0] if isinstance(scores, (list, tuple)) else scores, target.long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def plan(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return nnU-Net's plans for a raw dataset, made smaller, and the dataset's description."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (  # type: ignore[import-not-found]
        extract_fingerprints,
        plan_experiments,
    )

    number = int(job["dataset"][7:10])
    extract_fingerprints([number], num_processes=1, check_dataset_integrity=False, verbose=False)
    plan_experiments([number], job["planner"])
    folder = Path(os.environ["nnUNet_preprocessed"]) / job["dataset"]  # noqa: SIM112
    plans = json.loads((folder / f"{job['plans']}.json").read_text())
    dataset = json.loads((folder / "dataset.json").read_text())
    if "3d_lowres" in job["configurations"] and "3d_lowres" not in plans["configurations"]:
        add_cascade(plans)
    if job["reader"]:
        plans["image_reader_writer"] = job["reader"]
    for configuration in plans["configurations"].values():
        if job["shrink"] and "architecture" in configuration:
            shrink(configuration)
        if job["old_format"] and "architecture" in configuration:
            as_before(configuration)
    return plans, dataset


def add_cascade(plans: dict[str, Any]) -> None:
    """Add the configurations that nnU-Net plans for large images alone."""
    full = plans["configurations"]["3d_fullres"]
    low = deepcopy(full) | {"spacing": [1.6 * size for size in full["spacing"]], "next_stage": "3d_cascade_fullres"}
    low["data_identifier"] = f"{plans['plans_name']}_3d_lowres"
    plans["configurations"]["3d_lowres"] = low
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}


def shrink(configuration: dict[str, Any]) -> None:
    """Leave at most 4, 8, ... features and patches of half the size, so that images have several tiles."""
    parts = configuration["architecture"]["arch_kwargs"]
    parts["features_per_stage"] = [min(4 * 2**stage, 32) for stage in range(parts["n_stages"])]
    totals = [1] * len(configuration["patch_size"])
    for strides in parts["strides"]:
        totals = [total * stride for total, stride in zip(totals, strides, strict=True)]
    halves = zip(configuration["patch_size"], totals, strict=True)
    configuration["patch_size"] = [max(total * 2, size // 2 // total * total) for size, total in halves]


def as_before(configuration: dict[str, Any]) -> None:
    """State a plain network as nnU-Net did before version 2.4."""
    parts = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": parts["features_per_stage"][0],
        "unet_max_num_features": max(parts["features_per_stage"]),
        "n_conv_per_stage_encoder": parts["n_conv_per_stage"],
        "n_conv_per_stage_decoder": parts["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [3] * len(configuration["patch_size"]),
        "pool_op_kernel_sizes": parts["strides"],
        "conv_kernel_sizes": parts["kernel_sizes"],
    }


def predict(place: Path, configuration: str, job: dict[str, Any], output: Path, mirror: bool, previous: Path | None) -> None:
    """Predict with nnU-Net's own code: labels and probabilities."""
    import nnunetv2.inference.predict_from_raw_data as module  # type: ignore[import-not-found]
    import torch

    with_float32_sums(module)
    folder = folder_of(job, configuration)
    settings = json.loads((folder / "plans.json").read_text())["configurations"][configuration]
    is_second = "previous_stage" in settings
    output.mkdir(parents=True, exist_ok=True)
    predictor = module.nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), verbose=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), tuple(job["folds"]), "checkpoint_final.pth")
    predictor.predict_from_files_sequential(
        job["images"], str(output), True, True, str(previous) if is_second and previous else None
    )


def with_float32_sums(module: Any) -> None:
    """Let nnU-Net add up tiles in float32, with weights in float32; in half precision, the sums carry its rounding."""
    if hasattr(module.compute_gaussian, "of_float32"):
        return
    zeros, gaussian = module.torch.zeros, module.compute_gaussian

    class Torch:
        """torch, but for half precision."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sys.modules["torch"], name)

        @staticmethod
        def zeros(*sizes: Any, **options: Any) -> Any:
            import torch

            if options.get("dtype") == torch.half:
                options["dtype"] = torch.float32
            return zeros(*sizes, **options)

    def exact(*sizes: Any, **options: Any) -> Any:
        import torch

        return gaussian(*sizes, **{**options, "dtype": torch.float32})

    exact.of_float32, exact.cache_clear = True, gaussian.cache_clear  # type: ignore[attr-defined]
    module.torch, module.compute_gaussian = Torch(), exact


if __name__ == "__main__":
    main()
