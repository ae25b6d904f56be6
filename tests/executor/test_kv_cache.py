"""Sizing the KV cache: arithmetic, limits of the host and its cgroups, advice when it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fake_model import CPU, make_config

from octavo import available_memory
from octavo.cache_groups import CacheSpec, plan_layout, specs_of_windows
from octavo.config import DeviceConfig, EngineConfig
from octavo.config.early_checks import bytes_per_block
from octavo.errors import ConfigError
from octavo.executor import memory
from octavo.executor.kv_cache import allocate_kv_cache, plan_kv_cache

LAYERS = [CacheSpec("full", 3, 64)] * 2
BLOCK_BYTES = 2 * (3 * 64 + 3 * 64) * 4 * 4
GIB = 1 << 30


def sized(**changes: object) -> EngineConfig:
    return make_config(**{"num_blocks": None, **changes})


def test_bytes_of_a_block() -> None:
    assert bytes_per_block(make_config().cache, plan_layout(LAYERS, 4, 256)) == BLOCK_BYTES
    assert bytes_per_block(sized(block_size=32).cache, plan_layout(LAYERS, 32, 256)) == 8 * BLOCK_BYTES


def test_exact_blocks_and_exact_bytes_win() -> None:
    assert plan_kv_cache(make_config(num_blocks=70), LAYERS, available=0).num_blocks == 70
    plan = plan_kv_cache(sized(memory_bytes=100 * BLOCK_BYTES + 5), LAYERS, available=0)
    assert (plan.num_blocks, plan.block_bytes, plan.max_model_len) == (100, BLOCK_BYTES, 256)


@pytest.mark.parametrize("utilization", [0.9, 0.25])
def test_the_share_of_host_memory_is_the_one_asked_for(utilization: float) -> None:
    available = 500 * BLOCK_BYTES
    plan = plan_kv_cache(sized(memory_utilization=utilization), LAYERS, available)
    assert plan.num_blocks == int(500 * utilization)


def test_never_more_than_the_batch_could_fill() -> None:
    assert plan_kv_cache(sized(), LAYERS, available=100 * GIB).num_blocks == 16 * 64


def test_weights_count_against_a_gpus_share() -> None:
    base = sized(memory_utilization=0.5)
    config = EngineConfig(base.model, base.cache, base.scheduler, DeviceConfig("cuda", 1, "uni"))
    plan = plan_kv_cache(config, LAYERS, available=700 * BLOCK_BYTES, weights=300 * BLOCK_BYTES)
    assert plan.num_blocks == 200


def test_what_does_not_fit_is_said_with_a_way_out() -> None:
    with pytest.raises(ConfigError) as error:
        plan_kv_cache(sized(memory_bytes=63 * BLOCK_BYTES), LAYERS, available=GIB)
    message = str(error.value)
    assert "--max-model-len to 252" in message
    assert f"--kv-cache-memory-bytes to {64 * BLOCK_BYTES}" in message
    assert plan_kv_cache(sized(memory_bytes=63 * BLOCK_BYTES, max_model_len=252), LAYERS, available=GIB).num_blocks == 63
    assert plan_kv_cache(sized(memory_bytes=64 * BLOCK_BYTES), LAYERS, available=GIB).num_blocks == 64


def test_too_few_blocks_asked_for_names_that_flag() -> None:
    with pytest.raises(ConfigError, match="raise --num-gpu-blocks-override to 64 or more"):
        plan_kv_cache(make_config(num_blocks=63), LAYERS, available=GIB)


def test_an_unasked_length_is_lowered_to_what_fits() -> None:
    plan = plan_kv_cache(sized(memory_bytes=10 * BLOCK_BYTES, fit_max_model_len=True), LAYERS, available=GIB)
    assert plan.max_model_len == 40
    with pytest.raises(ConfigError, match="room for 0 tokens"):
        plan_kv_cache(sized(memory_bytes=1, fit_max_model_len=True), LAYERS, available=GIB)


def test_allocation_has_the_layout_of_the_contract_and_touches_no_pages() -> None:
    before = resident_bytes()
    layout = plan_layout([CacheSpec("full", 8, 128)] * 4, 4, 256)
    caches = allocate_kv_cache(layout, torch.float32, 16_384, CPU)
    assert resident_bytes() - before < 64 << 20, "2 GiB of pages, none used yet"
    for keys, values in caches:
        assert keys.shape == values.shape == (16_384, 8, 4, 128)
        assert keys.dtype == torch.float32


def test_what_the_machine_refuses_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="lower --kv-cache-memory-bytes"):
        allocate_kv_cache(plan_layout([CacheSpec("full", 8, 128)], 4, 256), torch.float32, 1 << 40, CPU)


def test_layers_write_into_no_others_of_their_group_and_groups_share_memory() -> None:
    specs = [*specs_of_windows(2, 8, [9, 9, 9, 0]), CacheSpec("latent", 1, 20)]
    layout = plan_layout(specs, 4, 256)
    caches = allocate_kv_cache(layout, torch.float32, 5, CPU)
    for group in layout.groups:
        for layer in group.layers:
            for half, tensor in enumerate(caches[layer]):
                tensor.fill_(10 * layer + half)
        for layer in group.layers:
            keys, values = caches[layer]
            assert keys.shape == values.shape == (5, specs[layer].num_kv_heads, 4, specs[layer].head_dim)
            if group.spec.kind == "latent":
                assert keys.data_ptr() == values.data_ptr()
            else:
                assert (keys == 10 * layer).all()
                assert (values == 10 * layer + 1).all()
    last = layout.groups[-1].layers[0]
    assert len({caches[group.layers[0]][0].data_ptr() for group in layout.groups}) == 1, "one pool"
    assert last == 4


def test_windows_need_less_and_what_they_waste_is_said() -> None:
    specs = specs_of_windows(2, 8, [16] * 5 + [0] + [16])
    config = sized(memory_bytes=1 << 20, max_num_batched_tokens=16)
    plan = plan_kv_cache(config, specs, available=GIB)
    assert plan.block_bytes == 2 * 2 * 8 * 4 * 4
    assert list(plan.describe()) == [
        "2048 blocks of 4 tokens, 1.0 MiB",
        "window of 16: layers 6, groups 6, unused part of their blocks 0%",
        "full: layers 1, groups 1, unused part of their blocks 0%",
    ]
    padded = plan_kv_cache(config, specs_of_windows(2, 8, [16] * 5 + [0, 0]), available=GIB)
    assert list(padded.describe())[1:] == [
        "window of 16: layers 5, groups 3, unused part of their blocks 17%",
        "full: layers 2, groups 1, unused part of their blocks 0%",
    ]
    one_sequence = 64 + 6 * 9
    assert plan_kv_cache(sized(num_blocks=one_sequence, max_num_batched_tokens=16), specs, GIB).max_model_len == 256
    with pytest.raises(ConfigError, match=f"num-gpu-blocks-override to {one_sequence} or more"):
        plan_kv_cache(sized(num_blocks=one_sequence - 1, max_num_batched_tokens=16), specs, GIB)


def test_a_model_without_caches_gets_no_blocks() -> None:
    plan = plan_kv_cache(make_config(), [], available=0)
    assert (plan.num_blocks, plan.block_bytes, plan.max_model_len) == (0, 0, 256)
    assert allocate_kv_cache(plan.layout, torch.float32, 0, CPU) == []


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# ---- limits ----------------------------------------------------------------------------------------------------------


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup tree of version 2 and one of version 1; this process sits in /pod/box of both."""
    root, own = tmp_path / "cgroup", tmp_path / "self"
    root.mkdir()
    own.write_text("4:memory:/pod/box\n3:cpu,cpuacct:/pod/box\n0::/pod/box\n")
    real_read = available_memory.read_system_file
    monkeypatch.setattr(available_memory, "_CGROUP_ROOT", root)
    monkeypatch.setattr(
        available_memory, "read_system_file", lambda path: real_read(own if path == "/proc/self/cgroup" else path)
    )
    return root


def test_without_limits_the_hosts_memory_counts(cgroups: Path) -> None:
    write(cgroups / "pod", memory__max="max\n", memory__current="5\n")
    assert memory.available_bytes(CPU) > 1 << 24


def test_the_tightest_group_above_us_counts(cgroups: Path) -> None:
    write(cgroups / "pod" / "box", memory__max=f"{9 << 20}\n", memory__current=f"{1 << 20}\n")
    assert memory.available_bytes(CPU) == 8 << 20
    write(
        cgroups / "pod", memory__max=f"{6 << 20}\n", memory__current=f"{3 << 20}\n", memory__stat="anon 7\ninactive_file 4096\n"
    )
    assert memory.available_bytes(CPU) == (3 << 20) + 4096


def test_version_1_limits_count_too(cgroups: Path) -> None:
    write(cgroups / "memory" / "pod" / "box", memory__limit_in_bytes=f"{7 << 20}", memory__usage_in_bytes=f"{2 << 20}")
    assert memory.available_bytes(CPU) == 5 << 20


def test_a_group_over_its_limit_leaves_nothing(cgroups: Path) -> None:
    write(cgroups / "pod", memory__max="100\n", memory__current="200\n")
    assert memory.available_bytes(CPU) == 0


def test_a_containers_own_group_is_the_root(cgroups: Path) -> None:
    write(cgroups, memory__max=f"{5 << 20}\n", memory__current="0\n")
    assert memory.available_bytes(CPU) == 5 << 20
