"""The pair fold on GPUs: the operators' kernels."""
