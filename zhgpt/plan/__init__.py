"""What a run will need and reach, known before it starts."""
