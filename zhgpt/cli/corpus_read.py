"""``zhgpt corpus read``."""


def read() -> None:
    """To come."""
    raise NotImplementedError
