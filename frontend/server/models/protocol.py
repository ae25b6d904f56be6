"""`/v1/models`."""

from __future__ import annotations

import msgspec


class ModelPermission(msgspec.Struct):
    """What OpenAI's older clients expect to find; everything is allowed."""

    id: str
    created: int
    object: str = "model_permission"
    allow_create_engine: bool = False
    allow_sampling: bool = True
    allow_logprobs: bool = True
    allow_search_indices: bool = False
    allow_view: bool = True
    allow_fine_tuning: bool = False
    organization: str = "*"
    group: str | None = None
    is_blocking: bool = False


class ModelCard(msgspec.Struct):
    """One name that requests may ask for."""

    id: str
    created: int
    root: str
    max_model_len: int
    permission: list[ModelPermission]
    object: str = "model"
    owned_by: str = "octavo"
    parent: str | None = None


class ModelList(msgspec.Struct):
    """Every name that requests may ask for."""

    data: list[ModelCard]
    object: str = "list"
