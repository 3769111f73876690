"""Losses of image retrieval: `loss(y_true, y_pred)` for compile, on every Keras backend, in float32 inside.

y_pred holds the descriptors (B, M, D) of B tuples of M photos, in the order q, p, n1 .. nN. Losses on tuples read what
matches from the place in the tuple. Losses on labels compare all photos of a batch, and y_true says which object each
shows, as a whole number below 2^24: Keras hands it over in float32.
"""

from .on_boxes import ProposalLoss as ProposalLoss
from .on_labels import AveragePrecisionLoss as AveragePrecisionLoss
from .on_labels import BatchHardTripletLoss as BatchHardTripletLoss
from .on_labels import SemiHardTripletLoss as SemiHardTripletLoss
from .on_tuples import ContrastiveLoss as ContrastiveLoss
from .on_tuples import TripletLoss as TripletLoss
from .on_tuples import WeaklySupervisedRankingLoss as WeaklySupervisedRankingLoss
