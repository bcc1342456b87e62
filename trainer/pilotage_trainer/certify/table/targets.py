"""The precisions that `--target` asks for: one for all strata, and others for some of them. Not here: the tests."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pilotage_core.errors import InvalidInputError

FORMS = "write --target 0.9 for all strata, --target STRATUM=0.95 for one"


@dataclass(frozen=True, slots=True)
class Targets:
    """A precision for each of `strata`, and `others` for the rest; all in (0, 1)."""

    others: float = 0.9
    strata: Mapping[str, float] = field(default_factory=dict)

    def of(self, stratum: str) -> float:
        """What `stratum` has to reach."""
        return self.strata.get(stratum, self.others)

    def require_known(self, strata: Collection[str]) -> None:
        """Raises InvalidInputError for a stratum that is not among `strata`: a slip would leave it at `others`."""
        for stratum in self.strata:
            if stratum not in strata:
                raise InvalidInputError(
                    "no label is of this stratum",
                    where=f"--target {stratum}",
                    remedy=f"the table has {', '.join(sorted(strata))}",
                )


def read_targets(given: Sequence[str]) -> Targets:
    """What was `given`: precisions, or STRATUM=precision (the last equals sign parts them).

    Raises InvalidInputError for a precision that is none, and where one stratum, or the rest, is given two.
    """
    found: dict[str, float] = {}
    for text in given:
        stratum, _, number = text.rpartition("=")
        where = f"--target {stratum}" if stratum else "--target"
        try:
            precision = float(number)
        except ValueError as error:
            raise InvalidInputError(f"{number!r} is no number", where=where, remedy=FORMS) from error
        if not 0.0 < precision < 1.0:
            raise InvalidInputError(f"{precision} is not between 0 and 1", where=where)
        if stratum in found:
            raise InvalidInputError(f"is given twice, {found[stratum]} and {precision}", where=where, remedy=FORMS)
        found[stratum] = precision
    others = found.pop("", Targets().others)
    return Targets(others, found)
