"""Whitening: Lw and PCA learned from covariances, PCA of wide descriptors from their Gram matrix, in numpy."""

from .covariance import Moments as Moments
from .covariance import PairMoments as PairMoments
from .covariance import Projection as Projection
from .covariance import fit_lw as fit_lw
from .covariance import fit_pca as fit_pca
from .covariance import learn_lw as learn_lw
from .covariance import learn_pca as learn_pca
from .gram_pca import learn_pca_from_gram as learn_pca_from_gram
