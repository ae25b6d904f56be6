"""When requests arrive: offsets in seconds from the start of a run."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

from octavo.config.option import option
from octavo.errors import ConfigError


@dataclass
class ArrivalOptions:
    """How fast requests are sent."""

    request_rate: float = option(math.inf, "Requests a second; inf = all at once.")
    burstiness: float = option(1.0, "Shape of the gamma-distributed intervals: 1 = Poisson, below = bursts, above = even.")
    ramp_up_strategy: str | None = option(
        None, "Let the rate grow during the run instead of --request-rate.", choices=("linear", "exponential")
    )
    ramp_up_start_rps: float | None = option(None, "Rate at the start of a ramp-up.")
    ramp_up_end_rps: float | None = option(None, "Rate at the end of a ramp-up.")

    def check(self) -> None:
        """Raise ConfigError naming the flag whose value cannot work."""
        if not self.request_rate > 0:
            raise ConfigError(f"--request-rate must be above 0, got {self.request_rate}")
        if not (self.burstiness > 0 and math.isfinite(self.burstiness)):
            raise ConfigError(f"--burstiness must be above 0, got {self.burstiness}")
        ends = (self.ramp_up_start_rps, self.ramp_up_end_rps)
        if self.ramp_up_strategy is None:
            if ends != (None, None):
                raise ConfigError("--ramp-up-start-rps and --ramp-up-end-rps need --ramp-up-strategy")
        elif None in ends:
            raise ConfigError("--ramp-up-strategy needs --ramp-up-start-rps and --ramp-up-end-rps")
        elif math.isfinite(self.request_rate):
            raise ConfigError("--ramp-up-strategy and --request-rate exclude each other")
        elif min(rate for rate in ends if rate is not None) <= 0:
            raise ConfigError("--ramp-up-start-rps and --ramp-up-end-rps must be above 0")


def arrival_times(options: ArrivalOptions, count: int, seed: int) -> list[float]:
    """`count` ascending arrival times in seconds.

    Intervals are gamma-distributed with mean 1/rate. With a constant rate the times are stretched so that the last one is
    at exactly count/rate: a run's length then does not depend on the seed.
    """
    options.check()
    rng = random.Random(seed)  # noqa: S311
    shape = options.burstiness
    rates = [_rate(options, index / count) for index in range(count)]
    gaps = [0.0 if math.isinf(rate) else rng.gammavariate(shape, 1.0 / (rate * shape)) for rate in rates]
    times = list(itertools.accumulate(gaps))
    if options.ramp_up_strategy is None and math.isfinite(options.request_rate) and times and times[-1] > 0:
        stretch = count / options.request_rate / times[-1]
        times = [time * stretch for time in times]
    return times


def _rate(options: ArrivalOptions, progress: float) -> float:
    """Requests a second when the share `progress` of the requests has been sent."""
    start, end = options.ramp_up_start_rps, options.ramp_up_end_rps
    if options.ramp_up_strategy is None or start is None or end is None:
        return options.request_rate
    if options.ramp_up_strategy == "linear":
        return start + (end - start) * progress
    return float(start * (end / start) ** progress)
