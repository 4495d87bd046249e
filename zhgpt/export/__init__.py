"""Models out of a run: transformers folders, checked against the engine, and text from them."""
