"""`lossfold train restoration`: a network that enlarges images, or takes noise and other faults away."""
