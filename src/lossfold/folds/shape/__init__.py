"""The fold of shapes: sums over what follows from a whole mask, its distances and its skeleton."""
