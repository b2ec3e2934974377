"""`lossfold train segmentation`: a network that labels every pixel, with class losses or losses of single channels."""
