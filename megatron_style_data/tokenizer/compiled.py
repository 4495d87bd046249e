"""How numba compiles the functions here.

Nothing is kept on the disk: a cache would be written into the installed package. So compiling counts, and functions that
only compiled code calls go without the wrappers that Python would need.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numpy.typing import NDArray

# What compiled functions take: arrays of several types, and integers of Python or of numpy.
Array = NDArray[Any]
Int = Any

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compiles a function that Python calls, at its first call."""
    return cast(Function, njit(nogil=True)(function))


def compiled_inner(function: Function) -> Function:
    """Compiles a function that only compiled functions call."""
    without_wrappers: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Function, njit(nogil=True, **without_wrappers)(function))
