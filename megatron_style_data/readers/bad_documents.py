"""What happens to a document that cannot be read, the same way in every reader: counted with its place, or refused."""

from dataclasses import dataclass

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers.counters import DROP_REASONS, ReadCounters
from megatron_style_data.readers.inputs import InputFile
from megatron_style_data.readers.options import ReadOptions

_REPAIRS = {
    "invalid_utf8": "expected UTF-8 (a Chinese file may be GB18030: iconv -f GB18030 -t UTF-8 converts it)",
    "not_json": "expected one JSON object a line",
    "no_text": "expected a string",
    "too_long": "expected a shorter document (max_document_bytes)",
}


@dataclass(frozen=True, slots=True)
class BadDocuments:
    """Takes the bad documents of one file.

    Attributes:
        file: The file being read.
        options: Says whether to skip or to refuse.
        counters: Where skipped documents are counted.
    """

    file: InputFile
    options: ReadOptions
    counters: ReadCounters

    def take(self, reason: str, place: str, found: str) -> None:
        """Counts a bad document, or refuses the file.

        Args:
            reason: A key of ``DROP_REASONS`` other than ``empty``.
            place: Where in the file, such as ``line 7``.
            found: What is there.

        Raises:
            BadDataError: With ``on_bad="refuse"``.
        """
        where = f"{self.file.path}, {place}: {found}"
        if self.options.on_bad == "refuse":
            raise BadDataError(
                f"{where}; {_REPAIRS[reason]}. Repair it, or skip what is {DROP_REASONS[reason]} (on_bad=skip)."
            )
        self.counters.drop(reason, where)

    def decode(self, content: bytes, place: str, first_line: int | None = None) -> str | None:
        """The text of UTF-8 ``content``; None if it was bad and counted.

        Args:
            content: The bytes.
            place: Where they begin, for messages.
            first_line: Number of their first line, where the message should name the line of the bad byte.

        Raises:
            BadDataError: Invalid UTF-8 with ``on_bad="refuse"``.
        """
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            before = content[: error.start]
            if first_line is not None:
                lines_before = before.count(b"\n")
                place = f"line {first_line + lines_before}"
            column = len(before) - (before.rfind(b"\n") + 1) + 1
            self.take("invalid_utf8", place, f"byte {column} is 0x{content[error.start]:02x}, which is not UTF-8")
            return None
