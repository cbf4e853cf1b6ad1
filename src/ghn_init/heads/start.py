"""Where fine-tuning on the user's data starts: predicted parameters, batch norms that saw the data, a head fitted to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn

from ghn_init.errors import HeadError, RecalibrationError
from ghn_init.heads.fit import NothingToFitError, fit_on
from ghn_init.models.batch_norm import recalibrate_, unfrozen_norms
from ghn_init.models.batches import Batches, labels_of
from ghn_init.models.restored import restored_on_failure
from ghn_init.prediction.prediction import Prediction
from ghn_init.prediction.report import Report
from ghn_init.prediction.selection import EXCLUDED, NO_HEAD, NOT_AMONG_ONLY, Head
from ghn_init.tracing.unwrap import unwrap


def why_not_fitted(batches: Batches, head: Head) -> str:
    """Why the head is not to be fitted, as far as that is known before the model is read; empty where it is.

    Backbones may come with labelled images, too. A head that the caller asks the hypernetwork for, by True or by a task's name,
    is that one.
    """
    if labels_of(batches.first) is None:
        return "the data have no labels"
    if getattr(batches.model, "num_classes", None) == 0:  # timm's mark of a model whose last layer is one like the others
        return "num_classes is 0"
    return f"head={head!r} asks for the predicted one" if head is True or head not in ("auto", False) else ""


def start_(prediction: Prediction, batches: Batches, why_not: str, also_kept: Collection[str] = ()) -> Report:
    """Writes a prediction, recalibrates batch norms, fits the head unless there is a reason not to; all of it or nothing.

    Norms that are left out, and frozen ones that were not predicted, keep their statistics.

    Args:
        prediction: For the model, without its head where that is to be fitted.
        batches: Of the same model, inside of its wrappers.
        why_not: Of `why_not_fitted`.
        also_kept: Dotted names among those left out whose norms see the data nonetheless, since it wasn't the caller's wish.

    Returns:
        The prediction's report, which says what was done with the data.

    Raises:
        HeadError: As `fit_head_`.
        RecalibrationError: As `recalibrate_batchnorm`.
        ShapeMismatchError: As `Prediction.apply_`.
    """
    model = prediction.model
    _, prefix = unwrap(model)
    head = [name for node in prediction.graph.nodes if node.head for name in node.parameters]
    out = left_out(prediction)
    if not why_not and not head:
        why_not = "the model has none that was found"
    if not why_not:
        why_not = next((f"'{name}' is {out[name]}" for name in head if name in out), "")
    report = without_head(
        prediction.report, f"no head was fitted: {why_not}" if why_not else "not among those that were fitted"
    )
    norms = norms_to_set(prediction, batches.model, out.keys() - set(also_kept))
    recalibrated = ["batch norms recalibrated on the data"] if norms else []
    with restored_on_failure([*model.parameters(), *model.buffers()]):
        prediction.write_()
        try:
            fit = None if why_not else fit_on(batches, prefix, norms, out, prediction.overwritten)
        except NothingToFitError as error:  # what the first output comes from may be none of the graph's heads
            fit, why_not = None, str(error).removesuffix(".")
        except RecalibrationError as error:
            raise HeadError(str(error)) from error
        if fit is not None:
            prediction.copy_statistics_()
            report = report.with_reasons(dict.fromkeys(fit.frozen, "classification head, frozen beside trainable parameters"))
            return report.with_data(", ".join([*recalibrated, "head fitted"]), fit)
        recalibrate_(batches.model, norms, batches.contents)
        prediction.copy_statistics_()
    return report.with_data("; ".join([*recalibrated, f"no head fitted: {why_not}"]))


def left_out(prediction: Prediction) -> dict[str, str]:
    """Dotted names of what the caller's patterns leave out → by which."""
    return {name: reason for name, reason in prediction.kept.items() if reason in (EXCLUDED, NOT_AMONG_ONLY)}


def norms_to_set(prediction: Prediction, inner: nn.Module, stay: Iterable[str]) -> list[nn.Module]:
    """What of the model inside of wrappers gets the statistics of data; `stay` are names of parameters that are left out."""
    _, prefix = unwrap(prediction.model)

    def inside(names: Iterable[str]) -> set[str]:
        return {f"{name}.".removeprefix(prefix).removesuffix(".") for name in names}  # the model itself is ""

    return unfrozen_norms(inner, inside(prediction.slots), inside(prediction.called), inside(stay))


def without_head(report: Report, why: str) -> Report:
    """The report, where heads that were left to the fit say why they keep their values; the fit's own rows will say that."""
    heads = [row.name for row in report.rows if row.note == NO_HEAD]
    return report.with_reasons(dict.fromkeys(heads, f"classification head, {why}"))
