"""Content addresses of KV blocks.

A block's hash covers everything its keys and values depend on: all tokens up to its end (through the hash of the block
before it) and whatever else changes them - cache salt now, adapters and media later. Such extra keys are tagged and
length-prefixed, so that no value of one kind can pass for another kind, or for tokens. SHA-256 throughout: tenants choose
their prompts, and a collision would show one the other's context. All cache groups of a sequence share its hashes; an address
is a hash of fixed length and the group behind it.
"""

from __future__ import annotations

import enum
import hashlib
from array import array
from collections.abc import Sequence


class KeyKind(enum.IntEnum):
    """What an extra key is; the numbers are part of the hash and never reused."""

    GENERATION = 1
    """Counts up when everything cached before must not be found again."""
    CACHE_SALT = 2
    LORA = 3
    MEDIA = 4
    ENCODER_BLOCK = 5
    """The number of a block of an encoder's output."""


ExtraKey = tuple[KeyKind, bytes]

_ROOT_DOMAIN = b"octavo kv root 1"


def root_hash(keys: Sequence[ExtraKey]) -> bytes:
    """Parent of a sequence's first block: what the whole sequence depends on besides its tokens."""
    return hashlib.sha256(_ROOT_DOMAIN + _encoded(keys)).digest()


def block_hash(parent: bytes, token_ids: Sequence[int], keys: Sequence[ExtraKey] = ()) -> bytes:
    """Hash of a full block.

    Args:
        parent: hash of the block before it, or `root_hash`; 32 bytes.
        token_ids: the block's tokens, each below 2**31.
        keys: what else this block depends on (the media items inside it).
    """
    message = parent + len(token_ids).to_bytes(4, "little") + array("i", token_ids).tobytes()
    return hashlib.sha256(message + _encoded(keys) if keys else message).digest()


def encoder_hash(root: bytes, index: int) -> bytes:
    """Hash of the block number `index` of an encoder's output, which depends on what `root` covers and on no token."""
    return block_hash(root, (), [(KeyKind.ENCODER_BLOCK, index.to_bytes(8, "little"))])


def group_addresses(contents: Sequence[bytes], group: int) -> list[bytes]:
    """Under which the pool knows the blocks of a cache group that have these hashes."""
    suffix = group.to_bytes(2, "little")
    return [content + suffix for content in contents]


def _encoded(keys: Sequence[ExtraKey]) -> bytes:
    return b"".join(bytes([kind]) + len(value).to_bytes(8, "little") + value for kind, value in keys)
