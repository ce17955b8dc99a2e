"""Token buckets: takes who asks and how much, says whether that may pass or when to ask again."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class Buckets:
    """One bucket a name: `burst` tokens at most, `rate` a second come back. The least used names are forgotten."""

    def __init__(
        self, rate: float, burst: float, names: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate, self.burst, self.names, self.clock = rate, burst, names, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str, tokens: float = 1.0) -> float:
        """0 when the tokens were there (and are gone), else seconds until they will be.

        More than `burst` at once never passes and is told a full refill.
        """
        with self._lock:
            now = self.clock()
            level, at = self._levels.pop(name, (self.burst, now))
            level = min(self.burst, level + (now - at) * self.rate)
            wait = 0.0 if level >= tokens else (min(tokens, self.burst) - level) / self.rate
            if tokens > self.burst:
                wait = max(wait, self.burst / self.rate)
            self._levels[name] = (level if wait else level - tokens, now)
            while len(self._levels) > self.names:
                self._levels.popitem(last=False)
            return wait

    def __len__(self) -> int:
        return len(self._levels)


def network_of(address: str) -> str:
    """The network an address belongs to, as far as it counts as one reporter: /24 of IPv4, /48 of IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))
