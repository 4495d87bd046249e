"""What a run will take and give, said before it starts: memory, time, money, and what may be expected of the model."""
