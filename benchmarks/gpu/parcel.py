"""Pack what `make gpu` needs on a machine without a network, in a folder that travels with the repository.

    pip list --format freeze > present.txt              # there; or the names in any other form, one on a line
    python -m benchmarks.gpu.parcel present.txt --python 3.12

Wheels of the tested versions are packed, without those that are present there, and the training cases. SimpleITK stays out, as the check
reads no file with it. The commands that run the check there are printed at the end.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

UNUSED = ("simpleitk", "torch", "unittest2")  # the last is for the tests of batchgenerators
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)), "manylinux2014_x86_64", "manylinux1_x86_64")
MOST_BYTES = 64 * 2**20  # that may travel to the machine on which this was written
COMMAND = """\
python3 -m pip install -q --no-index --no-deps --target {folder}/site {folder}/wheels/*.whl
PYTHONPATH={folder}/site:. python3 -m benchmarks.gpu.check --data {folder}/{data}"""


def main(words: list[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse_args(words)
    present = {name for line in given.present.read_text(encoding="utf-8").splitlines() if (name := _name(line))}
    wheels = given.folder / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)  # two versions of a distribution would stop the installation
    wheels.mkdir(parents=True)
    for requirement in needed("se-unet", {*present, *UNUSED}, given.python):
        fetch(requirement, given.python, wheels)
    for part in ("dataset.json", "imagesTr", "labelsTr"):
        source, target = given.data / part, given.folder / given.data.name / part
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copyfile(source, target)
    size = sum(file.stat().st_size for file in given.folder.rglob("*") if file.is_file())
    print(
        f"{len(list(wheels.iterdir()))} wheels and the data take {size / 2**20:.0f} of {MOST_BYTES / 2**20:.0f} MiB. Run there:\n"
    )
    print(COMMAND.format(folder=given.folder, data=given.data.name))
    return int(size > MOST_BYTES)


def needed(name: str, without: Collection[str], python: str) -> Iterator[str]:
    """Yield what a distribution needs, directly or through others, as `NAME==VERSION` of the versions that are installed here.

    Args:
        name: distribution, which is not yielded itself.
        without: names, in canonical form, that are not needed, with all that they alone need.
        python: version of Python, such as 3.12, on which requirements may depend.
    """
    known, left = {canonicalize_name(name), *without}, [name]
    while left:
        for line in distribution(left.pop()).requires or ():
            requirement = Requirement(line)
            wanted = canonicalize_name(requirement.name)
            does_apply = requirement.marker is None or requirement.marker.evaluate({"python_version": python, "extra": ""})
            if does_apply and wanted not in known:
                known.add(wanted)
                left.append(wanted)
                yield f"{wanted}=={distribution(wanted).version}"


def fetch(requirement: str, python: str, wheels: Path) -> None:
    """Save the wheel of a requirement for Linux on x86-64, or build the wheel of pure Python where there is none.

    Raises:
        RuntimeError: neither is possible; with what pip printed.
    """
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    found = _pip("download", "--only-binary=:all:", "--python-version", python, *platforms, "-d", str(wheels), requirement)
    if found.returncode:
        made = _pip("wheel", "-w", str(wheels), requirement)
        if made.returncode or not list(wheels.glob(f"{requirement.split('==')[0].replace('-', '_')}-*-none-any.whl")):
            raise RuntimeError(f"there is no wheel of {requirement}: {found.stderr}{made.stderr}")


def _pip(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", words[0], "-q", "--no-deps", *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _name(line: str) -> str | None:
    """Return the canonical name of a distribution at the beginning of a line of `pip list`, in whatever form."""
    match = re.match(r"[A-Za-z0-9][\w.-]*", line)
    return canonicalize_name(match[0]) if match else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("present", type=Path, help="text file with the packages of the other machine, one on a line")
    parser.add_argument("--python", default="3.12", help="version of Python on the other machine; default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("gpu_parcel"), help="folder of the parcel; default: %(default)s")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/Dataset004_Hippocampus"), help="folder of hippocampus in raw layout"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
