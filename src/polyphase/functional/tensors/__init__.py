"""The functions on PyTorch tensors; imported when the first tensor comes."""
