"""Texts to compare tokenizers on: an even sample of each domain of a corpus."""

from collections.abc import Sequence

from megatron_style_data.errors import SettingError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, read_documents, refuse_empty_corpus
from megatron_style_data.tokenizer.lowest_hashes import LowestHashes

# A plot or a table of more domains says nothing.
_MOST_DOMAINS = 24


def texts_by_domain(
    files: Sequence[InputFile],
    options: ReadOptions,
    counters: ReadCounters,
    *,
    domain_bytes: int,
    field: str | None = None,
) -> dict[str, list[str]]:
    """Draws at most ``domain_bytes`` UTF-8 bytes of text of each domain, the same whatever the order.

    Args:
        files: The corpus.
        options: How to read it.
        counters: Counts what is read and dropped.
        domain_bytes: Most UTF-8 bytes of a domain.
        field: The field of the records that names their domain; None: each file is one.

    Raises:
        SettingError: A record without the field, or more domains than a table can show.
        BadDataError: The corpus is empty, or what ``read_documents`` raises.
    """
    samples: dict[str, LowestHashes] = {}
    for file in files:
        for document in read_documents(file, options, counters):
            domain = document.source if field is None else document.fields.get(field)
            if not isinstance(domain, str):
                raise SettingError(
                    f"{document.path}, {document.place}: no text in the field {field!r}; fields found: "
                    f"{', '.join(map(repr, document.fields)) or 'none'}; name one that every record has."
                )
            if domain not in samples:
                if len(samples) == _MOST_DOMAINS:
                    raise SettingError(
                        f"{document.path}: more than {_MOST_DOMAINS} domains; compare fewer files, or by a field with "
                        f"fewer values."
                    )
                samples[domain] = LowestHashes(domain_bytes)
            samples[domain].offer(document.text)
    if not samples:
        refuse_empty_corpus(files, counters)
    return {domain: [chunk for _, chunk in samples[domain].chunks()] for domain in sorted(samples)}
