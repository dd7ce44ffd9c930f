"""Write the licences of all installed libraries that come with the software.

python -m benchmarks.pages.licences            # fill in the tables of docs/reference/licences.md
python -m benchmarks.pages.licences --check    # only name licences that are not allowed or not in the tables; exit code 1 if any

The tables describe an environment made by `pip install -c constraints.txt` with PyTorch's build for CPUs.
"""

import argparse
import re
import sys
from collections.abc import Mapping

from packaging.utils import canonicalize_name

from benchmarks.pages.dependencies import ROOT, Library, declared, optional, with_all_they_bring
from configs.files import write_text

PAGE = ROOT / "docs" / "reference" / "licences.md"
PLACE = re.compile(r"(<!-- licences: (\w+) -->\n).*?(<!-- end of licences -->)", re.DOTALL)
EXTRAS = ("dask", "onnx", "dicom")  # those that are installed for the tests
# With PyTorch's builds for GPUs; docs/reference/licences.md says so.
OF_GPU_BUILDS = re.compile(r"nvidia-|cuda-|triton$")

PERMISSIVE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "HPND",
        "ISC",
        "LLVM-exception",
        "MIT",
        "MIT-CMU",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    }
)
# Bind whoever changes the library itself, not who uses it as it is.
OF_THE_LIBRARY_ALONE = frozenset({"LGPL-3.0-or-later", "MPL-2.0"})
ALLOWED = PERMISSIVE | OF_THE_LIBRARY_ALONE

_NAMES = {
    "mit": "MIT",
    "mit license": "MIT",
    "the mit license (mit)": "MIT",
    "bsd": "BSD",
    "bsd license": "BSD",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "historical permission notice and disclaimer (hpnd)": "HPND",
    "isc license (iscl)": "ISC",
}


def main() -> int:
    """Fill in or check the page. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    wrong = [f"{name}: {licence}" for name, licence in not_allowed(installed()).items()]
    print("\n".join([f"not allowed: {line}" for line in wrong]))
    if filled(page) != page:
        print(f"{PAGE.relative_to(ROOT)} {'is out of date' if arguments.check else 'was filled in'}")
    if not arguments.check:
        write_text(PAGE, filled(page))
    return int(bool(wrong) or (arguments.check and filled(page) != page))


def licence_of(library: Library) -> str:
    """Return the SPDX name in the metadata: the expression, the short text or the classifier; `unknown` if there is none."""
    told = library.installed.metadata
    expression, texts = (told.get_all(field, []) for field in ("License-Expression", "License"))
    if expression:
        return str(expression[0])
    texts = [text.strip().split("\n")[0] for text in texts]
    texts += [line.rsplit(" :: ", 1)[-1] for line in told.get_all("Classifier", []) if line.startswith("License :: ")]
    names = [text if text in ALLOWED else _NAMES.get(text.strip().lower()) for text in texts]
    return next((name for name in names if name is not None), "unknown")


def not_allowed(libraries: Mapping[str, Library]) -> dict[str, str]:
    """Return the libraries of which a licence is not on the list."""
    return {
        name: licence
        for name, library in libraries.items()
        if not OF_GPU_BUILDS.match(name) and not set(parts_of(licence := licence_of(library))) <= ALLOWED
    }


def parts_of(expression: str) -> list[str]:
    """Return the licences that an SPDX expression names; all of them must be allowed, alternatives too."""
    return [word for word in re.findall(r"[\w.+-]+", expression) if word not in ("AND", "OR", "WITH")]


def installed() -> dict[str, Library]:
    """Return all libraries, including those of the extras."""
    extras = [each for extra in EXTRAS for each in optional()[extra]]
    return with_all_they_bring([*declared(), *extras])


def filled(page: str) -> str:
    """Return the page with the tables of the installed libraries."""
    return PLACE.sub(lambda place: f"{place[1]}{_TABLES[place[2]]()}\n{place[3]}", page)


def listed(page: str) -> set[str]:
    """Return the names in the page's tables, including those that are written by hand."""
    names: set[str] = {canonicalize_name(name) for name in re.findall(r"^\| ([\w.-]+) \|", page, re.MULTILINE)}
    return names - {"library"}


def _table(libraries: Mapping[str, Library]) -> str:
    lines = ["| library | licence | brought by |", "|---|---|---|"]
    for name, library in sorted(libraries.items(), key=lambda item: ("" not in item[1].bringers, item[0])):
        if not OF_GPU_BUILDS.match(name):
            bringers = "se-unet" if "" in library.bringers else ", ".join(sorted(library.bringers))
            lines.append(f"| {name} | {licence_of(library)} | {bringers} |")
    return "\n".join(lines)


def _runtime() -> str:
    return _table(with_all_they_bring(declared()))


def _extras() -> str:
    everyone = with_all_they_bring(declared())
    return _table({name: library for name, library in installed().items() if name not in everyone})


_TABLES = {"runtime": _runtime, "extras": _extras}


if __name__ == "__main__":
    sys.exit(main())
