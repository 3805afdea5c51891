"""``polyphase check``: every transposed convolution of a model, its faults and what mends them."""
