"""Step ``personal_data``: mobile phone numbers, identity card numbers and e-mail addresses become fixed marks."""

import datetime
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Count, StepSettings

# Neither inside a longer number nor after a decimal point. ASCII digits only: full-width ones are step width's.
_PHONE = re.compile(r"(?<![0-9.])(?:(?:\+|00)?86[- ]?)?1[3-9][0-9](?:([- ])[0-9]{4}\1[0-9]{4}|[0-9]{8})(?![0-9])")
_IDENTITY_CARD = re.compile(r"(?<![0-9.])[1-9][0-9]{5}(?:18|19|20)[0-9]{9}[0-9Xx](?![0-9A-Za-z])")
# Not git@host.com:path and @object.method(…), which are code.
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![A-Za-z0-9_(]|:[^\s:])"
)
# GB 11643-1999: weights of the first 17 digits, and the check character by their sum modulo 11.
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"


class PersonalDataSettings(StepSettings):
    """Settings of ``personal_data``. A mark of ``null`` leaves that kind alone."""

    phone_mark: str | None = Field(default="[手机号]", description="Written for a mobile phone number of China.")
    identity_card_mark: str | None = Field(
        default="[身份证号]", description="For an 18-digit card number whose checksum holds."
    )
    email_mark: str | None = Field(default="[邮箱]", description="Written for an e-mail address.")
    maximum_masked: Count | None = Field(
        default=None, description="Most marks in one text; a list of customers has more."
    )


def prepare(settings: PersonalDataSettings) -> StepFunction:
    """The step with these settings."""

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        masked = 0

        def card(found: re.Match[str]) -> str:
            nonlocal masked
            if settings.identity_card_mark is None or not is_identity_card(found.group()):
                return found.group()
            masked += 1
            return settings.identity_card_mark

        left = _IDENTITY_CARD.sub(card, text)
        for mark, pattern, hint in ((settings.phone_mark, _PHONE, "1"), (settings.email_mark, _EMAIL, "@")):
            if mark is not None and hint in left:
                left, count = pattern.subn(mark.replace("\\", r"\\"), left)
                masked += count
        measure = Measure("masked", masked, high=settings.maximum_masked)
        return Outcome(left if masked else text, (measure,), masked)

    return run


def is_identity_card(number: str) -> bool:
    """Whether an 18-character number has a date of birth that exists and the right check character."""
    try:
        datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number[:17], strict=True))
    return _CHECKS[total % 11] == number[17].upper()
