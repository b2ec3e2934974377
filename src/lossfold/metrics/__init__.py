"""Metrics of class maps, of alpha mattes, of restored images and of depth.

Of class maps: counts that add over batches, tiles and ranks, and the ratios read from them. Of mattes, restored images and depth:
sums over images.
"""

from lossfold.metrics.accumulators import Accumulator as Accumulator
from lossfold.metrics.accumulators import Accuracy as Accuracy
from lossfold.metrics.accumulators import BinaryDice as BinaryDice
from lossfold.metrics.accumulators import BinaryIoU as BinaryIoU
from lossfold.metrics.accumulators import Confusion as Confusion
from lossfold.metrics.accumulators import Dice as Dice
from lossfold.metrics.accumulators import IoU as IoU
from lossfold.metrics.boundaries import boundary_counts as boundary_counts
from lossfold.metrics.boundaries import boundary_f1 as boundary_f1
from lossfold.metrics.boundaries import boundary_iou as boundary_iou
from lossfold.metrics.depth import DepthMetrics as DepthMetrics
from lossfold.metrics.depth import abs_rel as abs_rel
from lossfold.metrics.depth import delta1 as delta1
from lossfold.metrics.depth import rmse as rmse
from lossfold.metrics.depth import rmse_log as rmse_log
from lossfold.metrics.depth import silog as silog
from lossfold.metrics.depth import sq_rel as sq_rel
from lossfold.metrics.functions import accuracy as accuracy
from lossfold.metrics.functions import confusion as confusion
from lossfold.metrics.functions import dice as dice
from lossfold.metrics.functions import dice_binary as dice_binary
from lossfold.metrics.functions import iou as iou
from lossfold.metrics.functions import iou_binary as iou_binary
from lossfold.metrics.matting import MattingMetrics as MattingMetrics
from lossfold.metrics.matting import matting_conn as matting_conn
from lossfold.metrics.matting import matting_grad as matting_grad
from lossfold.metrics.matting import matting_mse as matting_mse
from lossfold.metrics.matting import matting_sad as matting_sad
from lossfold.metrics.means import Betti0Error as Betti0Error
from lossfold.metrics.means import BoundaryF1 as BoundaryF1
from lossfold.metrics.means import CLDice as CLDice
from lossfold.metrics.means import Hausdorff95 as Hausdorff95
from lossfold.metrics.means import SurfaceDistance as SurfaceDistance
from lossfold.metrics.restoration import RestorationMetrics as RestorationMetrics
from lossfold.metrics.restoration import psnr as psnr
from lossfold.metrics.restoration import ssim as ssim
from lossfold.metrics.shapes import betti0_error as betti0_error
from lossfold.metrics.shapes import cldice as cldice
from lossfold.metrics.shapes import hausdorff95 as hausdorff95
from lossfold.metrics.shapes import surface_distance as surface_distance
