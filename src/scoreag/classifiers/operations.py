"""What a program of torch.export may do here: pure tensor operations, by name; all else is refused.

None of them reads or writes a file, calls Python, or draws random numbers.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

PURE = """
conv1d conv2d conv3d convolution conv_transpose2d linear addmm mm bmm matmul baddbmm einsum
batch_norm native_batch_norm _native_batch_norm_legit_no_training group_norm native_group_norm
layer_norm native_layer_norm instance_norm rms_norm local_response_norm
relu relu_ relu6 relu6_ gelu gelu_ silu silu_ sigmoid sigmoid_ tanh tanh_ hardtanh hardtanh_
hardswish hardswish_ hardsigmoid hardsigmoid_ leaky_relu leaky_relu_ elu elu_ celu celu_ selu
selu_ mish mish_ prelu softplus softmax _softmax log_softmax _log_softmax log_sigmoid glu erf
threshold softsign
max_pool1d max_pool2d max_pool2d_with_indices avg_pool1d avg_pool2d adaptive_avg_pool1d
adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d
add add_ sub sub_ mul mul_ div div_ rsub neg pow sqrt rsqrt reciprocal exp expm1 log log1p abs
clamp clamp_ clamp_min clamp_max minimum maximum sin cos square addcmul addcdiv lerp
sum mean var var_mean std std_mean amax amin max min prod argmax argmin cumsum norm
linalg_vector_norm linalg_norm logsumexp floor ceil round trunc sign
where eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not
view reshape _unsafe_view _reshape_alias flatten unflatten permute transpose t numpy_T mT
contiguous clone expand expand_as broadcast_to squeeze unsqueeze cat concat stack split
split_with_sizes tensor_split chunk unbind select slice narrow roll flip pad constant_pad_nd
reflection_pad2d replication_pad2d index index_select gather masked_fill masked_fill_ repeat
repeat_interleave unfold im2col pixel_shuffle pixel_unshuffle channel_shuffle movedim swapaxes
upsample_nearest2d upsample_bilinear2d upsample_bicubic2d tril triu lift_fresh_copy detach
detach_ alias to _to_copy type_as full zeros ones zeros_like ones_like full_like new_zeros
new_ones new_full arange scalar_tensor embedding dropout dropout_ feature_dropout alpha_dropout
scaled_dot_product_attention sym_size sym_numel
"""
CHECKS = "_assert_scalar _assert_async _assert_tensor_metadata sym_constrain_range"
SIZES = "add sub mul floordiv truediv mod neg eq ne lt le gt ge and_ or_ getitem"
ATEN, IDLE, NUMBERS = (frozenset(words.split()) for words in (PURE, CHECKS, SIZES))


def operation(target: str) -> Callable[..., Any] | None:
    """The function of a node's target, e.g. "torch.ops.aten.relu.default"; None: it does nothing.

    Raises:
        ValueError: it is none of those that are run.
    """
    kind, _, name = target.removeprefix("torch.ops.").partition(".")
    packet, _, overload = name.partition(".")
    if target == f"_operator.{name}" and name in NUMBERS:
        counted: Callable[..., Any] = getattr(operator, name)
        return counted
    if kind == "aten" and packet in IDLE:
        return None
    if kind != "aten" or packet not in ATEN or not target.startswith("torch.ops."):
        raise ValueError(
            f"it asks for {target!r:.80}, which is not among the operations that are run; "
            "give the classifier as package.module:factory"
        )
    found = getattr(getattr(torch.ops.aten, packet), overload, None)
    if found is None:
        raise ValueError(f"it asks for {target!r:.80}, which this torch does not have")
    return _written_out(found) if packet == "scaled_dot_product_attention" else found


def _written_out(attention: Callable[..., Any]) -> Callable[..., Any]:
    """Fused kernels of attention have no second derivative."""

    def plain(*given: Any, **named: Any) -> Any:
        with sdpa_kernel(SDPBackend.MATH):
            return attention(*given, **named)

    return plain
