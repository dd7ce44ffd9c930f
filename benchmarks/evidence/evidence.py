"""Run all comparisons of the evidence: few cases, sizes that vary, cost, equivariance.

    python -m benchmarks.evidence.evidence DATASET OUTPUT      # a reduced set: one seed, 200 steps, few test cases; half an hour
    python -m benchmarks.evidence.evidence DATASET OUTPUT --whole --peer PEER/bin/python        # everything (days on a CPU)

Each comparison ends in a JSON, a CSV and an SVG under OUTPUT. A second run continues where the
first one stopped.
"""

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the programs until one fails. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder of the raw dataset")
    parser.add_argument("output", type=Path)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--peer", type=Path, help="path to the Python of an environment with nnU-Net")
    arguments = parser.parse_args()
    for words in programs(arguments.dataset, arguments.output, arguments.whole, arguments.peer):
        print(f"python -m benchmarks.{' '.join(words)}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]], check=False).returncode
        if code:
            return code
    return 0


def programs(dataset: Path, output: Path, whole: bool, peer: Path | None) -> list[list[str]]:
    """Return the names of the programs, each with its arguments."""
    places = {name: [str(dataset), str(output / "work"), str(output / name)] for name in ("few_cases", "scale_robustness")}
    results = {name: ["--csv", str(output / f"{name}.csv"), "--figure", str(output / f"{name}.svg")] for name in places}
    networks = ["--networks", "baseline", "se", *(["se4"] if whole else [])]
    small = [] if whole else ["--seeds", "0", "--steps", "200"]
    few = [] if whole else ["--sizes", "5", "10", "--most", "10"]
    sizes = [] if whole else ["--cases", "10", "--factors", "0.6", "1", "1.6", "--most", "5"]
    augmented: list[list[str]] = [[], ["--one-size"]] if whole else [[]]
    found = [
        ["evidence.few_cases", *places["few_cases"], *networks, *small, *few, *more, *results["few_cases"]] for more in augmented
    ]
    if whole and peer:
        theirs = ["--networks", "nnU-Net", "--sizes", "10", "140", "--peer", str(peer)]
        found.append(["evidence.few_cases", *places["few_cases"], *theirs, *results["few_cases"]])
    found += [
        ["sizes.scale_robustness", *places["scale_robustness"], *networks, *small, *sizes, *more, *results["scale_robustness"]]
        for more in augmented
    ]
    found.append(
        ["cost.cost", str(dataset), "-o", str(output / "cost.json"), *([] if whole else ["--rounds", "1", "--batch", "1"])]
    )
    found.append(["sizes.equivariance", "-o", str(output / "equivariance.json"), *([] if whole else ["--weights", "1"])])
    return found


if __name__ == "__main__":
    sys.exit(main())
