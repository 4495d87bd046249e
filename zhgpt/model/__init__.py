"""The decoder: GPT-2 or the modern recipe, its attention backends, its loss and its arithmetic.

Shape legend, used as suffixes of tensor names everywhere in this package:

    B  micro batch (sequences)      D  hidden size            H  attention heads (G: key/value heads)
    S  sequence length              K  size of one head       F  feed-forward size
    T  tokens, B * S                V  padded vocabulary      N  packed documents of a micro batch
"""
