"""The benchmark: transposed convolutions of real models, against torch on the same machine."""
