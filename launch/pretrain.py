"""What `deepspeed`, `torchrun`, `srun`, `mpirun` or plain `python` start: one rank of a pretraining run."""

from zhgpt.cli.rank import main

if __name__ == "__main__":
    main()
