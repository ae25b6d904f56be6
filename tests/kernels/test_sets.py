"""Which kernel set is in use."""

from __future__ import annotations

import pytest

from octavo.errors import ConfigError
from octavo.kernels import ops


def test_a_set_that_this_version_has_not() -> None:
    before = ops.use()
    with pytest.raises(ConfigError, match="no triton kernels in this version; OCTAVO_KERNELS may be reference or cpu"):
        ops.use("triton")
    assert ops.current() == before
