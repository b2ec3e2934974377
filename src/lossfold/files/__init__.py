"""Image files as NumPy arrays: read right, in their own range, and found and paired; needs NumPy and Pillow, no torch.

What `train`, `predict` and `score` read goes through here. TIFFs are read by tifffile, PNGs and JPEG 2000
with 16 bits in each of several channels by imagecodecs, as Pillow would cut these to 8 bits: `pip install "lossfold[files]"`.
"""

from lossfold.files.errors import FileError as FileError
from lossfold.files.mattes import read_alpha as read_alpha
from lossfold.files.mattes import read_trimap as read_trimap
from lossfold.files.pairing import Pairs as Pairs
from lossfold.files.pairing import find as find
from lossfold.files.pairing import pair as pair
from lossfold.files.pairing import some as some
from lossfold.files.read import Opened as Opened
from lossfold.files.read import out_of_range as out_of_range
from lossfold.files.read import range_of as range_of
from lossfold.files.read import read_image as read_image
from lossfold.files.read import read_mask as read_mask
from lossfold.files.read import read_numbers as read_numbers
from lossfold.files.read import read_window as read_window
from lossfold.files.read import size_of as size_of
from lossfold.files.sources import suffixes as suffixes
