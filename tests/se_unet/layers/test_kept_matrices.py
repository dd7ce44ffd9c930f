"""Matrices of constant taps are kept as long as the taps, and are never those of others."""

import gc
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from se_unet.layers import grids
from se_unet.layers.grids import band_matrix, kept_band_matrix


def taps(seed: int = 0) -> Tensor:
    return torch.rand(2, 5, generator=torch.Generator().manual_seed(seed))


def kept(one: Tensor, n: int = 9, margin: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return kept_band_matrix(one, n, "replicate", margin, dtype)


def test_they_are_those_that_would_be_built() -> None:
    one, other = taps(), taps(1)
    for each in (one, other):
        for n, margin in ((9, 1), (9, 0), (12, 1), (1, 1)):
            assert torch.equal(kept(each, n, margin), band_matrix(each, n, "replicate", margin=margin))
    assert kept(one) is kept(one)
    assert kept(one, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_changed_taps_have_others() -> None:
    one = taps()
    before = kept(one).clone()
    one.mul_(2)
    assert torch.equal(kept(one), 2 * before)


def test_they_go_with_their_taps() -> None:
    """A later tensor at the same address must not find them."""
    before = len(grids._kept)
    one = taps()
    kept(one)
    assert len(grids._kept) == before + 1
    del one
    gc.collect()
    assert len(grids._kept) == before


def test_they_serve_gradients_after_inference() -> None:
    one = taps()
    with torch.inference_mode():
        kept(one)
    x = torch.rand(9, 3, requires_grad=True)
    (kept(one)[0] @ x).sum().backward()
    assert x.grad is not None


def test_threads_may_share_taps() -> None:
    """More sizes than are kept, from several threads at once."""
    one = taps()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: (n, kept(one, n)), [1 + index % 40 for index in range(4000)]))
    assert all(torch.equal(matrix, band_matrix(one, n, "replicate", margin=1)) for n, matrix in found[::37])
