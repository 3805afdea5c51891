"""Kernel builders: one method a file, each from a frozen shape to LLVM IR text."""
