"""What a newly trained tokenizer must prove before its folder appears."""

from collections.abc import Sequence

from megatron_style_data.tokenizer.protocol import Tokenizer

# With these every byte that UTF-8 uses occurs: all of ASCII and Latin-1, then one text a lead byte.
_EVERY_BYTE = "".join(map(chr, range(0x100))) + "".join(
    chr(point) for point in (*range(0x80, 0x800, 0x40), *range(0x800, 0xD800, 0x1000), 0xE000, 0xF000)
)
_EVERY_PLANE = "".join(chr(plane << 16 | 0x1234) for plane in range(1, 17)) + "".join(
    chr(plane << 16 | low) for plane in (1, 4, 8, 12, 16) for low in range(0, 0x10000, 0x1000)
)


def self_test(tokenizer: Tokenizer, special_tokens: Sequence[str], texts: Sequence[str]) -> None:
    """Checks that every byte can be encoded, that texts come back, and that text cannot spell a special token.

    Args:
        tokenizer: The tokenizer, loaded from its files.
        special_tokens: Names that must be special tokens, in the order of their ids.
        texts: Texts that must come back as they were.

    Raises:
        RuntimeError: One of this does not hold; a bug here or in a library, not in the input.
    """
    for number, name in enumerate(special_tokens):
        if tokenizer.special_tokens.get(name) != number or tokenizer.decode([number]) != name:
            raise RuntimeError(f"self-test: {name} is not the special token {number}")
    for text in (_EVERY_BYTE, _EVERY_PLANE, *special_tokens, *texts):
        ids = tokenizer.encode_batch([text])[0]
        found = tokenizer.decode(ids)
        # sentencepiece writes a space as "▁", so that it cannot tell the two apart.
        expected = text.replace("▁", " ") if tokenizer.kind == "sentencepiece" else text
        if found != expected:
            at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), len(found))
            raise RuntimeError(f"self-test: {expected[at : at + 20]!r} came back as {found[at : at + 20]!r}")
        forged = set(ids) & set(tokenizer.special_tokens.values())
        if forged:
            raise RuntimeError(
                f"self-test: the text {text[:40]!r} was encoded with the special tokens {sorted(forged)}"
            )
