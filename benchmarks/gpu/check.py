"""Check a GPU: real kernels against the CPU, memory, speed, and a real training. Needs no network.

    python -m benchmarks.gpu.check                        # all parts that have no result yet
    python -m benchmarks.gpu.check labels peaks           # some of them, again
    python -m benchmarks.gpu.check --device cpu           # the same program without a GPU; its times mean nothing

Each part takes at most 8 minutes and leaves a JSON file in the folder, which can be carried to another machine where the others run.
`gpu.json` and `gpu.md` collect what is there. The exit code is 1 if a statement does not hold or a part failed.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.rounds import describe_device
from benchmarks.common.tables import markdown
from benchmarks.gpu import agreement, kernels, memory, speed, training
from benchmarks.gpu.setting import Result, Setting, SkippedError
from configs.files import read_json, write_json, write_text
from inference.device import choose_device

PARTS: dict[str, Callable[[Setting], Result]] = {
    "scores": agreement.scores_and_gradients,
    "labels": agreement.labels,
    "kernels": kernels.kernels,
    "peaks": memory.peaks,
    "running_out": memory.running_out,
    "steps": speed.steps,
    "tiles": speed.tiles,
    "two_processes": training.two_processes,
    "hippocampus": training.hippocampus,
}


def main(words: list[str] | None = None) -> int:
    """Run the wanted parts and collect all results. Returns the exit code."""
    given = _parser().parse_args(words)
    device = choose_device(given.device)
    setting = Setting(device, device.type == "cuda" and not given.stand_in, given.data, given.folder)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.parts or [name for name in PARTS if not _file(given.folder, name).is_file()]:
        write_json(_file(given.folder, name), perform(name, setting))
    found = {name: read_json(_file(given.folder, name)) for name in PARTS if _file(given.folder, name).is_file()}
    write_json(given.folder / "gpu.json", found)
    write_text(given.folder / "gpu.md", page(found))
    print((given.folder / "gpu.md").read_text(encoding="utf-8"))
    return int(any(one["state"] == "failed" or not all(row["holds"] for row in one["checks"]) for one in found.values()))


def perform(name: str, setting: Setting) -> dict[str, Any]:
    """Run one part. An error is its result: the others still run."""
    about = {
        "device": f"{setting.device}, {describe_device(setting.device)}",
        "torch": torch.__version__,
        "real": setting.is_real,
    }
    start = time.perf_counter()
    try:
        found = PARTS[name](setting)
        content: dict[str, Any] = {"state": "done", "checks": found.checks, "figures": found.figures}
    except SkippedError as reason:
        content = {"state": "skipped", "why": str(reason), "checks": [], "figures": []}
    except Exception:  # noqa: BLE001  # whatever a new kind of machine does
        content = {"state": "failed", "why": traceback.format_exc()[-3000:], "checks": [], "figures": []}
    return about | content | {"seconds": round(time.perf_counter() - start, 1)}


def page(found: dict[str, Any]) -> str:
    """Return all results as a page."""
    lines = ["# GPU check", ""]
    for name, one in found.items():
        note = "" if one["real"] else " Not a real GPU: times mean nothing."
        lines += [f"## {name}: {one['state']}", "", f"{one['device']}, PyTorch {one['torch']}, {one['seconds']:.0f} s.{note}", ""]
        lines += [f"    {line}" for line in one.get("why", "").splitlines()] + [""] * ("why" in one)
        if one["checks"]:
            rows = [row | {"holds": "yes" if row["holds"] else "NO"} for row in one["checks"]]
            lines += [markdown(rows, {"check": "{}", "holds": "{}", "value": "{:.3g}", "limit": "{:.3g}"}), ""]
        for columns in dict.fromkeys(tuple(row) for row in one["figures"]):
            rows = [row for row in one["figures"] if tuple(row) == columns]
            forms = {name: "{:.3g}" if isinstance(rows[0][name], float) else "{}" for name in columns}
            lines += [markdown(rows, forms), ""]
    return "\n".join(lines)


def _file(folder: Path, name: str) -> Path:
    return folder / f"part_{name}.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"parts to run: {', '.join(PARTS)}")
    parser.add_argument("--device", help="device to check; default: the first CUDA device, or else the CPU")
    parser.add_argument("--folder", type=Path, default=Path("gpu_output"), help="folder of the results; default: %(default)s")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/Dataset004_Hippocampus"), help="folder of hippocampus in raw layout"
    )
    parser.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)  # for the tests
    return parser


if __name__ == "__main__":
    sys.exit(main())
