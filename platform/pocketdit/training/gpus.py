"""Data-sheet figures of GPUs, and the fractions of them that kernels reach, for predicting step times without a GPU."""

from dataclasses import dataclass

# Assumptions that are the same for all GPUs:
#
# BANDWIDTH  Fraction of the memory bandwidth that elementwise kernels reach.
# LAUNCH     Time that the CPU needs to launch a kernel in PyTorch's eager mode, in seconds. torch.compile needs fewer
#            launches.
BANDWIDTH = 0.85
LAUNCH = 6e-6


@dataclass(frozen=True)
class Gpu:
    """Performance figures of a GPU in a node with eight GPUs.

    Attributes:
        name: Name shown in tables. The name that torch reports contains it.
        peak: Peak dense bf16 FLOP/s with fp32 accumulation.
        bandwidth: Memory bandwidth in bytes/s.
        memory: Memory size in bytes.
        link: Bandwidth to the other GPUs of the node in bytes/s, in each direction.
        network: Bandwidth to other nodes per GPU in bytes/s, in each direction.
        products: Fraction of ``peak`` that matrix products reach.
        attention: Fraction of ``peak`` that PyTorch's FlashAttention reaches.
    """

    name: str
    peak: float
    bandwidth: float
    memory: float
    link: float
    network: float
    products: float
    attention: float


# Sources of the figures:
#
# peak, bandwidth, memory, link
#            NVIDIA's data sheets (H100 SXM, H200 SXM, A100 80GB SXM) and, for the RTX 4090, the white paper of the Ada
#            architecture. The link is NVLink or, for the RTX 4090, PCIe 4.0 x16.
# network    400 Gbit/s per GPU in NVIDIA's DGX H100 and H200, and 200 Gbit/s in the DGX A100. For the RTX 4090, we
#            assume one 100 Gbit/s network card per node.
# products   The largest fraction measured for any shape (S. Bekman, "Machine Learning Engineering", maximum achievable
#            matmul FLOPS): 80.3% (H100), 86.9% (A100). We assume the H100's figure for the other two GPUs.
# attention  FlashAttention-2 reaches 35% on an H100 (arXiv 2407.08608) and 50 to 73% on an A100 (arXiv 2307.08691). We
#            assume the lower figures, because our heads of 32 channels are slower than the heads of 64 or 128 channels
#            that these papers measured.
GPUS = (
    Gpu("H100", 989e12, 3.35e12, 80e9, 450e9, 50e9, 0.80, 0.35),
    Gpu("H200", 989e12, 4.8e12, 141e9, 450e9, 50e9, 0.80, 0.35),
    Gpu("A100", 312e12, 2.039e12, 80e9, 300e9, 25e9, 0.87, 0.50),
    Gpu("RTX 4090", 165.2e12, 1.008e12, 24e9, 31.5e9, 1.56e9, 0.80, 0.50),
)


def find_gpu(name: str) -> Gpu | None:
    """Return the figures for a GPU name reported by torch, or None if the GPU is not listed."""
    return next((gpu for gpu in GPUS if gpu.name in name), None)
