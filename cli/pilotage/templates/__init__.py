"""The pages' markup (Jinja2). What a page says is escaped; only what charts draw is markup already."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def build_environment() -> Environment:
    """Where templates are found. A name that a page does not give is an error."""
    environment = Environment(
        loader=PackageLoader("pilotage", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment


def drawn(svg: str) -> str:
    """A drawing of ours, which is markup."""
    return Markup(svg)


def percent(share: float | None) -> str:
    """A share to a tenth of a per cent; a dash for none."""
    return "–" if share is None else f"{share:.1%}"
