"""Losses for image retrieval, to be passed to `compile`.

All losses run on every Keras backend and compute in float32. There are these groups:

- Losses on tuples (`on_tuples`). y_pred contains the D-dimensional descriptors (B, M, D) of B tuples of M photos: a
  query, its positive or positives, and its negatives. y_true is ignored, because the position of a photo in its tuple
  defines its role.
- Losses on labels (`on_labels`) compare all photos of a batch. y_true contains an integer label for each photo, the
  number of its object. Labels must be below 2^24, because Keras converts them to float32.
- The multi-similarity loss (`multi_similarity`) and its memory of earlier batches are losses on labels, too, and can
  leave pairs of labels out.
- Losses on classes (`on_classes`) have trainable class centres. y_true contains the class of each photo.
- The InfoNCE loss (`info_nce`), a softmax of each positive against the negatives of the batch, is one, too.
- The penalty `KeptDescriptors` keeps what a network gave before training.
- The loss on boxes (`on_boxes`) trains region proposals.
"""

from .info_nce import InfoNCELoss as InfoNCELoss
from .kept_descriptors import KeptDescriptors as KeptDescriptors
from .multi_similarity import CrossBatchMemory as CrossBatchMemory
from .multi_similarity import MultiSimilarityLoss as MultiSimilarityLoss
from .on_boxes import ProposalLoss as ProposalLoss
from .on_classes import ArcFaceLoss as ArcFaceLoss
from .on_classes import CosFaceLoss as CosFaceLoss
from .on_labels import AveragePrecisionLoss as AveragePrecisionLoss
from .on_labels import BatchHardTripletLoss as BatchHardTripletLoss
from .on_labels import SemiHardTripletLoss as SemiHardTripletLoss
from .on_tuples import ContrastiveLoss as ContrastiveLoss
from .on_tuples import TripletLoss as TripletLoss
from .on_tuples import WeaklySupervisedRankingLoss as WeaklySupervisedRankingLoss
