"""Data of the segmentation task: own folders of images and masks, or tasks composed of packaged photographs."""

from lossfold.train.data.base import SegmentationData as SegmentationData
from lossfold.train.data.collage import CollageData as CollageData
from lossfold.train.data.folders import FolderData as FolderData
from lossfold.train.data.objects import ObjectsData as ObjectsData
