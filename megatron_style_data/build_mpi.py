"""A build whose shares are encoded by MPI ranks: ``mpiexec -n 9 zhgpt data build --mpi …`` has eight that encode.

Needs mpi4py (``pip install zhgpt[mpi]``) and a file system that all ranks see.
"""

from typing import Any

from megatron_style_data.build import assemble, build_share
from megatron_style_data.build_settings import BuildResult, BuildSettings, Report, silent
from megatron_style_data.errors import SettingError

# More shares than ranks, so that a rank with little to do takes from one that has much.
_SHARES_A_RANK = 2


def build_under_mpi(settings: BuildSettings, report: Report = silent) -> BuildResult | None:
    """Builds a dataset with all ranks of ``MPI.COMM_WORLD``; every rank calls this.

    Args:
        settings: The build; ``workers`` processes encode for each rank.
        report: Told on rank 0 how far the last step is.

    Returns:
        The result on rank 0, None elsewhere.

    Raises:
        SettingError: There is no mpi4py. Also what ``build`` raises, on rank 0.
    """
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except ImportError as error:
        raise SettingError(f"mpi4py cannot be loaded ({error}); pip install 'zhgpt[mpi]' brings it.") from error
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as entered:
        executor: Any = entered  # the stub says nothing of an executor's methods
        if executor is None:  # this rank has served and is done
            return None
        shares = _SHARES_A_RANK * max(1, MPI.COMM_WORLD.Get_size() - 1)
        encoded = [executor.submit(build_share, settings, share, shares) for share in range(1, shares + 1)]
        for one in encoded:
            one.result()
    return assemble(settings, report)
