"""``zhgpt corpus deduplicate``."""


def deduplicate() -> None:
    """To come."""
    raise NotImplementedError
