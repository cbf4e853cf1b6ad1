"""Operators by what they leave of a parameter or of a stream, for those without a rule."""

from __future__ import annotations

_SAME = """
view reshape unsqueeze squeeze expand expand_as select slice unbind split split_with_sizes chunk narrow t transpose permute
swapaxes movedim numpy_T mT contiguous clone to _to_copy detach alias view_as _reshape_alias unsafe_chunk unsafe_split
_unsafe_view lift_fresh type_as repeat tile index index_select gather take flip roll where tril triu masked_fill add sub rsub
mul multiply div true_divide neg cat concat concatenate stack hstack vstack dropout copy addcmul addcdiv lerp batch_norm
layer_norm native_layer_norm native_batch_norm rms_norm group_norm constant_pad_nd pad diagonal as_strided positive
"""
SAME = frozenset(_SAME.split())
"""Operations on parameters that leave what they are: views, casts, sums and products with others."""

FRESH = (
    *("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like"),
    *("rand_like", "randn_like"),
)
"""Operations that take no more than the shape from their operand."""

BOUNDED = frozenset(
    {"sin", "cos", "tanh", "sigmoid", "softmax", "log_softmax", "sign", "erf", "clamp", "hardtanh", "hardsigmoid"}
)
"""Functions after which a constant of their argument is no factor of the stream."""
