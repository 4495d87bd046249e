"""Training: everything is built in order in pretrain.py, and loop.py is the loop."""
