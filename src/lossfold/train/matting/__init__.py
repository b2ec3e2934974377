"""`lossfold train matting`: a network that takes an image and its trimap, and says how opaque every pixel is."""
