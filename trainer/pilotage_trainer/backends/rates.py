"""Acceptance rates by context, from coarse to fine: what critics of every backend may know beside the state."""

from collections.abc import Iterable

import msgspec

PRIOR_LABELS = 4.0
"""How many labels the rate of the coarser context counts for."""


class Rates(msgspec.Struct, frozen=True):
    """Accepted and all labels by context, one table for each fineness, coarsest first."""

    tables: tuple[dict[str, tuple[float, float]], ...]

    def of(self, contexts: Iterable[str]) -> list[float]:
        """The acceptance rate at each fineness; a context with few labels leans on the coarser one."""
        rate, rates = 0.5, []
        for table, context in zip(self.tables, contexts, strict=True):
            accepted, n = table.get(context, (0.0, 0.0))
            rate = (accepted + PRIOR_LABELS * rate) / (n + PRIOR_LABELS)
            rates.append(rate)
        return rates
