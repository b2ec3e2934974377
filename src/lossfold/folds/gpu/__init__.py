"""What the GPU kernels of all folds have in common."""
