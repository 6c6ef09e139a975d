"""The family of variational autoencoders of groups, GVAE, ML-VAE and CxVAE (reference 3), in pieces.

YAML names them in `group_encoder: {type: DeepSets}`, `decoder: {type: Network}` and
`regulariser: {type: LeaveOneOut}`; published are

    GVAE      group_encoder: Mean      instance_encoder: {conditional: false}   regulariser: none
    ML-VAE    group_encoder: Product   instance_encoder: {conditional: false}   regulariser: none
    Nemeth's  group_encoder: Mean      instance_encoder: {conditional: false}   regulariser: Nemeth
    CxVAE     group_encoder: DeepSets  instance_encoder: {conditional: true}    regulariser: LeaveOneOut

In the authors' code of reference 3 the group encoder is a DeepSets whatever was asked: its mean and its
product run over an axis of length 1.  What it calls GVAE and ML-VAE is group_encoder: DeepSets with
instance_encoder: {conditional: false}.
"""

from hepdecorr.learning.groups.decoders import Decoder as Decoder
from hepdecorr.learning.groups.decoders import ExamScores, Network
from hepdecorr.learning.groups.encoders import DeepSets, Mean, Product
from hepdecorr.learning.groups.encoders import GroupEncoder as GroupEncoder
from hepdecorr.learning.groups.regularisers import LeaveOneOut, Nemeth
from hepdecorr.learning.groups.regularisers import Regulariser as Regulariser

__all__ = ["DeepSets", "ExamScores", "LeaveOneOut", "Mean", "Nemeth", "Network", "Product"]
