"""The tokenizer fingerprint: which tokenizer file a dataset or a run was made with."""

import hashlib


def fingerprint_of(content: bytes) -> str:
    """SHA-256 of the bytes of a ``tokenizer.json`` or ``.model`` file, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
