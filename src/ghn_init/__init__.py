"""Initialise neural networks with predicted weights instead of random ones.

`initialize(model)` reads the computational graph of any `torch.nn.Module` and predicts all its parameters with a pretrained
graph hypernetwork, in one forward pass.
"""

from ghn_init.api import initialize, predict
from ghn_init.checkpoint import DEFAULT, load
from ghn_init.errors import (
    CheckpointError,
    GHNInitError,
    ModelSpecError,
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
from ghn_init.prediction import Prediction
from ghn_init.report import Report
from ghn_init.tracing.trace import trace
from ghn_init.training.loop import train

__all__ = [
    "DEFAULT",
    "GHN",
    "CheckpointError",
    "GHNConfig",
    "GHNInitError",
    "Graph",
    "ModelSpecError",
    "Node",
    "Prediction",
    "Report",
    "ShapeMismatchError",
    "StrictError",
    "TraceError",
    "TrainingError",
    "UnsupportedModelError",
    "VerificationError",
    "initialize",
    "load",
    "predict",
    "trace",
    "train",
]

__version__ = "0.1.0"
