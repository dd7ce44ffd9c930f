"""Every kind of input on every path that reads images: refused with the same words, or accepted with the same result."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from tests.preprocessing.clusters import local_cluster
from tests.preprocessing.gate.kinds import KINDS, Kind, labels_of, values
from tests.preprocessing.gate.paths import follow

ON_PATHS = [pytest.param(kind, path, id=f"{kind.name}, {path}") for kind in KINDS for path in kind.paths]

ON_CLUSTERS = [given for given in ON_PATHS if given.values[1] in ("planning", "prediction")]


@pytest.mark.filterwarnings("ignore")  # of the libraries, about the same contradictions
@pytest.mark.parametrize(("kind", "path"), ON_PATHS)
def test_each_kind_on_each_path(kind: Kind, path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _require(kind, path, tmp_path, caplog)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Dask scheduler with a worker process."""
    with local_cluster(1) as address:
        yield address


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries and of the cluster
@pytest.mark.parametrize(("kind", "path"), ON_CLUSTERS)
def test_each_kind_on_the_workers_of_a_cluster(
    kind: Kind, path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, cluster: str
) -> None:
    _require(kind, path, tmp_path, caplog, cluster)


def _require(kind: Kind, path: str, folder: Path, caplog: pytest.LogCaptureFixture, scheduler: str | None = None) -> None:
    """Require that the path treats the kind as the table says."""
    if kind.fault is not None and path not in kind.accepted:
        with pytest.raises(InputError) as caught:
            follow(path, kind, folder, scheduler)
        assert kind.fault in str(caught.value)
        return
    with caplog.at_level(logging.WARNING):
        seen = follow(path, kind, folder, scheduler)
    if path in kind.accepted:
        return
    assert np.array_equal(seen.labels, labels_of(values().T))
    assert np.allclose(seen.spacing, kind.spacing, rtol=1e-6)
    if kind.warns is not None and path not in ("SimpleITK", "evaluation"):
        name = "the image" if path == "nibabel" else "case `case`"
        assert kind.warns in caplog.text and name in caplog.text
