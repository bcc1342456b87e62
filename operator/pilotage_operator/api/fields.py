"""What the custom resources share: the base model, CEL rules beside their fields, names, decimals, sizes."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "pilotage.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ApiModel(BaseModel):
    """camelCase outside, snake_case inside, nothing unknown, nothing changed in place."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    def to_json(self) -> dict[str, Any]:
        """The object as the API server knows it: camelCase, without what is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cel(*rules: tuple[str, str]) -> ConfigDict:
    """Configuration of a model whose objects must satisfy CEL `rules` (expression, message)."""
    return ConfigDict(json_schema_extra=cel_extra(*rules))


def cel_extra(*rules: tuple[str, str]) -> dict[str, Any]:
    """The same for one field: `Field(json_schema_extra=cel_extra(…))`."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
OPEN: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
"""What a newer release writes is kept."""
MAP_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Stratum = Name
Quantity = Annotated[str, Field(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi)?$")]
Cores = Annotated[str, Field(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?m?$")]
Decimal = Annotated[str, Field(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?$")]
Share = Annotated[str, Field(max_length=10, pattern=r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$")]
InnerShare = Annotated[
    str,
    Field(
        max_length=10,
        pattern=r"^0\.[0-9]{1,6}$",
        json_schema_extra=cel_extra(("double(self) > 0.0", "must be above 0 and below 1")),
    ),
]


class StatusModel(ApiModel):
    """A part of a status. What a newer release wrote in it is kept and written back: nothing that is stored is lost."""

    model_config = ConfigDict(**{**ApiModel.model_config, "extra": "allow"})


class NameRef(ApiModel):
    """Another resource of the same namespace, by name."""

    name: Name
    """The resource's name."""


KINDS = {"ProcessCluster": "processclusters", "PolicyCritic": "policycritics", "AutomationGate": "automationgates"}
"""The custom resources: kind to plural."""
