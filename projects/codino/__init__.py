"""Co-DINO: a detector with object queries and collaborative auxiliary heads, on Detectron2.

From the papers Deformable DETR (arXiv 2010.04159), DINO (2203.03605) and Co-DETR (2211.12860).
"""

from .auxiliary import ATSSAuxiliary, RoIAuxiliary
from .denoising import Denoising
from .detector import CoDINO
from .query_head import QueryHead

__all__ = ["ATSSAuxiliary", "CoDINO", "Denoising", "QueryHead", "RoIAuxiliary"]
