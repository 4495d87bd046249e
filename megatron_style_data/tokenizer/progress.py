"""How training tells how far it is."""

from collections.abc import Callable

# Called now and then with what is being done and the share of the whole training that is behind, from 0 to 1; None where
# the library that trains does not say.
Progress = Callable[[str, float | None], None]
