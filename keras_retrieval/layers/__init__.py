"""Keras layers for image retrieval: poolings, aggregators, whitening, normalisation and region proposals.

All layers run on every Keras backend and compute in float32 under every dtype policy, and those that take feature maps
take them in any size.
"""

from .edge_filter import EdgeFilter as EdgeFilter
from .edge_strength import EdgeStrength as EdgeStrength
from .gem import GeM as GeM
from .l2_normalization import L2Normalization as L2Normalization
from .mac import MAC as MAC
from .netvlad import NetVLAD as NetVLAD
from .pixel_normalization import PixelNormalization as PixelNormalization
from .power_mean import PowerMean as PowerMean
from .region_proposals import RegionProposals as RegionProposals
from .regional_pooling import RegionalPooling as RegionalPooling
from .rescaling import Rescaling as Rescaling
from .rmac import RMAC as RMAC
from .spoc import SPoC as SPoC
from .whitening import Whitening as Whitening
