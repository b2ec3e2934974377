"""Data of the tasks: own folders, or packaged photographs and images composed of them."""

from lossfold.train.data.alpha_folders import AlphaFolderData as AlphaFolderData
from lossfold.train.data.augment import Variation as Variation
from lossfold.train.data.base import SegmentationData as SegmentationData
from lossfold.train.data.collage import CollageData as CollageData
from lossfold.train.data.composites import CompositeData as CompositeData
from lossfold.train.data.composites import MattingData as MattingData
from lossfold.train.data.depth_folders import DepthFolderData as DepthFolderData
from lossfold.train.data.depth_maps import DepthData as DepthData
from lossfold.train.data.depth_maps import MotorcycleData as MotorcycleData
from lossfold.train.data.folders import FolderData as FolderData
from lossfold.train.data.images import DigitsData as DigitsData
from lossfold.train.data.images import FacesData as FacesData
from lossfold.train.data.images import GANData as GANData
from lossfold.train.data.images import GANFolderData as GANFolderData
from lossfold.train.data.objects import ObjectsData as ObjectsData
from lossfold.train.data.photographs import PhotographData as PhotographData
from lossfold.train.data.restoration import RestorationData as RestorationData
from lossfold.train.data.restoration_folders import RestorationFolderData as RestorationFolderData
from lossfold.train.data.vessels import VesselsData as VesselsData
