"""The strongest form of every peer, by what a case computes.

Preparation gets float32 states and queries and lays them out as the peer likes best, all of that untimed: states are
centred, and beta is multiplied into the queries.
"""

from contest import Entry

from peers import covariance, mean, response, step, trajectory

PEERS: dict[str, tuple[Entry, ...]] = {
    "mean": (
        Entry("chunked torch", ("mean", "log_evidence"), mean.chunked),
        Entry("torch.compile", ("mean", "log_evidence"), mean.compiled, compiles=True),
        Entry("scaled_dot_product_attention", ("mean",), mean.attention),
        Entry("KeOps", ("mean",), mean.keops, compiles=True),
        Entry("FlexAttention", ("mean", "log_evidence"), mean.flex_attention, compiles=True, devices=("cuda",)),
        Entry("chunked torch, graph", ("mean", "log_evidence"), mean.graphed, devices=("cuda",)),
        Entry("chunked torch, tf32", ("mean", "log_evidence"), mean.tf32, devices=("cuda",)),
        Entry("KernelDensity", ("log_evidence",), mean.kernel_density, devices=("cpu",)),
    ),
    "covariance": (
        Entry("per-query loop", ("covariance",), covariance.loop),
        Entry("einsum", ("covariance",), covariance.einsum),
        Entry("batched matmul", ("covariance",), covariance.batched),
        Entry("product with all y_i y_j", ("covariance",), covariance.khatri_rao),
    ),
    "response": (
        Entry("chunked torch", ("response",), response.chunked),
        Entry("torch.compile", ("response",), response.compiled, compiles=True),
    ),
    "step": (
        Entry("torch", ("sample",), step.eager),
        Entry("torch.compile", ("sample",), step.compiled, compiles=True),
        Entry("torchsde", ("sample",), step.torchsde),
        Entry("torch.randn alone", (), step.noise_alone),
    ),
    "trajectory": (
        Entry("chunked torch", ("sample",), trajectory.eager),
        Entry("torch.compile", ("sample",), trajectory.compiled, compiles=True),
    ),
}
