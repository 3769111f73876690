"""Mining of hard negatives and hard positives, in numpy."""

from .hard_negatives import MiningError as MiningError
from .hard_negatives import mine_negatives as mine_negatives
from .manifolds import mine_manifolds as mine_manifolds
