"""What happens to a document that cannot be read, the same way in every reader: counted with its place, or refused."""

from dataclasses import dataclass

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers.counters import DROP_REASONS, ReadCounters
from megatron_style_data.readers.encodings import reads_as_gb18030
from megatron_style_data.readers.input_file import InputFile
from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.quarantine import quarantine

_REPAIRS = {
    "invalid_utf8": "expected UTF-8 (a Chinese file may be GB18030: the option encoding gb18030 reads it, "
    "iconv -f GB18030 -t UTF-8 converts it)",
    "invalid_gb18030": "expected GB18030, as the option encoding says",
    "not_json": "expected one JSON object a line",
    "no_text": "expected a string",
    "too_long": "expected a shorter document (max_document_bytes; a long text file may be cut at blank lines)",
}


@dataclass(frozen=True, slots=True)
class BadDocuments:
    """Takes the bad documents of one file.

    Attributes:
        file: The file being read.
        options: Says whether to skip or to refuse.
        counters: Where skipped documents are counted.
        encoding: Of the file, ``utf-8`` or ``gb18030``.
    """

    file: InputFile
    options: ReadOptions
    counters: ReadCounters
    encoding: str = "utf-8"

    def take(self, reason: str, place: str, found: str, content: bytes | None = None) -> None:
        """Counts a bad document and puts it aside, or refuses the file.

        Args:
            reason: A key of ``DROP_REASONS`` other than ``empty``.
            place: Where in the file, such as ``line 7``.
            found: What is there.
            content: Its bytes, for the quarantine; None where they were not held.

        Raises:
            BadDataError: With ``on_bad="refuse"``, and with more bad documents than ``max_bad``.
            StorageError: The quarantine cannot be written.
        """
        where = f"{self.file.path}, {place}: {found}"
        if self.options.on_bad == "refuse":
            raise BadDataError(
                f"{where}; {_REPAIRS[reason]}. Repair it, or skip what is {DROP_REASONS[reason]} (on_bad=skip)."
            )
        self.counters.drop(reason, where)
        if self.counters.quarantine is not None:
            quarantine(self.counters.quarantine, self.file, reason, place, found, content)
        refuse_too_many(self.counters, self.options)

    def decode(self, content: bytes, place: str, first_line: int | None = None) -> str | None:
        """The text of ``content``, which is in ``encoding``; None if it was bad and counted.

        Args:
            content: The bytes.
            place: Where they begin, for messages.
            first_line: Number of their first line, where the message should name the line of the bad byte.

        Raises:
            BadDataError: Invalid bytes with ``on_bad="refuse"``.
        """
        try:
            return content.decode(self.encoding)
        except UnicodeDecodeError as error:
            before = content[: error.start]
            if first_line is not None:
                lines_before = before.count(b"\n")
                place = f"line {first_line + lines_before}"
            column = len(before) - (before.rfind(b"\n") + 1) + 1
            found = f"byte {column} is 0x{content[error.start]:02x}, which is not {self.encoding.upper()}"
            if self.encoding == "utf-8" and reads_as_gb18030(content):
                found += ", but all of it reads as GB18030"
            self.take(f"invalid_{self.encoding.replace('-', '')}", place, found, content)
            return None


def refuse_too_many(counters: ReadCounters, options: ReadOptions) -> None:
    """Stops a reading in which more documents are bad than ``options.max_bad`` lets pass.

    Raises:
        BadDataError: Names how many of which kind, and the first places.
    """
    if options.max_bad is None or counters.bad <= options.max_bad:
        return
    found = "; ".join(line for line in counters.dropped_in_words(only_bad=True))
    raise BadDataError(
        f"{counters.bad} bad documents, more than max_bad {options.max_bad}: {found}. "
        "Look at these places, repair the files or read them with another format or encoding, or raise max_bad."
    )
