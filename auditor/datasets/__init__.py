"""Files that hold many images: NumPy arrays, IDX, CIFAR batches."""
