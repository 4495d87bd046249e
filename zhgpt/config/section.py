"""What every section of RunConfig is made of: the base model, and the types of its numbers and switches."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator

from zhgpt.config.values import rate_or_auto, real_number, switch, whole_number

Whole = Annotated[int, BeforeValidator(whole_number)]
Real = Annotated[float, BeforeValidator(real_number)]
RateOrAuto = Annotated[float | Literal["auto"], PlainValidator(rate_or_auto)]
Switch = Annotated[bool, BeforeValidator(switch)]


class Section(BaseModel):
    """Base of all sections: unknown keys refused, frozen, each field's docstring is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())
