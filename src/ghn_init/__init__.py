"""Initialise neural networks with predicted weights instead of random ones.

`initialize(model)` reads the computational graph of any `torch.nn.Module` and predicts all its parameters with a pretrained
graph hypernetwork, in one forward pass.
"""

from ghn_init import timm as timm
from ghn_init.api import initialize, predict
from ghn_init.checkpoints.load import DEFAULT, load
from ghn_init.comparison import Comparison, compare
from ghn_init.errors import (
    ArchitectureError,
    CheckpointError,
    ComparisonError,
    GHNInitError,
    ModelSpecError,
    RecalibrationError,
    ShapeMismatchError,
    StrictError,
    TraceError,
    TrainingError,
    UnsupportedModelError,
    VerificationError,
)
from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GHN
from ghn_init.models import stem as small_images
from ghn_init.models.batch_norm import recalibrate_batchnorm
from ghn_init.prediction.conditioning import Conditioning
from ghn_init.prediction.prediction import Prediction
from ghn_init.prediction.report import Report
from ghn_init.tracing.trace import trace
from ghn_init.training.curve import Progress
from ghn_init.training.loop import TrainConfig, train

__all__ = [
    "DEFAULT",
    "GHN",
    "ArchitectureError",
    "CheckpointError",
    "Comparison",
    "ComparisonError",
    "Conditioning",
    "GHNConfig",
    "GHNInitError",
    "Graph",
    "ModelSpecError",
    "Node",
    "Prediction",
    "Progress",
    "RecalibrationError",
    "Report",
    "ShapeMismatchError",
    "StrictError",
    "TraceError",
    "TrainConfig",
    "TrainingError",
    "UnsupportedModelError",
    "VerificationError",
    "compare",
    "initialize",
    "load",
    "predict",
    "recalibrate_batchnorm",
    "trace",
    "train",
]

__version__ = "0.1.0"
