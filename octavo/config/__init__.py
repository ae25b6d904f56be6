"""Configuration in one place: `EngineArgs` is what a user says, `EngineConfig` what every process works with.

Each option is one field of `EngineArgs` with its help text and limits: the command line, `LLM(...)` and the docs are made from it.
"""

from octavo.config.args import EngineArgs
from octavo.config.structs import CacheConfig, DeviceConfig, EngineConfig, LogprobsMode, ModelConfig, SchedulerConfig

__all__ = [
    "CacheConfig", "DeviceConfig", "EngineArgs", "EngineConfig", "LogprobsMode", "ModelConfig", "SchedulerConfig",
]  # fmt: skip
