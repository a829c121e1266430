"""Published figures for devices, with their sources. The cost model is calibrated only on the iPhone 16 Pro Max."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pocketdit.config.errors import did_you_mean_or_all
from pocketdit.errors import ConfigError

# Figures that are used for all Neural Engines. Third parties measured them on Macs with the same kind of engine.
#
# ON_CHIP    Size in bytes above which the tensors of an operation are streamed through memory (M1;
#            ane-guide.readthedocs.io, part 3, chapter 9, "Roofline"). The measured transition is gradual (M4; maderix,
#            "Inside the M4 Apple Neural Engine, Part 2").
# SUSTAINED  Fraction of the peak that the convolutions of a deep graph reach (M4; same article by maderix).
# PRODUCTS   Rate of products of two activations, relative to convolutions: 10.2 and 18.8 TFLOP/s (M5 Pro; measured by
#            aneforge, quoted in github.com/aosama/astronomical, issue 540).
# DISPATCH   Time to start a program in seconds (M1; chapter 9 of the same guide; 0.1 ms on the M4).
ON_CHIP = 2 * 2**20
SUSTAINED = 0.94
PRODUCTS = 10.2 / 18.8
DISPATCH = 0.23e-3


@dataclass(frozen=True)
class Device:
    """A device with a Neural Engine, or a device whose speed relative to such a device is known.

    Attributes:
        name: Name on the command line.
        title: Name in tables and plots.
        peak: Peak of the Neural Engine in fp16 FLOP/s. From the A17 on, this is half of Apple's TOPS figure, which
            counts int8 operations (M4: 38 TOPS are 19 TFLOP/s in fp16; maderix).
        memory: Nominal memory bandwidth in bytes/s.
        gpu: Peak of the GPU in fp32 FLOP/s, for operations outside the engine.
        cache: Size of the system-level cache in bytes.
        speed: Factor by which the device is faster than ``peak``, ``memory`` and ``gpu`` imply. It differs from 1 only
            for devices that are described by another device's figures and the ratio of two published latencies.
        formats: Names of the bundle formats that run on the device (see ``formats.FORMATS``).
        calibrated: Whether the cost model was fitted to measurements on this device. For other devices, the figures
            above are used to extrapolate.
    """

    name: str
    title: str
    peak: float
    memory: float
    gpu: float
    cache: float
    speed: float = 1.0
    formats: tuple[str, ...] = ("coreml", "coreai")
    calibrated: bool = False


# Sources of the figures:
#
# peak    Apple's announcements.
# memory  LPDDR5X-7500, LPDDR5-6400 and LPDDR4X-4266 with a bus of 64 bits in iPhones and 128 bits in Macs. Apple states
#         68 GB/s for the M1, 100 GB/s for the M2 and M3, and 120 GB/s for the M4.
# gpu     Number of cores x 256 FLOP per cycle x clock rate (about 1.3 to 1.6 GHz).
# cache   Wikipedia's articles on the A14 to A18 and the M1. The cache sizes of the M2 to M4 are not published, so they
#         are assumed to be the same as in the M1.
#
# The A19, A19 Pro and M5 are missing, because Apple has not published the rates of their Neural Engines.
APPLE = (
    Device("iphone16promax", "iPhone 16 Pro Max (A18 Pro)", 17.5e12, 60e9, 2.2e12, 24e6, calibrated=True),
    Device("iphone16pro", "iPhone 16 Pro (A18 Pro)", 17.5e12, 60e9, 2.2e12, 24e6),
    Device("iphone16", "iPhone 16 (A18)", 17.5e12, 60e9, 1.9e12, 12e6),
    Device("iphone15pro", "iPhone 15 Pro (A17 Pro)", 17.5e12, 51.2e9, 2.1e12, 24e6),
    Device("iphone14pro", "iPhone 14 Pro (A16)", 17.0e12, 51.2e9, 1.8e12, 24e6),
    Device("iphone13pro", "iPhone 13 Pro (A15)", 15.8e12, 34.1e9, 1.5e12, 32e6),
    Device("iphone12pro", "iPhone 12 Pro (A14)", 11.0e12, 34.1e9, 1.1e12, 16e6),
    Device("mac_m1", "Mac with M1", 11.0e12, 68e9, 2.6e12, 8e6),
    Device("mac_m2", "Mac with M2", 15.8e12, 100e9, 3.6e12, 8e6),
    Device("mac_m3", "Mac with M3", 18.0e12, 100e9, 4.1e12, 8e6),
    Device("mac_m4", "Mac with M4", 19.0e12, 120e9, 3.7e12, 8e6),
)
# Qualcomm does not publish the fp16 rate of its neural processors, so a Snapdragon is described by the iPhone 14 Pro
# and the ratio of two published latencies of Stable Diffusion 2.1's U-Net at 512x512 pixels:
#
# - iPhone 14 Pro Max: 2.69 steps with guidance per second, which is 186 ms per evaluation (apple/ml-stable-diffusion,
#   README.md, "Performance Benchmarks"; fp16 on the Neural Engine).
# - Snapdragons: 68.3, 54.9 and 42.6 ms per evaluation (quic/ai-hub-models, models/stable_diffusion_v2_1/perf.yaml;
#   8-bit weights and 16-bit activations on the neural processor, QNN). A LiteRT file in fp16 is likely to be slower.
_UNET_ON_IPHONE_14_PRO = 1000 / 2.69 / 2
_SNAPDRAGONS = {
    "snapdragon8gen3": ("Snapdragon 8 Gen 3", 68.335),
    "snapdragon8elite": ("Snapdragon 8 Elite", 54.913),
    "snapdragon8elitegen5": ("Snapdragon 8 Elite Gen 5", 42.594),
}


def _snapdragons() -> Iterator[Device]:
    reference = next(device for device in APPLE if device.name == "iphone14pro")
    for name, (title, milliseconds) in _SNAPDRAGONS.items():
        speed = _UNET_ON_IPHONE_14_PRO / milliseconds
        yield replace(reference, name=name, title=title, speed=speed, formats=("litert",))


DEVICES = {device.name: device for device in (*APPLE, *_snapdragons())}


def find_device(name: str) -> Device:
    """Look up a device by name.

    Raises:
        ConfigError: The device is unknown.
    """
    if name not in DEVICES:
        raise ConfigError(f"device={name}: unknown device{did_you_mean_or_all(name, DEVICES)}")
    return DEVICES[name]
