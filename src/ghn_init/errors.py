"""Every error that the package raises on purpose."""


class GHNInitError(Exception):
    """Base of all errors of this package."""


class TraceError(GHNInitError):
    """The model's forward pass could not be followed."""


class UnsupportedModelError(GHNInitError):
    """The model holds parameters that can't be predicted into (sharded, offloaded, quantised, complex, lazy, none)."""


class CheckpointError(GHNInitError):
    """A hypernetwork's file or folder is missing, damaged or of another kind."""


class DeviceError(GHNInitError):
    """A device is not known, or not there."""


class ShapeMismatchError(GHNInitError):
    """A parameter can't take what is predicted for it: another shape, no storage, shared or read-only memory."""


class StrictError(GHNInitError):
    """`strict=True` met something that is kept or approximated."""


class TrainingError(GHNInitError):
    """Meta-training can't start, resume or go on with what it was given."""


class ArchitectureError(GHNInitError):
    """No such architecture, split or file of architectures, or one that can't be built."""


class ComparisonError(GHNInitError):
    """A race between inits or networks can't be run with what it was given."""


class EvaluationError(GHNInitError):
    """Accuracies of predicted parameters can't be measured with what was given."""


class VerificationError(GHNInitError):
    """A table of published norms can't be used."""


class ModelSpecError(GHNInitError):
    """A name or arguments from which no model can be built, or no initialised one."""


class RecalibrationError(GHNInitError):
    """Running statistics can't be computed from the batches that a loader yields."""


class HeadError(GHNInitError):
    """A classification head can't be fitted: none was found, or images, labels or features are not what a fit needs."""
