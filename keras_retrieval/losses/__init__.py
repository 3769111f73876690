"""Losses of image retrieval for `compile`: they run on every Keras backend and compute in float32.

y_pred contains the descriptors (B, M, D) of B tuples of M photos, in the order q, p, n1 .. nN. Losses on tuples use
only the positions in the tuple and ignore y_true. Losses on labels compare all photos of a batch; y_true contains the
object of each photo as an integer below 2^24, because Keras converts labels to float32. The loss on boxes trains
region proposals.
"""

from .on_boxes import ProposalLoss as ProposalLoss
from .on_labels import AveragePrecisionLoss as AveragePrecisionLoss
from .on_labels import BatchHardTripletLoss as BatchHardTripletLoss
from .on_labels import SemiHardTripletLoss as SemiHardTripletLoss
from .on_tuples import ContrastiveLoss as ContrastiveLoss
from .on_tuples import TripletLoss as TripletLoss
from .on_tuples import WeaklySupervisedRankingLoss as WeaklySupervisedRankingLoss
