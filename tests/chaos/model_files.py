"""Tiny models written byte by byte, in pieces that tests can spoil: a folder of safetensors, one with an index, a GGUF file."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "eos_token_id": [1, 2],
    "torch_dtype": "float32",
}

SHAPES: dict[str, list[int]] = {
    "model.embed_tokens.weight": [24, 16],
    "model.layers.0.input_layernorm.weight": [16],
    "model.layers.0.self_attn.q_proj.weight": [16, 16],
    "model.layers.0.self_attn.k_proj.weight": [8, 16],
    "model.layers.0.self_attn.v_proj.weight": [8, 16],
    "model.layers.0.self_attn.o_proj.weight": [16, 16],
    "model.layers.0.post_attention_layernorm.weight": [16],
    "model.layers.0.mlp.gate_proj.weight": [32, 16],
    "model.layers.0.mlp.up_proj.weight": [32, 16],
    "model.layers.0.mlp.down_proj.weight": [16, 32],
    "model.norm.weight": [16],
}

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.layers.0.input_layernorm": "blk.0.attn_norm",
    "model.layers.0.self_attn.q_proj": "blk.0.attn_q",
    "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
    "model.layers.0.self_attn.v_proj": "blk.0.attn_v",
    "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
    "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
    "model.layers.0.mlp.gate_proj": "blk.0.ffn_gate",
    "model.layers.0.mlp.up_proj": "blk.0.ffn_up",
    "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
    "model.norm": "output_norm",
}

U32, I32, F32, TEXT, ARRAY, U64 = 4, 5, 6, 8, 9, 10
_FORMS = {0: "<B", U32: "<I", I32: "<i", F32: "<f", U64: "<Q", 7: "<?"}

GGUF_KEYS: list[tuple[str, int, Any]] = [
    ("general.architecture", TEXT, "llama"),
    ("general.alignment", U32, 32),
    ("llama.embedding_length", U32, 16),
    ("llama.feed_forward_length", U32, 32),
    ("llama.block_count", U32, 1),
    ("llama.attention.head_count", U32, 2),
    ("llama.attention.head_count_kv", U32, 1),
    ("llama.attention.key_length", U32, 8),
    ("llama.context_length", U32, 64),
    ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
    ("llama.rope.freq_base", F32, 10000.0),
    ("llama.rope.dimension_count", U32, 8),
    ("tokenizer.ggml.model", TEXT, "gpt2"),
    ("tokenizer.ggml.tokens", ARRAY, (TEXT, [f"t{i}" for i in range(24)])),
    ("tokenizer.ggml.eos_token_id", U32, 2),
]


def header_of(shapes: dict[str, list[int]]) -> dict[str, Any]:
    """A safetensors header of float32 tensors."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return header


def size_of(header: dict[str, Any]) -> int:
    """Bytes that a header's tensors take."""
    return max((info["data_offsets"][1] for info in header.values()), default=0)


def write_safetensors(path: Path, header: Any, data: bytes) -> None:
    """A file with this header (JSON text, or what becomes some)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_folder(folder: Path, config: Any = None, *, shards: int = 1) -> Path:
    """A model as a folder; `config` is JSON text, or what becomes some."""
    folder.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, bytes) else json.dumps(CONFIG if config is None else config).encode()
    (folder / "config.json").write_bytes(text)
    if shards == 1:
        header = header_of(SHAPES)
        write_safetensors(folder / "model.safetensors", header, bytes(size_of(header)))
        return folder
    weight_map = {}
    for part in range(shards):
        file = f"model-{part + 1:05d}-of-{shards:05d}.safetensors"
        shapes = {name: SHAPES[name] for name in sorted(SHAPES)[part::shards]}
        header = header_of(shapes)
        write_safetensors(folder / file, header, bytes(size_of(header)))
        weight_map |= dict.fromkeys(shapes, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def text(value: str | bytes) -> bytes:
    """A string as GGUF has it."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind: int, value: Any) -> bytes:
    """A value as GGUF has it; bytes are taken as they are."""
    if isinstance(value, bytes):
        return value
    if kind == TEXT:
        return text(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(gguf_value(inner, item) for item in items)
    return struct.pack(_FORMS[kind], value)


def gguf_tensors() -> list[tuple[str, list[int], int, int]]:
    """Name, dimensions (columns first), type and offset of each tensor."""
    table, at = [], 0
    for name, shape in SHAPES.items():
        stem = name.removesuffix(".weight")
        size = 4
        for length in shape:
            size *= length
        table.append((_GGUF_NAMES[stem] + ".weight", shape[::-1], 0, at))
        at += -(-size // 32) * 32
    return table


def gguf_bytes(
    keys: list[tuple[str, int, Any]] | None = None,
    tensors: list[tuple[str, list[int], int, int]] | None = None,
    *,
    counts: tuple[int, int] | None = None,
    data: int = 16384,
) -> bytes:
    """A GGUF file with zeros for weights."""
    keys, tensors = GGUF_KEYS if keys is None else keys, gguf_tensors() if tensors is None else tensors
    num_tensors, num_keys = counts or (len(tensors), len(keys))
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_keys))
    for name, kind, value in keys:
        out += text(name) + struct.pack("<I", kind) + gguf_value(kind, value)
    for name, shape, kind, offset in tensors:
        out += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        out += struct.pack("<IQ", kind, offset)
    out += bytes(-len(out) % 32 + data)
    return bytes(out)


def changed(key: str, kind: int, value: Any) -> list[tuple[str, int, Any]]:
    """The keys of a GGUF file with one of them changed, or added."""
    kept = [entry for entry in GGUF_KEYS if entry[0] != key]
    return [*kept, (key, kind, value)]
