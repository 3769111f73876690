"""Keras layers for image retrieval: poolings, aggregators, whitening, normalisation and region proposals.

All layers run on every Keras backend, and those that take feature maps take them in any size. Those of a trunk compute
in the precision of their dtype policy, all others in float32 under every policy.
"""

from .boq import BoQ as BoQ
from .class_token import ClassToken as ClassToken
from .cosplace import CosPlace as CosPlace
from .depthwise_convolution import DepthwiseConvolution as DepthwiseConvolution
from .edge_filter import EdgeFilter as EdgeFilter
from .edge_strength import EdgeStrength as EdgeStrength
from .fit_to_patches import FitToPatches as FitToPatches
from .fixed_size import FixedSize as FixedSize
from .gem import GeM as GeM
from .l2_normalization import L2Normalization as L2Normalization
from .mac import MAC as MAC
from .mixvpr import MixVPR as MixVPR
from .netvlad import NetVLAD as NetVLAD
from .normalized_mean import NormalizedMean as NormalizedMean
from .patch_embedding import PatchEmbedding as PatchEmbedding
from .pixel_normalization import PixelNormalization as PixelNormalization
from .power_mean import PowerMean as PowerMean
from .region_proposals import RegionProposals as RegionProposals
from .regional_pooling import RegionalPooling as RegionalPooling
from .relup import ReLUP as ReLUP
from .rescaling import Rescaling as Rescaling
from .rmac import RMAC as RMAC
from .rotary_positions import RotaryPositions as RotaryPositions
from .salad import SALAD as SALAD
from .spoc import SPoC as SPoC
from .superglobal import SuperGlobal as SuperGlobal
from .token_map import TokenMap as TokenMap
from .token_sequence import TokenSequence as TokenSequence
from .transformer_block import TransformerBlock as TransformerBlock
from .whitening import Whitening as Whitening
