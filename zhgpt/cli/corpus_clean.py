"""``zhgpt corpus clean``."""


def clean() -> None:
    """To come."""
    raise NotImplementedError
