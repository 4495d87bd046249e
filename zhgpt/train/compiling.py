"""``train.compile`` agreed on by all ranks, with inductor's results kept from one start to the next."""

from zhgpt.distributed.environment import keep_inductor_results
from zhgpt.distributed.process_group import Ranks
from zhgpt.model.compiling import CompileChoice, choose_compile, compiler_problem


def agree_on_compiling(requested: str, zero_stage: int, ranks: Ranks) -> CompileChoice:
    """The same choice on every rank: a host without a compiler decides for all. Reached by all ranks.

    Args:
        requested: ``train.compile``.
        zero_stage: of the DeepSpeed JSON.
        ranks: all ranks.

    Raises:
        SettingError: ``blocks`` is asked for and some rank cannot compile.
    """

    def problem_of_any() -> str | None:
        keep_inductor_results()
        found = zip(ranks.gather(compiler_problem(ranks.device)), ranks.host_names, strict=True)
        return next((f"{problem} on {host}" for problem, host in found if problem is not None), None)

    return choose_compile(requested, ranks.device.type, zero_stage, problem_of_any)


def compile_notices(choice: CompileChoice) -> list[str]:
    """What the user should know: that blocks are compiled, or that they should have been and are not."""
    return [choice.reason] if choice.reason and (choice.blocks or choice.fell_back) else []
