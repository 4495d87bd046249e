"""The special tokens every tokenizer trained here starts with, in the order of their ids."""

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
CHAT_START = "<|im_start|>"
CHAT_END = "<|im_end|>"
RESERVED_SLOTS = 12

SPECIAL_TOKENS: tuple[str, ...] = (
    END_OF_TEXT,
    PADDING,
    CHAT_START,
    CHAT_END,
    *(f"<|reserved_{slot}|>" for slot in range(RESERVED_SLOTS)),
)

# Names of the token that ends a document, the likeliest first, for tokenizers made elsewhere that do not say.
END_OF_TEXT_NAMES = (END_OF_TEXT, "<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>", "<|eos|>")
