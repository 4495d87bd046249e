"""The training loop."""

from zhgpt.errors import StoppedBySignal
from zhgpt.train.held_out import evaluate
from zhgpt.train.roll_back import roll_back_if_wanted
from zhgpt.train.stop import agreed_signal, describe_signal
from zhgpt.train.training import Training, evaluation_is_due, is_due, measure, save, save_is_due, train_step


def train(training: Training) -> None:
    """Runs from the first step to the last.

    Every rank reaches every call below the same number of times: what differs between ranks (a signal, a full disk) is
    agreed on before it is acted on.

    Raises:
        StoppedBySignal: any rank was asked to stop; all have saved the step they had reached.
        DivergedError: the loss or gradient norm is no longer finite.
        StorageError: a checkpoint, metrics or text samples could not be written.
    """
    done = training.first_step
    while done < training.plan.steps:
        result = train_step(training, done)
        earlier = roll_back_if_wanted(training)
        if earlier is not None:
            done = earlier
            continue
        done += 1
        stop_signal = agreed_signal(training.ranks, training.stop, training.outputs.problem)

        if is_due(training, done) or stop_signal != 0:
            record = measure(training, done, result)
            samples = evaluate(training, record) if evaluation_is_due(training, done) else []
            training.outputs.step(record, samples)
        if save_is_due(training, done) or stop_signal != 0:
            save(training, done)
        if stop_signal != 0 and done < training.plan.steps:
            raise StoppedBySignal(
                f"{describe_signal(stop_signal)} after step {done} of {training.plan.steps}: checkpoint saved; start the "
                "same command again to go on"
            )
    agreed_signal(training.ranks, training.stop, training.outputs.problem)  # a signal is late now, a full disk is not
