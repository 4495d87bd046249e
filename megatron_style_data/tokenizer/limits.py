"""How much text a tokenizer is trained on, unless one is asked for more or less."""

# UTF-8 bytes. From 10 to 50 MB of Chinese the compression gains about one per cent; memory and time grow with it.
DEFAULT_SAMPLE_BYTES = 64_000_000
# UTF-8 bytes read to draw that sample.
DEFAULT_SCAN_BYTES = 8_000_000_000
