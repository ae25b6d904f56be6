"""Memory for weights and caches."""

from __future__ import annotations

import gc
import itertools
import threading
from pathlib import Path

import pytest
import torch

from octavo.kernels import host_memory

MIB = 1 << 20


@pytest.mark.parametrize("make", [host_memory.empty, host_memory.empty_packed])
@pytest.mark.parametrize("shape", [(3,), (5, 7), (2, 3, 4), (0, 4), (1000, 1000)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_a_tensor_has_its_shape_and_starts_on_a_cache_line(make: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert callable(make)
    x = make(shape, dtype)
    assert x.shape == shape
    assert x.dtype == dtype
    assert x.is_contiguous()
    assert x.data_ptr() % 64 == 0
    assert not x.float().any()


def test_small_ones_do_not_overlap_and_lie_close_together() -> None:
    pieces = [host_memory.empty_packed((100 + i,), torch.int32).fill_(i) for i in range(200)]
    assert all((piece == i).all() for i, piece in enumerate(pieces))
    starts = [piece.data_ptr() for piece in pieces]
    assert max(starts) - min(starts) < 200 * 2048


def test_pieces_taken_by_several_threads_do_not_overlap() -> None:
    taken: list[torch.Tensor] = []

    def take() -> None:
        taken.extend(host_memory.empty_packed((1000,), torch.uint8) for _ in range(300))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    starts = sorted(piece.data_ptr() for piece in taken)
    assert len(starts) == 1200
    assert all(later - earlier >= 1000 for earlier, later in itertools.pairwise(starts))


def test_memory_is_free_when_its_tensors_are() -> None:
    gc.collect()
    before = resident_bytes()
    pieces = [host_memory.empty_packed((40 * MIB,), torch.uint8).fill_(1) for _ in range(12)]
    pieces.append(host_memory.empty((40 * MIB,), torch.uint8).fill_(1))
    assert resident_bytes() - before > 500 * MIB
    del pieces
    gc.collect()
    assert resident_bytes() - before < 300 * MIB, "at most the chunk that others' pieces lie in"


def test_pages_are_taken_when_first_used() -> None:
    before = resident_bytes()
    x = host_memory.empty((1 << 32,), torch.uint8)
    assert resident_bytes() - before < 16 * MIB
    x[:100].fill_(1)
    assert resident_bytes() - before < 16 * MIB


def test_what_the_system_refuses_is_a_memory_error() -> None:
    for size in (1 << 50, 1 << 62):
        with pytest.raises(MemoryError, match=f"no room for {size:,} bytes"):
            host_memory.empty((size,), torch.uint8)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
