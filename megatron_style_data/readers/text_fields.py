"""Which JSON field or Parquet column holds the text."""

from collections.abc import Sequence

from megatron_style_data.errors import BadDataError

TEXT_FIELDS = ("text", "content")


def choose_text_field(where: str, names: Sequence[str], texts: Sequence[str], asked: str | None) -> str:
    """Returns the name of the text field.

    Args:
        where: File and place, for the message.
        names: All field names there.
        texts: Those of ``names`` that hold a string.
        asked: The field the user named; None: the first of ``TEXT_FIELDS`` that is a string.

    Raises:
        BadDataError: No such field; says which fields there are and what to pass.
    """
    for name in TEXT_FIELDS if asked is None else (asked,):
        if name in texts:
            return name
    listing = ", ".join(repr(name) + ("" if name in texts else " (not a string)") for name in names) or "none"
    wanted = " or ".join(map(repr, TEXT_FIELDS)) if asked is None else repr(asked)
    raise BadDataError(
        f"{where}: no text field {wanted}; fields found: {listing}. "
        f"Name the field that holds the text: --text-field NAME."
    )
