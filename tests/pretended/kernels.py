"""What operations of PyTorch do on CUDA: which wait for the device, and how many kernels each launches."""

from typing import Any

# Reads a value, or the size of its result.
WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount",
    "equal", "is_nonzero", "histc", "item", "allclose", "argwhere", "combinations",
}  # fmt: skip

# Takes the numbers of a tensor away to the host.
READS = {"_local_scalar_dense", "equal"}

# Launches nothing: views, and what only makes room or looks at shapes.
FREE = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "detach", "alias", "slice", "select", "split",
    "split_with_sizes", "unsqueeze", "squeeze", "as_strided", "unbind", "diagonal", "empty", "empty_like", "new_empty",
    "empty_strided", "new_empty_strided", "sym_size", "sym_numel", "sym_stride", "_reshape_alias", "reshape",
    "lift_fresh", "lift_fresh_copy", "resize_", "is_same_size", "set_", "_make_dual", "_fw_primal", "_unpack_dual",
    "view_as", "unfold", "result_type", "numel", "stride", "size", "_has_same_storage_numel", "unflatten",
    "tensor_split", "_new_zeros_with_same_feature_meta", "_efficientzerotensor",
}  # fmt: skip

# Takes a tensor of one number on the CPU for none on the GPU.
STRICT = {
    "stack", "cat", "index_select", "gather", "scatter", "scatter_add", "scatter_reduce", "index_add_", "addmm", "mm",
    "bmm", "linear",
}  # fmt: skip

# Where it is not one kernel. Convolutions as cuDNN does them, with a change of layout or type now and then.
_SEVERAL = {
    "convolution_backward": 3, "randperm": 6, "multinomial": 6, "sort": 4, "topk": 2, "native_batch_norm": 2,
    "native_batch_norm_backward": 2, "_euclidean_dist": 5, "cumsum": 2,
}  # fmt: skip

# How many tensors fit into one launch of an operation on lists of them.
_FUSED, _LISTS = 36, 60


def fused(name: str) -> bool:
    """Whether an operation is the step of a fused optimiser."""
    return name.startswith(("_fused_adam", "_fused_sgd"))


def kernels(name: str, args: Any) -> int:
    """How many kernels an operation launches, which may not be free."""
    if fused(name):
        return -(-len(args[0]) // _FUSED)
    if name.startswith("_foreach"):
        return -(-len(args[0]) // _LISTS)
    return _SEVERAL.get(name, 1)
