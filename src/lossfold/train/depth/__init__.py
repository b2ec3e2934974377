"""`lossfold train depth`: a network that says how far away each pixel of a photograph is."""
