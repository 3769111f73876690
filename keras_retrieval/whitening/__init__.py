"""Learned whitening and linear adaptation of descriptors, in numpy.

`learn_lw` learns Lw from matching pairs, and `learn_pca` learns PCA whitening, both from covariance matrices.
`learn_pca_from_gram` learns PCA whitening of descriptors with very many dimensions from their Gram matrix.
`learn_linear` learns a supervised linear adaptation from descriptors of objects.
"""

from .covariance import Moments as Moments
from .covariance import PairMoments as PairMoments
from .covariance import Projection as Projection
from .covariance import fit_lw as fit_lw
from .covariance import fit_pca as fit_pca
from .covariance import learn_lw as learn_lw
from .covariance import learn_pca as learn_pca
from .covariance import lw_shrinkage as lw_shrinkage
from .gram_pca import learn_pca_from_gram as learn_pca_from_gram
from .linear import Strength as Strength
from .linear import learn_linear as learn_linear
