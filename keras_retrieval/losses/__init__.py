"""Losses for image retrieval, to be passed to `compile`.

All losses run on every Keras backend and compute in float32. There are three groups:

- Losses on tuples (`on_tuples`). y_pred contains the D-dimensional descriptors (B, M, D) of B tuples of M photos: a
  query, its positive or positives, and its negatives. y_true is ignored, because the position of a photo in its tuple
  defines its role.
- Losses on labels (`on_labels`) compare all photos of a batch. y_true contains an integer label for each photo, the
  number of its object. Labels must be below 2^24, because Keras converts them to float32.
- The loss on boxes (`on_boxes`) trains region proposals.
"""

from .on_boxes import ProposalLoss as ProposalLoss
from .on_labels import AveragePrecisionLoss as AveragePrecisionLoss
from .on_labels import BatchHardTripletLoss as BatchHardTripletLoss
from .on_labels import SemiHardTripletLoss as SemiHardTripletLoss
from .on_tuples import ContrastiveLoss as ContrastiveLoss
from .on_tuples import TripletLoss as TripletLoss
from .on_tuples import WeaklySupervisedRankingLoss as WeaklySupervisedRankingLoss
