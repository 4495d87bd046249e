"""Checkpoints that exist completely or not at all: layout, save, load, and fp32 weights out of any ZeRO stage."""
